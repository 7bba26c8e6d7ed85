"""A run that was interrupted, killed or is there already goes on, and to the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import InputError
from tests.training.runs import EVERY_LOSS, arguments, log, runtime, stop_at
from training.config import TrainingConfig
from training.team import Team
from training.train import main
from training.trainer import Trainer


@pytest.mark.parametrize("log_every", [1, 4])
def test_interrupted_and_resumed_equals_uninterrupted(config: TrainingConfig, tmp_path: Path, log_every: int) -> None:
    config = replace(config, checkpoint_minutes=1e-9, log_every=log_every, steps=8)  # a checkpoint after every step
    whole = replace(config, output=str(tmp_path / "whole"))
    weights = load_weights(Trainer(whole, runtime()).run())
    assert set(log(whole)[0]) == {"step", "lr", "points_used", *EVERY_LOSS}

    with pytest.raises(KeyboardInterrupt):
        stop_at(Trainer(config, runtime()), 3).run()
    resumed = Trainer(config, runtime())
    resumed.resume()
    assert resumed.step == 3
    again = load_weights(resumed.run())
    assert int(again.metadata["steps"]) == 8
    assert all(torch.equal(again.state[key], weights.state[key]) for key in weights.state)
    assert log(config) == log(whole)


def test_chapters_are_resumed_in_the_middle(config: TrainingConfig, tmp_path: Path) -> None:
    config = replace(config, checkpoint_minutes=1e-9, resident_views=2, chapter_steps=2)
    whole = replace(config, output=str(tmp_path / "whole"))
    Trainer(whole, runtime()).run()
    with pytest.raises(KeyboardInterrupt):
        stop_at(Trainer(config, runtime()), 3).run()
    resumed = Trainer(config, runtime())
    resumed.resume()
    resumed.run()
    assert log(config) == log(whole)


def test_killed_run_goes_on_to_the_curve_of_an_uninterrupted_one(config: TrainingConfig, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.train", *arguments(config), "steps=25"]
    state = Path(config.output) / "state.pt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if state.is_file() and state.stat().st_mtime < time.time() - 0.2:
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    subprocess.run(command, check=True, capture_output=True)
    whole = replace(config, output=str(tmp_path / "whole"))
    command[command.index(config.output)] = whole.output
    subprocess.run(command, check=True, capture_output=True)
    assert len(log(whole)) == 25
    assert log(config) == log(whole)
    assert not list(Path(config.output).glob("*.tmp"))


def test_resume_refuses_another_configuration_and_nothing(config: TrainingConfig) -> None:
    trainer = Trainer(config, runtime())
    with pytest.raises(InputError, match="nothing to resume"):
        trainer.resume()
    trainer.run()
    with pytest.raises(InputError, match="another points"):
        Trainer(replace(config, points=41), runtime()).resume()
    with pytest.raises(InputError, match="made by 1 processes, these are 2"):
        Trainer(config, runtime(), Team(0, 2)).resume()


def test_a_run_that_is_there_goes_on_unless_it_is_overwritten(config: TrainingConfig) -> None:
    given = [*arguments(config), "steps=2"]
    main(given)
    before = log(config)
    main(given)  # the same command again: finished, nothing to do
    assert log(config) == before
    with pytest.raises(InputError, match=r"another steps; .* --overwrite"):
        main([*given, "steps=3"])
    assert log(config) == before
    main([*given, "steps=3", "--overwrite"])
    assert [line["step"] for line in log(config)] == [1, 2, 3]
