"""Models as a mapper left them, so that a run that is stopped in the last adjustment does not map again."""

from __future__ import annotations

from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.stage_folder import MAPPED_NAME


def mark_mapped(folder: Path) -> None:
    """Say that all models of FOLDER/models are what mapping ends with."""
    (folder / MAPPED_NAME).touch()


def is_mapped(folder: Path) -> bool:
    """Whether mapping ended, with models that are still there."""
    return (folder / MAPPED_NAME).exists() and any((folder / "models").glob("*"))


def read_mapped(folder: Path) -> list[pycolmap.Reconstruction]:
    """All models, in COLMAP's order."""
    return [read_model(path) for path in sorted((folder / "models").iterdir(), key=lambda path: int(path.name))]
