"""A pack as a source: its views and pairs as they are stored."""

from __future__ import annotations

from collections.abc import Iterator

from samfeat_hloc.errors import ConfigError
from training.packing.reader import Pack
from training.records import Pair, Skipped, SourceConfig, View
from training.sources.views import FileView


class PackSource:
    """All sources of a pack as one; a view's name has the number of its source in front.

    Raises:
        InputError: no such file, a damaged one, or one of another program.
        ConfigError: keypoints or a teacher are asked for, which must be given when the pack is made.
    """

    def __init__(self, config: SourceConfig) -> None:
        if config.teacher or config.keypoints:
            raise ConfigError(f"{config.path} is a pack; give its sources their teacher and keypoints when packing")
        self.config, self.skipped = config, Skipped()
        self.pack = Pack(config.path)
        self.num_files, self.num_pairs = len(self.pack), self.pack.num_pairs
        for source in self.pack.sources:
            for reason, number in source.skipped.items():
                self.skipped.count(reason, number)

    def views(self) -> Iterator[View]:
        """Every view of the pack."""
        for index in range(len(self.pack)):
            view = self.pack.view(index)
            yield FileView(self._name(index), view.image, view.teacher, view.keypoints, self.pack.encoded(index))

    def pairs(self) -> Iterator[Pair]:
        """Every pair of the pack."""
        for index in range(self.pack.num_pairs):
            first, second, points = self.pack.pair(index)
            yield Pair(self._name(first), self._name(second), points)

    def _name(self, index: int) -> str:
        return f"{self.pack.view_source[index]}/{self.pack.names[index]}"
