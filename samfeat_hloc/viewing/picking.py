"""Which camera a click means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samfeat_hloc.viewing.scene import FloatArray

REACH_PX = 14.0
"""A click this far from a camera's centre still means it."""
FACES = ((1, 2, 3, 4), (0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1))
"""The faces of a frustum: its image plane and its four sides."""


def project(matrix: FloatArray, xyz: FloatArray, size: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Where points appear in a window.

    Args:
        matrix: (4, 4) clip_from_world as of OpenGL.
        xyz: (..., 3) points.
        size: width and height of the window in pixels.

    Returns:
        (..., 2) pixels from the top left, and (...) depths, negative behind the eye.
    """
    clip = xyz @ matrix[:, :3].T + matrix[:, 3]
    depth = clip[..., 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        ndc = clip[..., :2] / depth[..., None]
    return (ndc * [1, -1] + 1) / 2 * list(size), depth


def pick(matrix: FloatArray, frusta: FloatArray, size: tuple[float, float], at: tuple[float, float]) -> int | None:
    """The camera under a click.

    Args:
        matrix: (4, 4) clip_from_world as of OpenGL.
        frusta: (C, 5, 3) centre and image corners of every camera.
        size: of the window in pixels.
        at: the click, from the window's top left.

    Returns:
        index of the nearest camera to the eye whose frustum's picture holds the click; else of the one whose centre
        is within `REACH_PX` of it; else None.
    """
    if not len(frusta):
        return None
    xy, depth = project(matrix, frusta, size)
    before = (depth > 0).all(axis=1)
    holds = before & np.any([_inside(xy[:, face], at) for face in FACES], axis=0)
    if holds.any():
        return int(np.argmin(np.where(holds, depth[:, 0], np.inf)))
    with np.errstate(invalid="ignore"):
        away = np.where(depth[:, 0] > 0, np.linalg.norm(xy[:, 0] - list(at), axis=1), np.inf)
    nearest = int(np.argmin(away))
    return nearest if away[nearest] <= REACH_PX else None


def _inside(polygons: FloatArray, at: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Whether each of (C, K, 2) polygons holds a point: a ray from it crosses the outline an odd number of times."""
    x, y = at
    a, b = polygons, np.roll(polygons, -1, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = (b[..., 0] - a[..., 0]) * (y - a[..., 1]) / (b[..., 1] - a[..., 1]) + a[..., 0]
        crosses = ((a[..., 1] > y) != (b[..., 1] > y)) & (x < crossing)
    return np.asarray(crosses.sum(axis=1) % 2 == 1)
