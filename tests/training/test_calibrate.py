"""Calibration: as many keypoints pass as with other weights, and nothing else changes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import samfeat_hloc
from samfeat_hloc.checkpoints import load_weights, save_weights
from samfeat_hloc.errors import ConfigError, InputError
from tests.training.photographs import facade, write_facades
from tests.training.runs import runtime
from training.calibrate import add, calibrate, constant_between, main
from training.config import PhotometricConfig, TrainingConfig
from training.presets import read_config
from training.records import SourceConfig

WEIGHTS = "samfeat-photos-8"


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    source = SourceConfig("photos", str(write_facades(tmp_path / "photos")))
    return TrainingConfig(sources=(source,), output=str(tmp_path), pairs=2, size=128, points=50, labeller="not there")


@pytest.fixture
def unsure(tmp_path: Path) -> Path:
    """The same weights, all their logits 0.7 lower."""
    weights = load_weights(WEIGHTS)
    model = weights.build()
    add(model, -0.7)
    save_weights(tmp_path / "unsure.safetensors", model, dict(weights.metadata))
    return tmp_path / "unsure.safetensors"


def test_a_constant_is_added_to_logits_and_to_nothing_else() -> None:
    model, images = load_weights(WEIGHTS).build(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(images)
        add(model, -0.7)
        after = model(images)
    torch.testing.assert_close(after.logits, before.logits - 0.7, atol=1e-4, rtol=0)
    assert torch.equal(after.descriptors, before.descriptors) and torch.equal(after.edges, before.edges)


def test_the_constant_lets_as_many_pass() -> None:
    generator = np.random.default_rng(0)
    mine, others = (torch.from_numpy(generator.normal(mean, 2, 5000)) for mean in (-1.0, 0.5))
    constant, bar = constant_between(mine, others, 0.7), math.log(0.7 / 0.3)
    assert int((mine + constant >= bar).sum()) == int((others >= bar).sum()) > 1000
    assert constant_between(others, others, 0.7) == pytest.approx(0, abs=0.05)
    for few in (others[:50], others - 100):
        with pytest.raises(InputError, match="expected at least 100"):
            constant_between(mine, few, 0.7)
    with pytest.raises(InputError, match="the others have 300 in all"):
        constant_between(mine[:300], others, 0.7)


def test_weights_that_are_less_sure_find_as_many_keypoints_again(
    config: TrainingConfig, unsure: Path, tmp_path: Path
) -> None:
    path = calibrate(str(unsure), WEIGHTS, config, 6, runtime(), tmp_path / "sure.safetensors")
    described = json.loads(load_weights(path).metadata["calibrated"])
    assert described["constant"] == pytest.approx(0.7, abs=0.02)
    assert described["of"][0] == "unsure" and described["like"][0] == WEIGHTS
    image = facade(7, 160, 200)
    lost, again, wanted = (samfeat_hloc.extract(image, weights=str(name)) for name in (unsure, path, WEIGHTS))
    assert len(lost.keypoints) < 0.9 * len(wanted.keypoints)
    assert len(again.keypoints) == pytest.approx(len(wanted.keypoints), rel=0.02)


def test_crops_are_looked_at_as_they_are(config: TrainingConfig, tmp_path: Path) -> None:
    """Other photometric changes, other weights to be like: the constant is that of the crops with none."""
    constants = []
    for photometric in (config.photometric, PhotometricConfig(1.5, night=1.0)):
        changed = replace(config, photometric=photometric)
        path = calibrate(WEIGHTS, "samfeat-photos-5", changed, 3, runtime(), tmp_path / "sure.safetensors")
        constants.append(json.loads(load_weights(path).metadata["calibrated"])["constant"])
    assert constants[0] == constants[1] != 0


def test_command(config: TrainingConfig, unsure: Path, tmp_path: Path) -> None:
    """A preset with a labeller and a distilled detector gives the crops, too."""
    assert read_config("photos-10").losses.detector == "distilled"
    main([
        "photos-10", "--weights", str(unsure), "--like", WEIGHTS,
        "--output", str(tmp_path / "out" / "sure.safetensors"),
        "--source", f"kind=photos,path={config.sources[0].path}", "--batches", "6", "--device", "cpu",
        "--precision", "float32", "--set", "pairs=2", "size=128", "points=50",
    ])  # fmt: skip
    described = json.loads(load_weights(tmp_path / "out" / "sure.safetensors").metadata["calibrated"])
    assert described["constant"] == pytest.approx(0.7, abs=0.02)
    assert (described["batches"], described["seed"]) == (6, read_config("photos-10").seed)


def test_bad_input(config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batches is 0"):
        calibrate(WEIGHTS, WEIGHTS, config, 0, runtime(), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="no-such-weights"):
        calibrate(WEIGHTS, "no-such-weights", config, 1, runtime(), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="is a folder; give the path of a file"):
        calibrate(WEIGHTS, WEIGHTS, config, 1, runtime(), tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
