"""Folders of photographs: views without pairs, which training pairs with themselves by random homographies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samfeat_hloc.errors import InputError
from training.records import Pair, Skipped, SourceConfig, View
from training.sources.views import MIN_SIDE, ViewMaker, check_folder, guard_empty
from training.teachers.labels import is_photograph

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".ppm", ".pgm", ".bmp", ".tif", ".tiff"})


class PhotoSource:
    """Every photograph below a folder; `limit` takes a random part of them, the same at the same seed.

    Raises:
        InputError: no such folder, or no photograph in it; later, no readable one.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.root = config, check_folder(config)
        self.skipped = Skipped()
        self._paths = choose(list_photos(self.root), config.limit, config.seed)
        self.num_files = len(self._paths)
        if not self._paths:
            raise InputError(f"{self.root} has no photograph ({', '.join(sorted(SUFFIXES))}); check the folder")

    def views(self) -> Iterator[View]:
        """All readable photographs, by name relative to the folder."""
        expected = f"photographs with sides of at least {MIN_SIDE} px"
        return guard_empty(self._views(), self.config, self.skipped, expected)

    def _views(self) -> Iterator[View]:
        maker = ViewMaker(self.config, self.skipped)
        for path in self._paths:
            view = maker.make(path.relative_to(self.root).as_posix(), path)
            if view is not None:
                yield view
        maker.close()

    def pairs(self) -> Iterator[Pair]:
        """None."""
        return iter(())


def list_photos(root: Path) -> list[Path]:
    """Photographs below a folder, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and is_photograph(path.name)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def choose(paths: list[Path], limit: int | None, seed: int) -> list[Path]:
    """At most `limit` of the paths, drawn at random, in their old order."""
    if limit is None or limit >= len(paths):
        return paths
    picked = np.random.default_rng([seed, 4001]).choice(len(paths), limit, replace=False)
    return [paths[index] for index in sorted(picked)]
