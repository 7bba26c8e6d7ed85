"""The MTLDesc release's layout (datasets/mtldesc.py): two views and one pair from each file, keypoints given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from datasets.mtldesc import SideBySide, list_pairs, read_halves, read_keypoints, read_points
from samfeat_hloc.errors import ConfigError, InputError
from training.records import MAX_POINTS, Pair, Skipped, SourceConfig, View
from training.sources.views import FileView, ViewMaker, check_folder, guard_empty, no_pair


class MtldescSource:
    """Pairs as they were cut; `limit` takes a random part of them, `overlap` has no effect.

    Raises:
        InputError: no such folder, or no pair in it; later, no usable one.
        ConfigError: a teacher is wanted and the views are no files of their own yet.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.skipped = config, Skipped()
        pairs = list_pairs(check_folder(config))
        if config.limit is not None and config.limit < len(pairs):
            picked = np.random.default_rng([config.seed, 4007]).choice(len(pairs), config.limit, replace=False)
            pairs = [pairs[index] for index in sorted(picked)]
        if config.teacher and not all(path.is_file() for pair in pairs for path in pair.halves):
            raise ConfigError(
                f"a teacher needs one file a view; write them with: python -m datasets.mtldesc {config.path}"
            )
        self._all, self.num_files = pairs, 2 * len(pairs)

    def views(self) -> Iterator[View]:
        """The left and the right view of every usable pair, as NAME_0 and NAME_1."""
        expected = "image/NAME.jpg with keypoint/NAME.npz and despoint/NAME.npz"
        return guard_empty(self._views(), self.config, self.skipped, expected)

    def _views(self) -> Iterator[View]:
        self._maker = ViewMaker(self.config, self.skipped)
        self._usable: list[tuple[str, npt.NDArray[np.float32]]] = []
        for pair in self._all:
            try:
                halves, points = read_halves(pair.image), read_points(pair.points)
                keypoints = read_keypoints(pair.keypoints)
            except InputError:
                self.skipped.count("unreadable image, keypoints or points", 2)
                continue
            limits = np.array(halves[0].shape[1::-1] * 2) - 1
            points = points[((points >= 0) & (points <= limits)).all(axis=1)][:MAX_POINTS]
            if not len(points):
                self.skipped.count("pair without a correspondence", 2)
                continue
            both = [self._make(pair, index, halves[index], keypoints[index]) for index in (0, 1)]
            views = [view for view in both if view is not None]
            if len(views) < 2:
                self.skipped.count("other half of a view that was left out", len(views))
                continue
            self._usable.append((pair.name, points))
            yield from views
        self._maker.close()

    def _make(
        self, pair: SideBySide, index: int, image: npt.NDArray[np.uint8], keypoints: npt.NDArray[np.float32]
    ) -> FileView | None:
        name = f"{pair.name}_{index}"
        view = self._maker.make_of(name, pair.halves[index], image)
        if view is None or view.keypoints is not None:
            return view
        placed = self._maker.placements[name].to_view(keypoints).astype(np.float32)
        return FileView(name, view.image, view.teacher, placed)

    @property
    def num_pairs(self) -> int:
        """How many pairs there are; when all views were given."""
        return len(self._usable)

    def pairs(self) -> Iterator[Pair]:
        """One pair from each file.

        Raises:
            InputError: there is none.
        """
        if not self._usable:
            raise no_pair(self.config, self.skipped)
        for name, points in self._usable:
            ends = f"{name}_0", f"{name}_1"
            halves = [
                self._maker.placements[end].to_view(half)
                for end, half in zip(ends, np.split(points, 2, axis=1), strict=True)
            ]
            yield Pair(*ends, np.concatenate(halves, axis=1).astype(np.float32))
