"""For nerfstudio: ``transforms.json`` with a camera a photograph, in OpenGL's convention, photographs and points.

Photographs are copied as they are where nerfstudio knows their camera model, all of one kind; otherwise all of them are
undistorted. The world is the model's own: nerfstudio turns and scales it itself, and transforms the points along.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.exporting.folder import ExportFolder, posed_images
from samfeat_hloc.exporting.points import POINTS, write_points
from samfeat_hloc.exporting.undistort import write_photograph, write_undistorted
from samfeat_hloc.viewing.model_scene import scene_from_model

TRANSFORMS = "transforms.json"
OPENGL_FROM_COLMAP = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes: OpenGL has y up and looks along -z, COLMAP has y down and looks along z."""

POLYNOMIAL, FISHEYE = "OPENCV", "OPENCV_FISHEYE"
KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": (POLYNOMIAL, ("f", "cx", "cy")),
    "PINHOLE": (POLYNOMIAL, ("fl_x", "fl_y", "cx", "cy")),
    "SIMPLE_RADIAL": (POLYNOMIAL, ("f", "cx", "cy", "k1")),
    "RADIAL": (POLYNOMIAL, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": (POLYNOMIAL, ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")),
    "SIMPLE_RADIAL_FISHEYE": (FISHEYE, ("f", "cx", "cy", "k1")),
    "RADIAL_FISHEYE": (FISHEYE, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV_FISHEYE": (FISHEYE, ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4")),
}
"""COLMAP's model -> nerfstudio's, and the names of COLMAP's parameters in their order."""
COEFFICIENTS = {POLYNOMIAL: ("k1", "k2", "p1", "p2"), FISHEYE: ("k1", "k2", "k3", "k4")}


def intrinsics(camera: pycolmap.Camera) -> dict[str, float | int]:
    """A camera of a known model in nerfstudio's terms: ``w h fl_x fl_y cx cy`` and the coefficients."""
    kind, names = KNOWN[camera.model_name]
    values = dict(zip(names, (float(value) for value in camera.params), strict=True))
    if "f" in values:
        values["fl_x"] = values["fl_y"] = values.pop("f")
    found: dict[str, float | int] = {"w": camera.width, "h": camera.height}
    found |= {name: values[name] for name in ("fl_x", "fl_y", "cx", "cy")}
    return found | {name: values.get(name, 0.0) for name in COEFFICIENTS[kind]}


def export(
    model: pycolmap.Reconstruction, images: Path, folder: ExportFolder, max_image_size: int | None = None
) -> list[str]:
    """Write ``transforms.json``, ``images/`` and ``points.ply``.

    Returns:
        what to do next, one line each.
    """
    posed = posed_images(model, images)
    kinds = {KNOWN[name][0] if name in KNOWN else "" for name in _models(model, posed)}
    scene = scene_from_model(model, images=images)
    if len(kinds) > 1 or kinds == {""} or max_image_size is not None:
        write_undistorted(model, images, folder, max_image_size=max_image_size)
        kinds = {POLYNOMIAL}
    else:
        cameras = {f"images/{image.name}": model.cameras[image.camera_id] for image in posed}

        def copy(name: str, path: Path) -> None:
            write_photograph(images / name.removeprefix("images/"), path, cameras[name], None)

        folder.fill(cameras, copy, len(cameras))
    transforms: dict[str, Any] = {"camera_model": kinds.pop(), "ply_file_path": POINTS, "frames": []}
    for image in posed:
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        frame = {
            "file_path": f"images/{image.name}",
            **intrinsics(model.cameras[image.camera_id]),
            "transform_matrix": (pose @ OPENGL_FROM_COLMAP).tolist(),
            "colmap_im_id": image.image_id,
        }
        transforms["frames"].append(frame)
    write_points(folder.root / POINTS, scene)
    with replace_file(folder.root / TRANSFORMS) as temporary:
        temporary.write_text(json.dumps(transforms, indent=1))
    return [f"train with: ns-train splatfacto --data {folder.root}"]


def _models(model: pycolmap.Reconstruction, posed: list[pycolmap.Image]) -> set[str]:
    return {model.cameras[image.camera_id].model_name for image in posed}
