"""Training where little is installed, and by several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samfeat_hloc.checkpoints import load_weights
from tests.training.runs import arguments, log, runtime
from training.config import TrainingConfig
from training.pack import pack
from training.trainer import Trainer

BLOCKED = ("pycolmap", "segment_anything", "torchvision", "scipy", "faiss", "safetensors", "tensorboard", "matplotlib")


BARE = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))  # importing them fails as if they were not installed
from training.train import main
main({arguments!r})
"""


@pytest.mark.parametrize("also", ["cv2", "PIL"])
def test_trains_where_little_is_installed(config: TrainingConfig, photos: Path, tmp_path: Path, also: str) -> None:
    packed = pack(config.sources, tmp_path / "data.h5")  # what travels to such a machine
    given = arguments(config)
    given[2] = f"kind=pack,path={packed}"
    program = BARE.format(blocked=[*BLOCKED, also], arguments=[*given, "steps=2"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load_weights(Path(config.output) / "weights.pt").architecture == config.architecture


def run_team(command: Callable[[int], list[str]], size: int = 2) -> None:
    processes = []
    for rank in range(size):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        processes.append(subprocess.Popen(command(rank), env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def test_two_processes_train_one_network(config: TrainingConfig) -> None:
    command = [sys.executable, "-m", "training.train", *arguments(config)]
    run_team(lambda rank: [*command, "steps=3"])
    state = torch.load(Path(config.output) / "state.pt", weights_only=True)
    assert len(state["random"]) == 2
    assert not torch.equal(state["random"][0]["host"], state["random"][1]["host"])
    alone = replace(config, output=config.output + "-alone", steps=3)
    Trainer(alone, runtime()).run()
    assert log(config)[1]["loss"] != log(alone)[1]["loss"]  # the other process's gradient is in it
