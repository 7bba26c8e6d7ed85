"""Which pixels of two views with depth and pose show the same point of the scene.

Pixels here are those of the depth map's grid, the centre of the top-left cell at (0, 0). A point of the first view
corresponds to its projection into the second view when the second view's depth there agrees within DEPTH_TOLERANCE of
it, and when the second view's own depth leads back to within CYCLE_PX of where it came from: the tolerance alone lets a
point slide along its epipolar line, by several pixels where the cameras stand far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DEPTH_TOLERANCE = 0.03
"""Largest relative difference of the two depths of a point that both views see."""
SAME_SURFACE = 1.06
"""Largest ratio of the depths of neighbouring cells of one surface."""
CYCLE_PX = 1.0
"""Largest distance, in cells of the first depth map, between a point and its way there and back."""
SAMPLES = 300
"""Points of a view on which its overlap with another is measured."""
PAIRS_PER_VIEW = 4
"""Pairs of a source that does not say how many, for each of its views."""
CANDIDATES = 20
"""Points of a pair that are tried, for each that is wanted."""
LOOK_SIDE = 96
"""Long side of the depth map on which overlap is measured."""

Matrix = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DepthView:
    """One view's geometry.

    Attributes:
        depth_m: (h, w) float32 along the optical axis, 0 for none. In metres, or any unit that the poses share.
        matrix: (3, 3) intrinsics in cells of the depth map.
        world_from_cam: (4, 4).
    """

    depth_m: npt.NDArray[np.float32]
    matrix: Matrix
    world_from_cam: Matrix

    def lift(self, points: Matrix, depth: Matrix) -> Matrix:
        """World points (N, 3) of points (N, 2) at depths (N,)."""
        rays = (points - self.matrix[:2, 2]) / np.diag(self.matrix)[:2]
        local = np.concatenate([rays, np.ones((len(rays), 1))], axis=1) * depth[:, None]
        return local @ self.world_from_cam[:3, :3].T + self.world_from_cam[:3, 3]

    def project(self, world: Matrix) -> tuple[Matrix, Matrix]:
        """Points (N, 2) and depths (N,) of world points (N, 3); the points mean nothing where the depth is <= 0."""
        local = (world - self.world_from_cam[:3, 3]) @ self.world_from_cam[:3, :3]
        depth = local[:, 2]
        ahead = np.where(depth > 1e-9, depth, 1.0)
        return local[:, :2] / ahead[:, None] * np.diag(self.matrix)[:2] + self.matrix[:2, 2], depth

    def look_up(self, points: Matrix) -> Matrix:
        """Depth (N,) at points (N, 2); 0 outside, where one of the four cells around has none, and on edges of depth.

        Interpolated in inverse depth, which is exact on planes; a mean of front and back is nobody's depth.
        """
        height, width = self.depth_m.shape
        inside: Bools = np.all((points >= 0) & (points <= [width - 1, height - 1]), axis=1)
        safe = np.where(inside[:, None], points, 0)
        column, row = np.minimum(np.floor(safe), [max(width - 2, 0), max(height - 2, 0)]).astype(np.int64).T
        across, down = safe[:, 0] - column, safe[:, 1] - row
        right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
        corners = np.stack([self.depth_m[y, x] for y in (row, below) for x in (column, right)]).astype(np.float64)
        weights = np.stack(
            [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
        )  # fmt: skip
        valid = inside & (corners > 0).all(axis=0) & (corners.max(axis=0) <= SAME_SURFACE * corners.min(axis=0))
        inverse = (weights / np.where(corners > 0, corners, 1.0)).sum(axis=0)
        return np.where(valid, 1 / np.where(valid, inverse, 1.0), 0.0)

    def valid_cells(self) -> npt.NDArray[np.int64]:
        """(N,) flat indices of cells with depth."""
        return np.flatnonzero(self.depth_m > 0)

    def cells(self, flat: npt.NDArray[np.int64]) -> Matrix:
        """(N, 2) points of flat indices of cells."""
        row, column = np.divmod(flat, self.depth_m.shape[1])
        return np.stack([column, row], axis=1).astype(np.float64)


def thin_out(view: DepthView, side: int = LOOK_SIDE) -> DepthView:
    """The same view with every n-th row and column, at most `side` of them."""
    step = -(-max(view.depth_m.shape) // side)
    start = (step - 1) // 2
    matrix = view.matrix.copy()
    matrix[:2, 2] -= start
    matrix[:2] /= step
    return DepthView(np.ascontiguousarray(view.depth_m[start::step, start::step]), matrix, view.world_from_cam)


def transfer(first: DepthView, second: DepthView, flat: npt.NDArray[np.int64]) -> tuple[Matrix, Bools]:
    """Points (N, 2) of the second view that show cells of the first (flat indices, with depth), and whether they do."""
    start = first.cells(flat)
    points, depth = second.project(first.lift(start, first.depth_m.reshape(-1)[flat].astype(np.float64)))
    points = np.where((depth > 1e-9)[:, None], points, -1.0)
    found = second.look_up(points)
    seen = (found > 0) & (np.abs(found - depth) <= DEPTH_TOLERANCE * depth)
    back, back_depth = first.project(second.lift(points, np.where(found > 0, found, 1.0)))
    seen &= (back_depth > 1e-9) & (np.linalg.norm(back - start, axis=1) <= CYCLE_PX)
    return points, seen


def correspondences(
    first: DepthView, second: DepthView, limit: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(M, 4) corresponding points x y, x y; M <= limit, spread over the first view.

    The first view is divided into squares, about `limit` of them, and each gives one of its points at random.
    """
    flat = _sample(first, CANDIDATES * limit, rng)
    points, seen = transfer(first, second, flat)
    flat, points = flat[seen], points[seen]
    start = first.cells(flat)
    picked = spread(start, (first.depth_m.shape[1], first.depth_m.shape[0]), limit, rng)
    return np.concatenate([start[picked], points[picked]], axis=1)


