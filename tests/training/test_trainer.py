"""The training loop: learns, resumes to the same weights, refuses what does not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
import torch

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.precision import Runtime, choose_runtime
from tests.training.test_pairs import smooth_photo
from training.config import TrainingConfig
from training.pairs import Pairs
from training.train import with_changes
from training.trainer import Trainer, learning_rate

SMALL = ["pairs=2", "size=64", "points=40", "log_every=1", "max_side=256"]


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        cv2.imwrite(str(photos / f"{index}.png"), smooth_photo(index, 160, 200))
    changes = ["steps=6", *SMALL]
    return with_changes(TrainingConfig(photos=(str(photos),), output=str(tmp_path / "run")), changes)


def runtime() -> Runtime:
    return choose_runtime("cpu", "float32")


def losses(config: TrainingConfig) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]


def test_interrupted_and_resumed_equals_uninterrupted(config: TrainingConfig, tmp_path: Path) -> None:
    config = replace(config, checkpoint_minutes=1e-9)  # a checkpoint after every step
    whole = replace(config, output=str(tmp_path / "whole"))
    Path(whole.output).mkdir()
    weights = load_weights(Trainer(whole, runtime()).run())

    Path(config.output).mkdir()
    trainer = Trainer(config, runtime())
    step = trainer.train_step

    def interrupted(pairs: Pairs) -> dict[str, float]:
        if trainer.step == 3:  # its batch is drawn already
            raise KeyboardInterrupt
        return step(pairs)

    trainer.train_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = Trainer(config, runtime())
    resumed.resume()
    assert resumed.step == 3
    again = load_weights(resumed.run())
    assert int(again.metadata["steps"]) == 6
    assert all(torch.equal(again.state[key], weights.state[key]) for key in weights.state)
    assert losses(config) == losses(whole)


def test_killed_run_resumes_from_its_checkpoint(config: TrainingConfig) -> None:
    changes = [*SMALL, "steps=400", "checkpoint_minutes=0.001"]
    where = ["--photos", *config.photos, "--output", config.output, "--device", "cpu", "--precision", "float32"]
    command = [sys.executable, "-m", "training.train", *where, "--set", *changes]
    state = Path(config.output) / "state.pt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if state.is_file() and state.stat().st_mtime < time.time() - 0.2:
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    same = with_changes(TrainingConfig(photos=config.photos, output=config.output), changes)
    trainer = Trainer(same, runtime())
    trainer.resume()
    assert trainer.step > 0
    assert not list(Path(config.output).glob("*.tmp"))


def test_loss_falls(config: TrainingConfig) -> None:
    config = replace(config, steps=30, learning_rate=2e-3, warmup_steps=5)
    Path(config.output).mkdir()
    Trainer(config, runtime()).run()
    values = losses(config)
    assert sum(values[-5:]) / 5 < 0.9 * sum(values[:5]) / 5


def test_resume_refuses_another_configuration_and_nothing(config: TrainingConfig) -> None:
    trainer = Trainer(config, runtime())
    with pytest.raises(InputError, match="nothing to resume"):
        trainer.resume()
    trainer.save()
    with pytest.raises(InputError, match="another points"):
        Trainer(replace(config, points=41), runtime()).resume()


def test_warm_start_takes_weights_and_checks_the_architecture(config: TrainingConfig) -> None:
    Path(config.output).mkdir()
    path = Trainer(replace(config, steps=1), runtime()).run()
    warm = Trainer(replace(config, weights=str(path)), runtime())
    assert torch.equal(warm.model.conv_des.weight, load_weights(path).state["conv_des.weight"])
    other = replace(config.architecture, attention="released")
    with pytest.raises(InputError, match="attention"):
        Trainer(replace(config, weights=str(path), architecture=other), runtime())


def test_schedule_warms_up_and_decays(config: TrainingConfig) -> None:
    config = replace(config, steps=100, warmup_steps=10)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(config.learning_rate / 10)
    assert max(rates) == pytest.approx(config.learning_rate)
    assert rates[-1] == pytest.approx(config.final_learning_rate)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_options_are_checked(config: TrainingConfig) -> None:
    assert with_changes(config, ["homography.scale=2.0", "steps=9"]).homography.scale == 2.0
    with pytest.raises(ConfigError, match="key=value"):
        with_changes(config, ["steps"])
    with pytest.raises(ConfigError, match="stpes"):
        with_changes(config, ["stpes=3"])
    with pytest.raises(ConfigError, match="multiple of 16"):
        with_changes(config, ["size=100"])
    with pytest.raises(ConfigError, match="no folder"):
        TrainingConfig(photos=("/does/not/exist",))
