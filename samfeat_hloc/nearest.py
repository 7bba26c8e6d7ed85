"""Distance of each point of one cloud to the nearest point of another, for clouds of tens of millions of points.

The space is cut into cubes; each cube's points are looked up in a k-d tree (OpenCV's FLANN, exact) of the other cloud's
points in the cube and in a margin as wide as the largest distance asked for. Memory is that of one cube's trees, and
coordinates are taken from the cube's middle, so that float32 is exact to micrometres far from the origin.
"""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from samfeat_hloc.progress import progress

CUBE_M = 4.0
KD_TREE = {"algorithm": 4, "leaf_max_size": 10}
"""FLANN's KDTREE_SINGLE: one tree, searched to the end; its other trees are approximate."""
EXACT = {"checks": -1}
_FLANN: Any = cv2.flann_Index  # type: ignore[attr-defined]  # its stubs lack it

Points = npt.NDArray[np.floating[Any]]
Cube = tuple[int, int, int]


def nearest_distances(
    queries: Points, references: Points, limit_m: float, cube_m: float = CUBE_M, desc: str = "distances"
) -> npt.NDArray[np.float32]:
    """Distance to the nearest reference.

    Args:
        queries: (N, 3) in metres.
        references: (M, 3) in metres.
        limit_m: distances beyond it are not looked for.
        cube_m: edge of the cubes.
        desc: of the progress bar.

    Returns:
        (N,) distances in metres, inf where there is no reference within `limit_m`.
    """
    cube_m = max(cube_m, limit_m)  # the margin must not reach beyond the neighbouring cubes
    distances = np.full(len(queries), np.inf, np.float32)
    query_order, query_cubes = _group(queries, cube_m)
    reference_order, reference_cubes = _group(references, cube_m)
    for cube, (start, end) in progress(query_cubes.items(), total=len(query_cubes), desc=desc, unit="cube"):
        low = np.array(cube) * cube_m
        inside = []
        for step in itertools.product((-1, 0, 1), repeat=3):
            found = reference_cubes.get((cube[0] + step[0], cube[1] + step[1], cube[2] + step[2]))
            if found is not None:
                near = references[reference_order[slice(*found)]]
                inside.append(near[((near >= low - limit_m) & (near <= low + cube_m + limit_m)).all(axis=1)])
        around = np.concatenate(inside) if inside else np.zeros((0, 3))
        if not len(around):
            continue
        middle = low + cube_m / 2
        own = query_order[start:end]
        own = own[_near_any(queries[own] - low, around - low, limit_m, cube_m)]
        if not len(own):
            continue
        tree = _FLANN(np.ascontiguousarray(around - middle, np.float32), KD_TREE)
        _, squared = tree.knnSearch(np.ascontiguousarray(queries[own] - middle, np.float32), 1, params=EXACT)
        distances[own] = np.sqrt(squared[:, 0])
    distances[distances > limit_m] = np.inf
    return distances


def _near_any(queries: Points, references: Points, limit_m: float, cube_m: float) -> npt.NDArray[np.bool_]:
    """Which queries of a cube at the origin may have a reference within the limit, by a grid of cells that wide.

    A k-d tree has no bound to stop at and takes long for points that are far from everything.
    """
    across = int(np.ceil(cube_m / limit_m)) + 2  # and one cell of margin on either side
    occupied = np.zeros((across + 2,) * 3, bool)
    cells = np.clip(np.floor(references / limit_m).astype(np.int64) + 2, 0, across + 1)
    occupied[tuple(cells.T)] = True
    for axis in range(3):
        occupied = occupied | np.roll(occupied, 1, axis) | np.roll(occupied, -1, axis)
    found: npt.NDArray[np.bool_] = occupied[tuple((np.floor(queries / limit_m).astype(np.int64) + 2).T)]
    return found


def voxel_keys(points: Points, voxel_m: float, shift: float = 0.0) -> npt.NDArray[np.int64]:
    """(N,) number of the voxel that each point is in, equal for points of one voxel.

    Args:
        points: (N, 3) in metres.
        voxel_m: edge of a voxel.
        shift: of the grid along every axis, in voxels.
    """
    if not len(points):
        return np.zeros(0, np.int64)
    low, high = (np.floor(edge(points, axis=0).astype(np.float64) / voxel_m + shift) for edge in (np.min, np.max))
    extent = (high - low).astype(np.int64) + 1
    if float(extent[0]) * float(extent[1]) * float(extent[2]) >= 2.0**62:  # beyond what one number can hold
        cells = np.floor(points.astype(np.float64) / voxel_m + shift)
        return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    keys = np.zeros(len(points), np.int64)
    for axis in range(3):  # one axis at a time: a third of the memory
        cells = np.floor(points[:, axis].astype(np.float64) / voxel_m + shift) - low[axis]
        keys = keys * extent[axis] + cells.astype(np.int64)
    return keys


def _group(points: Points, cube_m: float) -> tuple[npt.NDArray[np.int64], dict[Cube, tuple[int, int]]]:
    """An order of the points by cube, and where in it each cube's points begin and end."""
    if not len(points):
        return np.zeros(0, np.int64), {}
    keys = voxel_keys(points, cube_m)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    firsts = np.floor(points[order[starts]].astype(np.float64) / cube_m).astype(np.int64)
    return order, {
        (int(x), int(y), int(z)): (int(start), int(end))
        for (x, y, z), start, end in zip(firsts, starts, ends, strict=True)
    }
