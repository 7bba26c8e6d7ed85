"""What sources with depth and poses share: views are looked at once, pairs chosen by overlap, then worked out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from training.records import MAX_POINTS, Image, Pair, Skipped, SourceConfig
from training.sources.covisible import DepthView, choose_pairs, correspondences, spread, thin_out, transfer
from training.sources.registration import Field, densify, register, shift_px
from training.sources.views import Placement, no_pair, rescale

logger = logging.getLogger(__name__)
Names = tuple[str, str]
NEAR_IN_MEMORY = 16
"""Depth maps that are kept between pairs."""
TRIALS = 10
"""Pairs that tell whether colour and depth are registered."""
REGISTERED_PX = 2.0
"""Depth and colour that are closer than this are taken as registered: optical flow is no better on clean data."""
FEWEST_POINTS = 32
"""A pair with fewer correspondences is left out."""


class DepthPairs:
    """The pairs among the views of a source, added one by one with their geometry.

    Args:
        config: of the source.
        skipped: where to count.
        read: the geometry of a view by its name, at full resolution.
        image: the image of a view by its name, where depth and colour may come from two cameras; the first pairs tell
            whether they are registered, and if they are not, all pairs are put right by their photographs. None: the
            depth is the image's own.

    Attributes:
        registered: whether depth and colour agree; None as long as it is not known.
    """

    def __init__(
        self,
        config: SourceConfig,
        skipped: Skipped,
        read: Callable[[str], DepthView],
        image: Callable[[str], Image] | None = None,
    ) -> None:
        self.config, self.skipped, self._read, self._image = config, skipped, read, image
        self.registered: bool | None = True if image is None else None
        self._scene = ""
        self._looks: list[tuple[str, DepthView]] = []
        self._found: list[tuple[int, list[Names]]] = []

    def add(self, name: str, view: DepthView, scene: str = "") -> None:
        """A view that may be paired with others of its scene, all of which come in a row.

        Only a coarse look at its depth is kept, and that until the next scene begins.
        """
        if scene != self._scene:
            self._close_scene()
            self._scene = scene
        self._looks.append((name, thin_out(view)))

    def _close_scene(self) -> None:
        looks, self._looks = self._looks, []
        pairs = choose_pairs([look for _, look in looks], self.config.overlap, self.config.limit, self.config.seed)
        self._found.append((len(looks), [(looks[first][0], looks[second][0]) for first, second in pairs]))

    @cached_property
    def chosen(self) -> list[Names]:
        """Names of the pairs to work out, when all views are added; those of a view together: its depth is at hand."""
        self._close_scene()
        limit, total = self.config.limit, sum(views for views, _ in self._found)
        chosen: list[Names] = []
        for views, pairs in self._found:
            part = len(pairs) if limit is None else -(-limit * views // total)
            chosen += sorted(pairs[:part])
        return chosen if limit is None else chosen[:limit]

    def pairs(self, placements: dict[str, Placement]) -> Iterator[Pair]:
        """Pairs of the views added, with their correspondences in the views' pixels.

        Raises:
            InputError: there is none.
        """
        read = lru_cache(NEAR_IN_MEMORY)(self._read)
        rng = np.random.default_rng([self.config.seed, 4003])
        chosen, found = self.chosen, 0
        if self.registered is None and self._image is not None:
            shifts = [self._aligned(pair, read, placements)[2] for pair in chosen[:: max(1, len(chosen) // TRIALS)]]
            shift = float(np.nanmedian(shifts)) if np.isfinite(shifts).any() else 0.0
            self.registered = shift < REGISTERED_PX
            if not self.registered:
                logger.warning(
                    "warning: %s: depth and colour are %.1f px apart; each pair is aligned by its photographs",
                    self.config.path,
                    shift,
                )
        for first, second in chosen:
            if self.registered:
                points = self._by_depth((first, second), read, placements, rng)
            else:
                field, good, _ = self._aligned((first, second), read, placements)
                rows, columns = np.nonzero(good)
                points = np.concatenate([np.stack([columns, rows], axis=1), field[rows, columns]], axis=1)
                points = points[spread(points[:, :2], placements[first].size, MAX_POINTS, rng)]
            if len(points) < FEWEST_POINTS:
                self.skipped.count("pair with too few correspondences")
                continue
            found += 1
            yield Pair(first, second, points.astype(np.float32))
        if not found:
            raise no_pair(self.config, self.skipped)

    def _by_depth(
        self, names: Names, read: Callable[[str], DepthView], placements: dict[str, Placement], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """(M, 4) corresponding pixels of two views."""
        views = [read(name) for name in names]
        halves = np.split(correspondences(views[0], views[1], MAX_POINTS, rng), 2, axis=1)
        return np.concatenate(
            [_to_view(half, view, placements[name]) for half, view, name in zip(halves, views, names, strict=True)],
            axis=1,
        )

    def _aligned(
        self, names: Names, read: Callable[[str], DepthView], placements: dict[str, Placement]
    ) -> tuple[Field, npt.NDArray[np.bool_], float]:
        """The map between two photographs, where it can be trusted, and how far the depth alone is from it in px."""
        assert self._image is not None
        first, second = (read(name) for name in names)
        flat = first.valid_cells()
        cells, seen = transfer(first, second, flat)
        start = np.full((first.depth_m.size, 2), np.nan)
        start[flat[seen]] = _to_view(cells[seen], second, placements[names[1]])
        field = densify(start.reshape(*first.depth_m.shape, 2), placements[names[0]].size)
        refined, good = register(self._image(names[0]), self._image(names[1]), field)
        return refined, good, shift_px(field, refined, good)


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
