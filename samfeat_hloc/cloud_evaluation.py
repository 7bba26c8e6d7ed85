"""How good is a point cloud against laser scans: accuracy, completeness and F1 at several tolerances.

The measure is that of the ETH3D multi-view benchmark (Schoeps et al., CVPR 2017), as its evaluation program counts:

- completeness: share of the scans' points with a reconstructed point within the tolerance;
- accuracy: share of the reconstructed points within the tolerance of a scan, among those the scans can judge;
- F1: their harmonic mean;
- voxels: shares are taken in each voxel of 1 cm and averaged over the voxels, on two grids half a voxel apart, so that
  a densely covered place counts no more than a sparse one.

What the scans can judge is where this differs from the official program, which follows each laser beam as a thin cone
and calls a point accurate only inside the cone of the scan point it is near. Here a point near any scan point is
accurate; one that is not is inaccurate where a scanner saw past it by more than the tolerance, that is, where it lies
that far before the nearest scan point of its cell of 0.1 degrees seen from the scanner and of the eight cells around,
and otherwise unobserved, and left out. So a point just beside the edge of what was scanned counts as accurate here and
as unobserved there, and cells are wider than a beam. Points behind the surface are unobserved in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.nearest import Points, nearest_distances, voxel_keys

TOLERANCES_M = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""ETH3D's."""
VOXEL_M = 0.01
GRID_SHIFTS = (0.0, 0.5)
CELL_DEG = 0.1
BLOCK = 2**20

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """One laser scan.

    Attributes:
        name: for messages.
        points: (N, 3) in metres, in the scanner's frame: the scanner is at the origin.
        world_from_scan: (4, 4) rigid.
    """

    name: str
    points: Points
    world_from_scan: npt.NDArray[np.float64]

    def in_world(self) -> Points:
        """(N, 3) points in the world."""
        return _transform(self.world_from_scan, self.points)


