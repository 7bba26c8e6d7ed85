"""For 3D Gaussian splatting: ``images/`` undistorted and ``sparse/0`` with PINHOLE cameras.

The original loader of Kerbl et al. (2023) looks for photographs by their base names in one folder, so names with
folders are written flat, as `a__b.jpg`. gsplat's and nerfstudio's own loaders read the same layout.
"""

from __future__ import annotations

from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.exporting.folder import ExportFolder
from samfeat_hloc.exporting.undistort import write_undistorted
from samfeat_hloc.exporting.workspace import write_model

MODEL = "sparse/0"


def export(
    model: pycolmap.Reconstruction, images: Path, folder: ExportFolder, max_image_size: int | None = None
) -> list[str]:
    """Write the workspace.

    Returns:
        what to do next, one line each.
    """
    write_undistorted(model, images, folder, max_image_size=max_image_size, rename=lambda name: name.replace("/", "__"))
    write_model(model, folder.root / MODEL)
    return [f"train with: python train.py -s {folder.root}"]
