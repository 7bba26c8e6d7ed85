"""A scene as Open3D's geometries. Loaded in child processes only."""

from __future__ import annotations

from typing import Any

import numpy as np
import open3d as o3d

from samfeat_hloc.viewing.scene import (
    BACKGROUND,
    DATABASE_COLOUR,
    PATH_COLOUR,
    QUERY_COLOUR,
    FloatArray,
    Points,
    Scene,
    segments,
)

SRGB_GAMMA = 2.2
"""Filament takes the background for sRGB and draws it linear."""
POINTS, CLOUD, CAMERAS, QUERIES, PATHS = "points", "cloud", "cameras", "queries", "paths"


def material(*, point_size: float = 3.0, line_width: float | None = None) -> Any:
    """Colours as they are, without light."""
    made = o3d.visualization.rendering.MaterialRecord()
    made.shader = "unlitLine" if line_width is not None else "defaultUnlit"
    made.point_size = point_size
    made.line_width = line_width or 1.0
    made.sRGB_color = False  # Filament would darken them, and `fill` turns off what brightens them again
    return made


def point_cloud(points: Points, origin: FloatArray) -> Any:
    """Open3D's point cloud, moved so that `origin` is zero: its vertices have 32 bits."""
    made = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.xyz - origin))
    made.colors = o3d.utility.Vector3dVector(points.rgb / 255.0)
    return made


def line_set(ends: FloatArray, origin: FloatArray, colour: tuple[int, int, int]) -> Any:
    """Open3D's line set of (E, 2, 3) segments."""
    made = o3d.geometry.LineSet(
        o3d.utility.Vector3dVector(ends.reshape(-1, 3) - origin),
        o3d.utility.Vector2iVector(np.arange(2 * len(ends)).reshape(-1, 2)),
    )
    made.paint_uniform_color([value / 255.0 for value in colour])
    return made


def fill(target: Any, scene: Scene, origin: FloatArray, depth: float, point_size: float, line_width: float) -> set[str]:
    """Put everything into an Open3DScene.

    Returns:
        the names of the geometries that there are; empty parts of the scene have none.
    """
    target.set_background([*((value / 255.0) ** (1 / SRGB_GAMMA) for value in BACKGROUND), 1.0])
    target.view.set_post_processing(False)  # no tone mapping: colours stay what they are
    names = set()
    for name, points in ((POINTS, scene.points), (CLOUD, scene.cloud)):
        if len(points):
            target.add_geometry(name, point_cloud(points, origin), material(point_size=point_size))
            names.add(name)
    paths = [np.stack([path[:-1], path[1:]], axis=1) for path in scene.paths]
    lines = (
        (CAMERAS, segments(scene.database, depth), DATABASE_COLOUR),
        (QUERIES, segments(scene.queries, depth), QUERY_COLOUR),
        (PATHS, np.concatenate([np.zeros((0, 2, 3)), *paths]), PATH_COLOUR),
    )
    for name, ends, colour in lines:
        if len(ends):
            target.add_geometry(name, line_set(ends, origin, colour), material(line_width=line_width))
            names.add(name)
    return names
