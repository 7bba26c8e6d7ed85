"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real photographs (`SAMFEAT_SHARED`, else `../shared` beside the checkout); skips without it."""
    root = Path(os.environ.get("SAMFEAT_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real photographs in {root / 'data'}")
    return root / "data"
