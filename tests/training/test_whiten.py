"""Whitening: the covariance of what true matches differ by, its inverse root, and that root inside the last layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samfeat_hloc.checkpoints import load_weights, save_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors import get_extractor
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.sampling import sample
from tests.training.photographs import smooth_photo, write_photos
from tests.training.runs import runtime
from training.config import TrainingConfig
from training.feed import Feed
from training.records import SourceConfig
from training.team import join_team
from training.whiten import covariance_of_differences, fold, main, whiten, whitening

WEIGHTS = "samfeat-photos-2"


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    source = SourceConfig("photos", str(write_photos(tmp_path / "photos")))
    return TrainingConfig(sources=(source,), output=str(tmp_path), pairs=2, size=128, points=300, labeller="not there")


def feed(config: TrainingConfig) -> Feed:
    return Feed(replace(config, labeller=None), torch.device("cpu"), join_team())


def arguments(config: TrainingConfig, output: Path, *more: str) -> list[str]:
    return [
        "photos-4", "--weights", WEIGHTS, "--source", f"kind=photos,path={config.sources[0].path}",
        "--output", str(output), "--batches", "12", "--device", "cpu", "--precision", "float32",
        "--set", "pairs=2", "size=128", "points=300", *more,
    ]  # fmt: skip


def test_covariance_is_that_of_the_true_matches(config: TrainingConfig) -> None:
    model = load_weights(WEIGHTS).build()
    found, count = covariance_of_differences(model, feed(config), 12, runtime())
    differences, same = [], feed(config)
    for step in range(12):
        batch = same.draw(step)
        with torch.inference_mode():
            maps = [model(images * 2 - 1).descriptors for images in batch.images]
        first, second = (
            F.normalize(sample(map_, points, (128, 128), "exact"), dim=-1)
            for map_, points in zip(maps, batch.points, strict=True)
        )
        differences.append((first - second)[batch.valid].double())
    every = torch.cat(differences)
    assert count == len(every) > 2560
    torch.testing.assert_close(found, every.T @ every / (2 * count), rtol=1e-4, atol=1e-7)


def test_whitening_makes_every_direction_alike() -> None:
    values = np.random.default_rng(0).normal(size=(500, 8)) * np.linspace(0.1, 3, 8)
    covariance = torch.from_numpy(values.T @ values / 500)
    root = whitening(covariance, floor=0.0)
    white = root @ covariance @ root.T
    torch.testing.assert_close(white, white[0, 0] * torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(root.norm(), torch.eye(8).double().norm())
    floored = whitening(covariance, floor=0.1)
    assert torch.linalg.cond(floored) < (1.1 / 0.1) ** 0.5 + 1e-6 < torch.linalg.cond(root)


def test_folded_network_gives_transformed_descriptors_and_the_same_keypoints() -> None:
    model, image = load_weights(WEIGHTS).build(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    transform = torch.randn(128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = model(image)
        fold(model, transform)
        after = model(image)
    expected = torch.einsum("pc,bchw->bphw", transform.float(), before.descriptors)
    torch.testing.assert_close(after.descriptors, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(after.logits, before.logits)


def test_command_writes_weights_that_say_where_they_come_from(config: TrainingConfig, tmp_path: Path) -> None:
    outputs = [tmp_path / "a" / "white.safetensors", tmp_path / "b" / "white.safetensors"]
    for output in outputs:
        main(arguments(config, output, "seed=5", "labeller=samfeat-photos-1"))
    first, again, before = load_weights(outputs[0]), load_weights(outputs[1]), load_weights(WEIGHTS)
    changed = {name for name, value in first.state.items() if not torch.equal(value, before.state[name])}
    assert changed == {"conv_des.weight", "conv_des.bias"}
    assert all(torch.equal(value, again.state[name]) for name, value in first.state.items())
    whitened = json.loads(first.metadata["whitened"])
    assert whitened["of"] == [WEIGHTS, before.sha256]
    assert whitened["matches"] > 2560 and whitened["batches"] == 12 and whitened["seed"] == 5
    assert first.metadata["average"] == before.metadata["average"]
    assert first.architecture == before.architecture


def test_differences_of_whitened_descriptors_are_alike_in_every_direction(
    config: TrainingConfig, tmp_path: Path
) -> None:
    output = whiten(WEIGHTS, config, 12, runtime(), tmp_path / "white.safetensors")
    spreads = []
    for weights in (WEIGHTS, str(output)):
        covariance, _ = covariance_of_differences(load_weights(weights).build(), feed(config), 12, runtime())
        values = torch.linalg.eigvalsh(covariance)
        spreads.append(float(values.sum() ** 2 / (values**2).sum()))  # directions that take part, 128 at most
    assert spreads[1] > 1.3 * spreads[0]


def test_extractor_runs_them(config: TrainingConfig, tmp_path: Path) -> None:
    output = whiten(WEIGHTS, config, 12, runtime(), tmp_path / "white.safetensors")
    photo = smooth_photo(3, 160, 200)
    before, after = (
        get_extractor("samfeat", weights=name, precision="float32")(photo) for name in (WEIGHTS, str(output))
    )
    np.testing.assert_array_equal(before.keypoints, after.keypoints)
    assert np.abs(before.descriptors - after.descriptors).max() > 0.01


def test_what_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    output = tmp_path / "white.safetensors"
    with pytest.raises(ConfigError, match="batches is 0"):
        whiten(WEIGHTS, config, 0, runtime(), output)
    with pytest.raises(InputError, match="true matches; expected at least 2560"):
        whiten(WEIGHTS, config, 1, runtime(), output)
    with pytest.raises(InputError, match="no weights called nowhere"):
        whiten("nowhere", config, 12, runtime(), output)
    broken = SAMFeat()
    with torch.no_grad():
        broken.conv_des.bias.fill_(float("nan"))  # type: ignore[union-attr]
    save_weights(tmp_path / "nan.safetensors", broken, {})
    with pytest.raises(InputError, match="not finite"):
        whiten(str(tmp_path / "nan.safetensors"), config, 1, runtime(), output)
    with pytest.raises(InputError, match="do not differ at all"):
        whitening(torch.zeros(4, 4, dtype=torch.float64))
    gone = replace(config, sources=(SourceConfig("photos", str(tmp_path / "gone")),))
    with pytest.raises(InputError, match="gone"):
        whiten(WEIGHTS, gone, 12, runtime(), output)
    with pytest.raises(InputError, match="is a folder"):
        whiten(WEIGHTS, config, 12, runtime(), tmp_path)
    assert not output.exists()
