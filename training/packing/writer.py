"""Writes packs: views and pairs one at a time, and parts of packs that are too large."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from samfeat_hloc._version import __version__
from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import ConfigError
from training.packing.blobs import BlobWriter
from training.packing.codec import (
    encode_array,
    encode_image,
    encode_points,
    shrink_edges,
    shrink_embedding,
    shrink_groups,
)
from training.packing.reader import FORMAT, FORMAT_VERSION, VIEW_BLOBS, Indices, Pack
from training.records import Pair, SourceConfig, View
from training.sources.covisible import spread


@dataclass(frozen=True)
class PackOptions:
    """How much of each part a pack keeps.

    Attributes:
        quality: WebP quality of photographs that were reduced, or whose files are neither JPEG nor WebP; the bytes of
            all others are kept.
        tight_quality: WebP quality of every photograph when the pack would be larger than its limit.
        cells: largest number of cells a side of an embedding.
        channels: largest number of its channels.
        group_cells: largest number of cells a side of a grouping.
        edge_cells: largest number of cells a side of an edge map.
        pair_points: correspondences of a pair.
        seed: of every random choice.
    """

    quality: int = 80
    tight_quality: int = 70
    cells: int = 32
    channels: int = 32
    group_cells: int = 128
    edge_cells: int = 192
    pair_points: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < (0 if name == "seed" else 1) or (name.endswith("quality") and value > 100):
                raise ConfigError(f"{name} is {value}; expected a positive number, and at most 100 for a quality")


@dataclass
class _SourceEntry:
    """What the header says of a source; counted while it is packed."""

    config: dict[str, Any]
    views: int = 0
    pairs: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    teacher: dict[str, Any] | None = None
    relation_error: float | None = None


class PackWriter:
    """Writes one file; `begin` a source, then its views, then its pairs. A context manager.

    Args:
        path: the file, replaced.
        options: how much to keep.
    """

    def __init__(self, path: Path, options: PackOptions) -> None:
        self.options = options
        self._file = h5py.File(path, "w", libver="latest")
        views, pairs = self._file.create_group("views"), self._file.create_group("pairs")
        self._blobs = {name: BlobWriter(views.create_group(name)) for name in VIEW_BLOBS}
        self._points = BlobWriter(pairs.create_group("points"))
        self._names: list[str] = []
        self._source: list[int] = []
        self._sizes: list[tuple[int, int]] = []
        self._extents: list[tuple[float, float]] = []
        self._pair_views: list[tuple[int, int]] = []
        self._index: dict[str, int] = {}
        self._errors: list[float] = []
        self.entries: list[_SourceEntry] = []
        self._rng = np.random.default_rng([options.seed, 4004])

    def begin(self, config: SourceConfig, teacher: dict[str, Any] | None = None) -> _SourceEntry:
        """The next source; views and pairs from now on are its."""
        self.entries.append(_SourceEntry(to_dict(config), teacher=teacher))
        self._index, self._errors = {}, []
        return self.entries[-1]

    def add_view(self, view: View) -> None:
        """A view of the source that was begun last."""
        options, row = self.options, view.teacher
        encoded = getattr(view, "encoded", None) or encode_image(view.image, options.quality)
        blobs = {"image": encoded}
        extent = (0.0, 0.0)
        if row.embedding is not None:
            small = shrink_embedding(row.embedding, row.extent, options.cells, options.channels)
            blobs |= {"embedding": encode_array(small.values), "scale": encode_array(small.scale)}
            extent = small.extent
            self._errors.append(small.error)
            self.entries[-1].relation_error = float(np.mean(self._errors))
        if row.groups is not None:
            blobs["groups"] = encode_array(shrink_groups(row.groups, options.group_cells))
        if row.edges is not None:
            blobs["edges"] = encode_array(shrink_edges(row.edges, options.edge_cells))
        if view.keypoints is not None:
            blobs["keypoints"] = encode_points(view.keypoints)
        self.add_encoded(view.name, (view.image.shape[1], view.image.shape[0]), extent, blobs)

    def add_encoded(
        self, name: str, size: tuple[int, int], extent: tuple[float, float], blobs: dict[str, bytes]
    ) -> None:
        """A view whose parts are bytes already."""
        self._index[name] = len(self._names)
        self._names.append(name)
        self._source.append(len(self.entries) - 1)
        self._sizes.append(size)
        self._extents.append(extent)
        for part, writer in self._blobs.items():
            writer.append(blobs.get(part, b""))
        self.entries[-1].views += 1

    def add_pair(self, pair: Pair) -> None:
        """A pair of two views of the source that was begun last."""
        size = self._sizes[self._index[pair.first]]
        keep = spread(pair.points[:, :2], size, self.options.pair_points, self._rng)
        self.add_encoded_pair(pair.first, pair.second, encode_points(pair.points[keep]))

    def add_encoded_pair(self, first: str, second: str, points: bytes) -> None:
        """A pair whose points are bytes already."""
        self._pair_views.append((self._index[first], self._index[second]))
        self._points.append(points)
        self.entries[-1].pairs += 1

    def has(self, name: str) -> bool:
        """Whether the source that was begun last has given a view of that name."""
        return name in self._index

    def _finish(self) -> None:
        for writer in (*self._blobs.values(), self._points):
            writer.close()
        file, views = self._file, self._file["views"]
        file.create_dataset("names", data=np.frombuffer(json.dumps(self._names).encode(), np.uint8))
        views.create_dataset("source", data=np.array(self._source, np.int32))
        views.create_dataset("size", data=np.array(self._sizes, np.int32).reshape(-1, 2))
        views.create_dataset("extent", data=np.array(self._extents, np.float64).reshape(-1, 2))
        file["pairs"].create_dataset("views", data=np.array(self._pair_views, np.int32).reshape(-1, 2))
        header = {"options": to_dict(self.options), "sources": [vars(entry) for entry in self.entries]}
        file.attrs.update(
            format=FORMAT, format_version=FORMAT_VERSION, package_version=__version__, header=json.dumps(header)
        )

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()


def copy_part(
    pack: Pack,
    path: Path,
    options: PackOptions,
    kept: Indices,
    image_of: Callable[[int], bytes],
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> None:
    """Write some views of a pack, and the pairs among them, as another pack.

    Args:
        pack: what to copy from.
        path: the file to write.
        options: what the header says.
        kept: indices of the views that stay.
        image_of: bytes of the photograph of a view.
        watch: shows the progress of the views.
    """
    chosen = np.zeros(len(pack), bool)
    chosen[kept] = True
    pair_source = pack.pair_source
    with PackWriter(path, options) as writer:
        views = iter(watch([int(view) for view in np.flatnonzero(chosen)]))
        for number, source in enumerate(pack.sources):
            entry = writer.begin(source.config, source.teacher)
            entry.skipped, entry.relation_error = source.skipped, source.relation_error
            for _ in range(int((chosen & (pack.view_source == number)).sum())):
                view = next(views)
                width, height = (int(side) for side in pack.sizes[view])
                blobs = {name: pack.blob(view, name) for name in VIEW_BLOBS[1:]} | {"image": image_of(view)}
                writer.add_encoded(pack.names[view], (width, height), pack.extent(view), blobs)
            entry.left_out = source.left_out + source.views - entry.views
            for pair in np.flatnonzero((pair_source == number) & chosen[pack.pair_views].all(axis=1)):
                first, second = pack.pair_views[pair]
                writer.add_encoded_pair(pack.names[first], pack.names[second], pack.points_blob(int(pair)))
        next(views, None)
