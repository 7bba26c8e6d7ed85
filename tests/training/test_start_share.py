"""Weights that keep a part of what the run began from: training.average's mean, validated as they are written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.model import SAMFeat
from tests.training.runs import homography_sequence, runtime
from training.average import average
from training.config import TrainingConfig
from training.trainer import Trainer
from training.validation import matching_accuracy


@pytest.fixture
def fine_tuning(config: TrainingConfig, tmp_path: Path) -> TrainingConfig:
    """Two steps from weights of one step, as far from each other as a high rate takes them."""
    start = Trainer(replace(config, steps=1, output=str(tmp_path / "start")), runtime()).run()
    return replace(config, weights=str(start), steps=2, learning_rate=1e-2, warmup_steps=1, seed=7)


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path).state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_part_of_the_start_is_the_mean_that_average_writes(fine_tuning: TrainingConfig, tmp_path: Path) -> None:
    assert fine_tuning.weights is not None
    end = Trainer(fine_tuning, runtime()).run()
    mean = average(fine_tuning.weights, str(end), 0.75, tmp_path / "mean.safetensors")
    shared = Trainer(replace(fine_tuning, output=str(tmp_path / "shared"), start_share=0.25), runtime()).run()
    assert same(state(shared), state(mean))
    assert not same(state(shared), state(end))
    assert not same(state(shared), state(Path(fine_tuning.weights)))


def test_a_finished_run_is_written_with_another_part_and_takes_no_step(fine_tuning: TrainingConfig) -> None:
    end = state(Trainer(fine_tuning, runtime()).run())
    again = Trainer(replace(fine_tuning, start_share=0.5), runtime())
    again.resume()
    again.train_step = None  # type: ignore[method-assign, assignment]
    half = state(again.run())
    begun = state(Path(str(fine_tuning.weights)))
    assert all(torch.allclose(half[name], (begun[name] + end[name]) / 2, atol=1e-6) for name in end)
    assert not same(half, end)


def test_what_is_validated_is_what_is_written(
    fine_tuning: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def accuracy(model: SAMFeat, *rest: object) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return matching_accuracy(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("training.trainer.matching_accuracy", accuracy)
    folder = homography_sequence(tmp_path / "sequences")
    config = replace(fine_tuning, start_share=0.9, validate_every=2, validation=(str(folder),))
    end = state(Trainer(config, runtime()).run())
    assert len(seen) == 1 and same(end, seen[0])
    assert same(end, state(Path(config.output) / "best.safetensors"))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_part_is_in_0_to_1(config: TrainingConfig, share: float) -> None:
    with pytest.raises(ConfigError, match=r"start_share is .*expected a part in \[0, 1\) of the weights"):
        replace(config, weights="samfeat-photos-6", start_share=share)


def test_a_run_from_scratch_has_no_start_to_keep(config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match=r"start_share is 0\.25 with weights=None; expected"):
        replace(config, start_share=0.25)