def spread(
    points: npt.NDArray[np.floating[Any]], size: tuple[int, int], limit: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:  # fmt: skip
    """Indices of at most `limit` of the points (N, 2) of an image (width, height), one of each square of a grid."""
    if len(points) <= limit:
        return np.arange(len(points))
    side = np.sqrt(size[0] * size[1] / limit)
    while True:
        columns = int(size[0] // side) + 1
        square = (points[:, 1] // side).astype(np.int64) * columns + (points[:, 0] // side).astype(np.int64)
        order = rng.permutation(len(points))
        _, first = np.unique(square[order], return_index=True)
        if len(first) <= limit:
            return np.sort(order[first])
        side *= 1.05


def overlap(first: DepthView, second: DepthView, rng: np.random.Generator) -> float:
    """The smaller share of one view's points that the other sees, by SAMPLES points of each."""
    return min(_share(first, second, rng), _share(second, first, rng))


def _share(first: DepthView, second: DepthView, rng: np.random.Generator) -> float:
    flat = _sample(first, SAMPLES, rng)
    return float(transfer(first, second, flat)[1].mean()) if len(flat) else 0.0


def _sample(view: DepthView, number: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    flat = view.valid_cells()
    return flat if len(flat) <= number else rng.choice(flat, number, replace=False)


def choose_pairs(
    looks: Sequence[DepthView], wanted: tuple[float, float], limit: int | None, seed: int
) -> list[tuple[int, int]]:
    """Pairs of views whose overlap lies in `wanted`, in random order, at most `limit` (None: PAIRS_PER_VIEW a view).

    Args:
        looks: all views, thinned out so that they fit in memory together.
        wanted: smallest and largest overlap.
        limit: of pairs.
        seed: the same pairs at the same seed.
    """
    rng = np.random.default_rng([seed, 4002])
    limit = PAIRS_PER_VIEW * len(looks) if limit is None else limit
    candidates = _candidates(looks, wanted[0], rng)
    found: list[tuple[int, int]] = []
    for first, second in rng.permutation(candidates).tolist():
        if len(found) >= limit:
            break
        if wanted[0] <= overlap(looks[first], looks[second], rng) <= wanted[1]:
            found.append((first, second))
    return found


def _candidates(looks: Sequence[DepthView], low: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(P, 2) pairs of views that have enough of each other's points inside their borders, whatever hides them."""
    samples, shares = [], np.zeros((len(looks), len(looks)))
    for look in looks:
        flat = _sample(look, 64, rng)
        samples.append(look.lift(look.cells(flat), look.depth_m.reshape(-1)[flat].astype(np.float64)))
    counts = np.array([max(len(points), 1) for points in samples])
    owner = np.repeat(np.arange(len(looks)), [len(points) for points in samples])
    everything = np.concatenate(samples) if samples else np.zeros((0, 3))
    for index, look in enumerate(looks):
        points, depth = look.project(everything)
        height, width = look.depth_m.shape
        inside = (depth > 1e-9) & (points >= 0).all(axis=1) & (points <= [width - 1, height - 1]).all(axis=1)
        shares[index] = np.bincount(owner[inside], minlength=len(looks)) / counts
    margin = 0.7 * low  # 64 points measure a share roughly
    first, second = np.nonzero(np.triu((shares >= margin) & (margin <= shares.T), 1))
    return np.stack([first, second], axis=1)
