"""Any COLMAP reconstruction with its images: two views of one 3D point show the same thing.

A team can train on its own map. The correspondences are the observations of common tracks as they were measured, so
the lens does not matter; they are as many and as exact as the reconstruction's features.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import ConfigError, InputError
from training.records import MAX_POINTS, Pair, Skipped, SourceConfig, View
from training.sources.covisible import PAIRS_PER_VIEW, spread
from training.sources.views import ViewMaker, check_folder, guard_empty, no_pair

FEWEST_TRACKS = 32
"""A pair with fewer common 3D points is left out."""


class ColmapSource:
    """The images of one reconstruction. `path` is the model's folder, `images` that of the images.

    The overlap of two views is the smaller share of one's 3D points that the other observes too.

    Raises:
        ConfigError: the configuration names no folder of images.
        InputError: no such folder, or no readable model; later, no usable view or no usable pair.
        MissingDependencyError: pycolmap is not installed.
    """

    def __init__(self, config: SourceConfig) -> None:
        from samfeat_hloc._pycolmap import read_model

        if config.images is None:
            raise ConfigError(f"{config.path} is a COLMAP model; give the folder of its images as `images`")
        self.config, self.skipped = config, Skipped()
        self.images = Path(config.images)
        if not self.images.is_dir():
            raise InputError(f"{self.images} is no folder; expected the images of the model in {config.path}")
        model = read_model(check_folder(config))
        self._ids = {image.name: image_id for image_id, image in model.images.items()}
        self._model: Any = model
        self.num_files = len(self._ids)

    def views(self) -> Iterator[View]:
        """All images of the model that can be read and have the size the model says."""
        expected = f"the images of the model, in {self.images}"
        return guard_empty(self._views(), self.config, self.skipped, expected)

    def _views(self) -> Iterator[View]:
        self._maker = ViewMaker(self.config, self.skipped)
        self._observed: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        for name in sorted(self._ids):
            view = self._maker.make(name, self.images / name)
            if view is None:
                continue
            image = self._model.images[self._ids[name]]
            camera = self._model.cameras[image.camera_id]
            if (camera.width, camera.height) != self._maker.placements[name].stored:
                self.skipped.count("image of another size than the model says")
                continue
            self._observed[name] = _observations(image)
            yield view
        self._maker.close()

    def pairs(self) -> Iterator[Pair]:
        """Pairs of views with enough common tracks and the overlap wanted, in random order."""
        rng = np.random.default_rng([self.config.seed, 4006])
        names = list(self._observed)
        limit = PAIRS_PER_VIEW * len(names) if self.config.limit is None else self.config.limit
        found = 0
        for first, second in rng.permutation(self._candidates(names)).tolist():
            if found >= limit:
                break
            points = self._points(names[first], names[second], rng)
            if points is not None:
                found += 1
                yield Pair(names[first], names[second], points)
        if not found:
            raise no_pair(self.config, self.skipped)

    def _candidates(self, names: list[str]) -> npt.NDArray[np.int64]:
        """(P, 2) views with enough common 3D points and the overlap wanted."""
        ids = [self._observed[name][0] for name in names]
        counts = np.array([len(each) for each in ids])
        _, columns = np.unique(np.concatenate(ids) if ids else np.zeros(0, np.int64), return_inverse=True)
        rows = np.repeat(np.arange(len(names)), counts)
        order = np.argsort(columns, kind="stable")
        observers, starts = rows[order], np.searchsorted(columns[order], np.arange(len(columns) + 1))
        low, high = self.config.overlap
        found = []
        for view, own in enumerate(np.split(columns, np.cumsum(counts)[:-1])):
            lengths = starts[own + 1] - starts[own]
            places = np.repeat(starts[own] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
            common = np.bincount(observers[places], minlength=len(names))
            overlap = common / np.maximum(np.maximum(counts, counts[view]), 1)
            usable = (common >= FEWEST_TRACKS) & (overlap >= low) & (overlap <= high)
            found += [(view, int(other)) for other in np.flatnonzero(usable) if other > view]
        return np.array(found, np.int64).reshape(-1, 2)

    def _points(self, first: str, second: str, rng: np.random.Generator) -> npt.NDArray[np.float32] | None:
        """(M, 4) corresponding pixels of two views that lie inside both; None when they are too few."""
        (first_ids, first_xy), (second_ids, second_xy) = self._observed[first], self._observed[second]
        _, at_first, at_second = np.intersect1d(first_ids, second_ids, return_indices=True)
        placements = self._maker.placements[first], self._maker.placements[second]
        points = np.concatenate(
            [placements[0].to_view(first_xy[at_first]), placements[1].to_view(second_xy[at_second])], axis=1
        )
        limits = np.array([*placements[0].size, *placements[1].size]) - 1
        points = points[((points >= 0) & (points <= limits)).all(axis=1)]
        if len(points) < FEWEST_TRACKS:
            self.skipped.count("pair with too few correspondences")
            return None
        return points[spread(points[:, :2], placements[0].size, MAX_POINTS, rng)].astype(np.float32)


def _observations(image: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(N,) ids of the 3D points an image observes, each once, and (N, 2) where, in features.h5's pixels."""
    from samfeat_hloc._pycolmap import from_colmap, point3D_ids

    ids = point3D_ids(image)
    xy = np.array([point.xy for point in image.points2D], np.float64).reshape(-1, 2)
    unique, first = np.unique(ids, return_index=True)
    first = first[unique >= 0]
    return ids[first], from_colmap(xy[first])
