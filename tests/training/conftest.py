"""A run on three small photographs, for the tests that have none of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.photographs import write_photos
from training.config import TrainingConfig
from training.records import SourceConfig


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 3, segmented=True)


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> TrainingConfig:
    source = SourceConfig("photos", str(photos), teacher="segmentation")
    return TrainingConfig(
        sources=(source,), output=str(tmp_path / "run"), steps=6, pairs=2, size=64, points=40, log_every=1,
        tensorboard=False,
    )  # fmt: skip
