"""What sources with depth and poses share: views are looked at once, pairs chosen by overlap, then worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from training.covisible import DepthView, choose_pairs, correspondences, thin_out
from training.records import MAX_POINTS, Pair, Skipped, SourceConfig
from training.sources.views import Placement, no_pair, rescale

NEAR_IN_MEMORY = 48
"""Depth maps that are kept between pairs."""
FEWEST_POINTS = 32
"""A pair with fewer correspondences is left out."""


class DepthPairs:
    """The pairs among the views of a source, added one by one with their geometry.

    Args:
        config: of the source.
        skipped: where to count.
        read: the geometry of a view by its name, at full resolution.
    """

    def __init__(self, config: SourceConfig, skipped: Skipped, read: Callable[[str], DepthView]) -> None:
        self.config, self.skipped, self._read = config, skipped, read
        self._looks: dict[str, list[tuple[str, DepthView]]] = {}

    def add(self, name: str, view: DepthView, scene: str = "") -> None:
        """A view that may be paired with others of its scene; only a coarse look at its depth is kept."""
        self._looks.setdefault(scene, []).append((name, thin_out(view)))

    def pairs(self, placements: dict[str, Placement]) -> Iterator[Pair]:
        """Pairs of the views added, with their correspondences in the views' pixels.

        Raises:
            InputError: there is none.
        """
        read = lru_cache(NEAR_IN_MEMORY)(self._read)
        rng = np.random.default_rng([self.config.seed, 4003])
        found = 0
        for first, second in self._chosen():
            views = read(first), read(second)
            points = correspondences(*views, MAX_POINTS, rng)
            if len(points) < FEWEST_POINTS:
                self.skipped.count("pair with too few correspondences")
                continue
            halves = [
                _to_view(half, view, placements[name])
                for half, view, name in zip(np.split(points, 2, axis=1), views, (first, second), strict=True)
            ]
            found += 1
            yield Pair(first, second, np.concatenate(halves, axis=1).astype(np.float32))
        if not found:
            raise no_pair(self.config, self.skipped)

    def _chosen(self) -> list[tuple[str, str]]:
        """Names of the pairs to work out, those of a view together so that its depth map is still at hand."""
        limit, total = self.config.limit, sum(len(looks) for looks in self._looks.values())
        chosen: list[tuple[str, str]] = []
        for scene in sorted(self._looks):
            looks = self._looks[scene]
            part = None if limit is None else -(-limit * len(looks) // total)
            pairs = choose_pairs([look for _, look in looks], self.config.overlap, part, self.config.seed)
            chosen += [(looks[first][0], looks[second][0]) for first, second in sorted(pairs)]
        return chosen if limit is None else chosen[:limit]


def _to_view(points: npt.NDArray[np.float64], view: DepthView, placement: Placement) -> npt.NDArray[np.float64]:
    """Cells of a depth map in the pixels of its view."""
    height, width = view.depth_m.shape
    return placement.to_view(rescale(points, (width, height), placement.stored))


def grid_matrix(
    matrix: npt.NDArray[np.float64], size: tuple[int, int], depth_size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Intrinsics for an image of a width and height in the cells of its depth map.

    Raises:
        InputError: the matrix has skew.
    """
    if abs(matrix[0, 1]) > 1e-6:
        raise InputError("the camera matrix has skew; expected fx 0 cx, 0 fy cy, 0 0 1")
    scale = np.array(depth_size, np.float64) / size
    grid = np.eye(3)
    grid[[0, 1], [0, 1]] = matrix[[0, 1], [0, 1]] * scale
    grid[:2, 2] = rescale(matrix[None, :2, 2], size, depth_size)[0]
    return grid