@dataclass(frozen=True)
class CloudScores:
    """Scores of one cloud, shares in [0, 1] at each tolerance.

    Attributes:
        tolerances_m: ascending.
        accuracy: over voxels; NaN where no reconstructed point can be judged.
        completeness: over voxels.
        f1: harmonic mean of the two.
        unobserved: share of the reconstructed points that no scan judges.
        points: of the reconstruction.
        scan_points: of all scans.
        median_m: median distance of the reconstructed points to the scans, over those within the largest tolerance;
            NaN when there is none.
    """

    tolerances_m: tuple[float, ...]
    accuracy: tuple[float, ...]
    completeness: tuple[float, ...]
    f1: tuple[float, ...]
    unobserved: tuple[float, ...]
    points: int
    scan_points: int
    median_m: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is null."""
        shares = {key: [_plain(x) for x in getattr(self, key)] for key in ("accuracy", "completeness", "f1")}
        return {
            "tolerances_m": list(self.tolerances_m),
            **shares,
            "unobserved": [_plain(x) for x in self.unobserved],
            "points": self.points,
            "scan_points": self.scan_points,
            "median_m": _plain(self.median_m),
        }


def evaluate_cloud(
    points: Points, scans: Sequence[Scan], tolerances_m: Sequence[float] = TOLERANCES_M, voxel_m: float = VOXEL_M
) -> CloudScores:
    """Compare a point cloud with laser scans.

    Args:
        points: (N, 3) of the reconstruction in the scans' world, metres.
        scans: at least one.
        tolerances_m: any order.
        voxel_m: edge of the voxels over which shares are averaged.

    Raises:
        InputError: no point in the cloud, no scan, or a scan without points.
        ConfigError: a tolerance or voxel size that is not positive.
    """
    tolerances = tuple(sorted(float(value) for value in tolerances_m))
    if not tolerances or tolerances[0] <= 0 or voxel_m <= 0:
        raise ConfigError(f"tolerances {tolerances} and voxel size {voxel_m} must be positive, in metres")
    if not len(points):
        raise InputError("the point cloud is empty; a reconstruction with 3D points is needed")
    if not scans:
        raise InputError("there is no laser scan to compare with; give at least one")
    empty = [scan.name for scan in scans if not len(scan.points)]
    if empty:
        raise InputError(f"the scan {empty[0]} has no points; copy it again")
    surface = np.concatenate([scan.in_world() for scan in scans])
    limit = tolerances[-1]

    to_cloud = nearest_distances(surface, points, limit, desc="completeness")
    completeness = _over_voxels(surface, to_cloud, np.full(len(surface), np.inf, np.float32), tolerances, voxel_m)
    count = len(surface)
    to_scan = nearest_distances(points, surface, limit, desc="accuracy")
    del surface, to_cloud
    past = np.full(len(points), -np.inf, np.float32)
    for scan in scans:
        np.maximum(past, seen_past_m(points, scan), out=past)
    accuracy = _over_voxels(points, to_scan, past, tolerances, voxel_m)
    near = to_scan[np.isfinite(to_scan)]
    return CloudScores(
        tolerances,
        accuracy,
        completeness,
        tuple(_f1(a, c) for a, c in zip(accuracy, completeness, strict=True)),
        tuple(float(((to_scan > tolerance) & (past <= tolerance)).mean()) for tolerance in tolerances),
        len(points),
        count,
        float(np.median(near)) if len(near) else float("nan"),
    )


def seen_past_m(points: Points, scan: Scan, cell_deg: float = CELL_DEG) -> Float32Array:
    """(N,) how far the scanner saw past each point: to the nearest scan point around its ray, in metres.

    Around: in its angular cell and the eight next to it, so that a slanted surface is not seen past between returns.
    Negative behind that scan point, -inf where nothing came back.

    Args:
        points: (N, 3) in the world.
        scan: with z upwards in its frame, so that cells are even near the horizon.
        cell_deg: edge of the cells.
    """
    rows, columns = round(180 / cell_deg), round(360 / cell_deg)
    nearest = np.full(rows * columns, np.inf, np.float32)
    for start in range(0, len(scan.points), BLOCK):
        cell, radius = _cells(scan.points[start : start + BLOCK], rows, columns)
        np.minimum.at(nearest, cell, radius)
    nearest = _least_around(nearest.reshape(rows, columns)).ravel()
    nearest[np.isinf(nearest)] = -np.inf  # nothing is known there
    scan_from_world: npt.NDArray[np.float64] = np.linalg.inv(scan.world_from_scan).astype(np.float64)
    found = np.empty(len(points), np.float32)
    for start in range(0, len(points), BLOCK):
        cell, radius = _cells(_transform(scan_from_world, points[start : start + BLOCK]), rows, columns)
        found[start : start + BLOCK] = nearest[cell] - radius
    return found


def _least_around(grid: Float32Array) -> Float32Array:
    """(R, C) smallest value of each cell and the eight around it; columns go round, rows end."""
    grid = np.minimum(grid, np.minimum(np.roll(grid, 1, axis=1), np.roll(grid, -1, axis=1)))
    padded = np.pad(grid, ((1, 1), (0, 0)), constant_values=np.inf)
    least: Float32Array = np.minimum(grid, np.minimum(padded[:-2], padded[2:]))
    return least


def _cells(local: Points, rows: int, columns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Angular cell and distance of points in the scanner's frame."""
    radius = np.linalg.norm(local, axis=1)
    inclination = np.arccos(np.clip(local[:, 2] / np.maximum(radius, 1e-12), -1, 1)) / np.pi
    azimuth = np.arctan2(local[:, 1], local[:, 0]) / (2 * np.pi) + 0.5
    row = np.minimum((inclination * rows).astype(np.int64), rows - 1)
    column = np.minimum((azimuth * columns).astype(np.int64), columns - 1)
    return row * columns + column, radius.astype(np.float32)


def _over_voxels(
    points: Points,
    distances: Float32Array,
    past: Float32Array,
    tolerances: Sequence[float],
    voxel_m: float,
) -> tuple[float, ...]:
    """Mean over voxels of the share of points within each tolerance; a far point counts where it was seen past."""
    sums, voxels = np.zeros(len(tolerances)), np.zeros(len(tolerances))
    for shift in GRID_SHIFTS:
        number = np.unique(voxel_keys(points, voxel_m, shift), return_inverse=True)[1].reshape(-1)
        size = int(number.max()) + 1
        for index, tolerance in enumerate(tolerances):
            within = distances <= tolerance
            good = np.bincount(number[within], minlength=size)
            judged = np.bincount(number[within | (past > tolerance)], minlength=size)
            known = judged > 0
            sums[index] += (good[known] / judged[known]).sum()
            voxels[index] += known.sum()
    with np.errstate(invalid="ignore"):
        shares = np.where(voxels > 0, sums / voxels, np.nan)
    return tuple(float(value) for value in shares)


def _transform(target_from_source: npt.NDArray[np.float64], points: Points) -> Points:
    """(N, 3) points moved by a (4, 4) rigid transform, in their own precision."""
    moved: Points = (points @ target_from_source[:3, :3].T + target_from_source[:3, 3]).astype(points.dtype)
    return moved


def _f1(accuracy: float, completeness: float) -> float:
    total = accuracy + completeness
    return 2 * accuracy * completeness / total if total != 0 else 0.0


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
