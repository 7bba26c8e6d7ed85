"""Writing a COLMAP model into an export."""

from __future__ import annotations

import shutil
from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap


def write_model(model: pycolmap.Reconstruction, folder: Path, *, text: bool = False) -> None:
    """Write a model as .bin files, or .txt ones; the folder appears when it is complete."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if text:
        model.write_text(temporary)
    else:
        model.write_binary(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
