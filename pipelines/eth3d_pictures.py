"""A reconstructed cloud on top of the scans, from above, each point coloured by how far it is from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.pictures import DARK, FONT, GREEN, ORANGE, Image, write_image
from samfeat_hloc.cloud_evaluation import Scan
from samfeat_hloc.nearest import nearest_distances, voxel_keys

RED = (200, 30, 45)
STEPS_M = ((0.02, GREEN), (0.1, ORANGE), (np.inf, RED))
"""Points nearer than this to a scan have this colour; the nearest are drawn last."""
NEAR_M = 0.5
POINT_PX = 3
"""Arms of a sparse point's mark."""
THIN_M = 0.05
"""Voxels of the scans and of a dense cloud of which one point is drawn."""


def draw_cloud(
    path: Path, points: npt.NDArray[np.float64], scans: Sequence[Scan], cameras: npt.NDArray[np.float64],
    up: npt.NDArray[np.float64], title: str, size: int = 900,
) -> None:  # fmt: skip
    """Write a PNG.

    Args:
        path: of the picture.
        points: (N, 3) in the scans' world.
        scans: drawn in grey.
        cameras: (C, 3) centres, drawn as circles.
        up: (3,) of the world; the picture is seen from there.
        title: written below.
        size: of the picture's longer side in pixels.
    """
    surface = _thinned(np.concatenate([scan.in_world() for scan in scans]).astype(np.float64))
    shown = _thinned(points) if len(points) > 200_000 else points
    distances = nearest_distances(shown, np.concatenate([scan.in_world() for scan in scans]), NEAR_M, desc="picture")
    axes = _ground_axes(up)
    flat = np.concatenate([surface @ axes.T, cameras @ axes.T])
    low, high = np.percentile(flat, 0.5, axis=0), np.percentile(flat, 99.5, axis=0)
    low, high = low - 0.06 * (high - low).max(), high + 0.06 * (high - low).max()
    scale = (size - 1) / (high - low).max()
    width, height = (np.ceil((high - low) * scale).astype(int) + 1).tolist()
    canvas: Image = np.full((height + 34, width, 3), 255, np.uint8)

    def pixels(xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        at = (xyz @ axes.T - low) * scale
        placed = np.column_stack([at[:, 0], height - 1 - at[:, 1]]).round().astype(np.int64)
        return placed[((placed >= 0) & (placed < [width, height])).all(axis=1)]

    x, y = pixels(surface).T
    canvas[y, x] = (205, 205, 205)
    for (limit, colour), least in zip(reversed(STEPS_M), [0.1, 0.02, -1.0], strict=True):
        x, y = pixels(shown[(distances <= limit) & (distances > least)]).T
        for step in range(POINT_PX if len(points) == len(shown) else 1):
            canvas[np.maximum(y - step, 0), x] = canvas[y, np.maximum(x - step, 0)] = colour
    for centre in pixels(cameras):
        cv2.circle(canvas, (int(centre[0]), int(centre[1])), 4, DARK, 1, cv2.LINE_AA)
    cv2.putText(canvas, title, (8, height + 14), FONT, 0.42, DARK, 1, cv2.LINE_AA)
    names = [
        ("scans", (170, 170, 170)),
        ("< 2 cm", GREEN),
        ("< 10 cm", ORANGE),
        ("farther", RED),
        ("cameras: circles", DARK),
    ]
    for index, (name, colour) in enumerate(names):
        cv2.putText(canvas, name, (8 + 90 * index, height + 29), FONT, 0.42, colour, 1, cv2.LINE_AA)
    write_image(path, canvas)


def _thinned(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return points[np.unique(voxel_keys(points, THIN_M), return_index=True)[1]]


def _ground_axes(up: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(2, 3) directions to the picture's right and top."""
    up = up / np.linalg.norm(up)
    right = np.cross([0.0, 1.0, 0.0] if abs(up[1]) < 0.9 else [1.0, 0.0, 0.0], up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(up, right)])
