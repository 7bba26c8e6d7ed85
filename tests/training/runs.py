"""What tests of training runs share: a runtime, the log, a stop, a command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
from torch import Tensor

from samfeat_hloc.precision import Runtime, choose_runtime
from tests.training.photographs import smooth_photo, write_photos
from training.batch import Batch
from training.config import PhotometricConfig, TrainingConfig
from training.records import SourceConfig
from training.trainer import Trainer

EVERY_LOSS = {"loss", "detector", "descriptor", "relations", "groups", "edges"}


def runtime() -> Runtime:
    return choose_runtime("cpu", "float32")


def labelled(folder: Path, labeller: str) -> TrainingConfig:
    """A short run on clean crops of three photographs, whose keypoints weights find."""
    source = SourceConfig("photos", str(write_photos(folder / "photos", 3, segmented=False)))
    return TrainingConfig(
        sources=(source,), output=str(folder / "run"), steps=3, pairs=2, size=96, points=40, log_every=1,
        tensorboard=False, photometric=PhotometricConfig(0.0, 0.0), labeller=labeller,
    )  # fmt: skip


def log(config: TrainingConfig) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = (Path(config.output) / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "pairs_per_s"} for line in lines]


def stop_at(trainer: Trainer, step: int) -> Trainer:
    """A Ctrl-C between drawing a batch and learning from it."""
    learn = trainer.train_step

    def interrupted(batch: Batch) -> dict[str, Tensor]:
        if trainer.step == step:
            raise KeyboardInterrupt
        return learn(batch)

    trainer.train_step = interrupted  # type: ignore[method-assign]
    return trainer


def arguments(config: TrainingConfig) -> list[str]:
    source = config.sources[0]
    changes = ["pairs=2", "size=64", "points=40", "log_every=1", "tensorboard=false", "checkpoint_minutes=0.02"]
    return [
        "photos", "--source", f"kind={source.kind},path={source.path},teacher={source.teacher}",
        "--output", config.output, "--device", "cpu", "--precision", "float32", "--set", *changes,
    ]  # fmt: skip


def homography_sequence(folder: Path) -> Path:

    sequence = folder / "v_moved"
    sequence.mkdir(parents=True)
    photo = smooth_photo(9, 150, 190)
    cv2.imwrite(str(sequence / "1.png"), photo[:140, :180])
    cv2.imwrite(str(sequence / "2.png"), photo[6:146, 8:188])
    (sequence / "H_1_2").write_text("1 0 -8\n0 1 -6\n0 0 1\n")
    return folder
