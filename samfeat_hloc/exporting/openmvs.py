"""For OpenMVS: the workspace of undistorted photographs that its own importer, InterfaceCOLMAP, reads.

The model is text: older versions of the importer read nothing else. They split its lines at white space, so that spaces
in names become underscores.
"""

from __future__ import annotations

from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.exporting.folder import ExportFolder
from samfeat_hloc.exporting.undistort import write_undistorted
from samfeat_hloc.exporting.workspace import write_model

MODEL = "sparse"


def export(
    model: pycolmap.Reconstruction, images: Path, folder: ExportFolder, max_image_size: int | None = None
) -> list[str]:
    """Write the workspace.

    Returns:
        what to do next, one line each.
    """
    write_undistorted(model, images, folder, max_image_size=max_image_size, rename=lambda name: "_".join(name.split()))
    write_model(model, folder.root / MODEL, text=True)
    scene = folder.root / "scene.mvs"
    return [f"make {scene} with: InterfaceCOLMAP -i {folder.root}", f"go on with: DensifyPointCloud {scene}"]
