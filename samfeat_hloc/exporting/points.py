"""A model as PLY files: its points, and its cameras as wire frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samfeat_hloc._pycolmap import FloatArray, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import write_ply
from samfeat_hloc.viewing.framing import frustum_depth
from samfeat_hloc.viewing.model_scene import scene_from_model
from samfeat_hloc.viewing.scene import DATABASE_COLOUR, EDGES, Cameras, Points, Scene

POINTS, CAMERAS = "points.ply", "cameras.ply"
FLOAT32_STEP = 2.0**-24


def normals_to_cameras(points: Points, cameras: Cameras) -> FloatArray:
    """(P, 3) unit vectors to the cameras that observe each point: the mean of the directions.

    No surface's normal, but it points to the outside, which is what surface reconstruction needs to start with. Zero
    for points that no camera observes.
    """
    total = np.zeros((len(points), 3))
    for index in range(len(cameras)):
        seen = cameras.points_of(index)
        towards = cameras.centres[index] - points.xyz[seen]
        total[seen] += towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def write_points(path: Path, scene: Scene) -> None:
    """Write a scene's points with colours and normals; as float where that is precise to 1e-5 of its extent."""
    xyz = scene.points.xyz
    extent = float(np.ptp(xyz, axis=0).max()) if len(xyz) else 1.0
    coarse = np.abs(xyz).max(initial=0.0) * FLOAT32_STEP > 1e-5 * extent
    normals = normals_to_cameras(scene.points, scene.database)
    write_ply(path, xyz if coarse else xyz.astype(np.float32), scene.points.rgb, normals)


def write_cameras(path: Path, scene: Scene) -> None:
    """Write a scene's cameras as frusta: five vertices and eight edges each, in the order of their names."""
    count = len(scene.database)
    vertices = scene.database.frusta(frustum_depth(scene)).reshape(-1, 3)
    edges = (EDGES[None] + 5 * np.arange(count)[:, None, None]).reshape(-1, 2)
    rgb = np.tile(np.array(DATABASE_COLOUR, np.uint8), (len(vertices), 1))
    write_ply(path, vertices, rgb, edges=edges, comment="5 vertices a camera: centre, then the image's corners")


def export(model: pycolmap.Reconstruction, output: Path, images: Path | None = None) -> list[Path]:
    """Write ``points.ply`` and ``cameras.ply``.

    Args:
        model: what is exported.
        output: a folder, or a .ply file for the points: then the cameras go to NAME_cameras.ply beside it.
        images: photographs, from which points without colours get theirs.

    Returns:
        the files.

    Raises:
        InputError: a model without points.
    """
    scene = scene_from_model(model, images=images)
    if not len(scene.points):
        raise InputError("the model has no points; triangulate it first")
    if output.suffix.lower() == ".ply":
        files = [output, output.with_name(f"{output.stem}_cameras.ply")]
    else:
        files = [output / POINTS, output / CAMERAS]
    write_points(files[0], scene)
    write_cameras(files[1], scene)
    return files
