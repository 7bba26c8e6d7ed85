"""The format of a pack: the views and pairs of several sources in one HDF5 file that travels with the code.

attributes   format, format_version, package_version, and `header`: JSON with the options and, for every source, its
             configuration, its teacher's signature, what was skipped and what was left out for the size
names        the views' names, JSON
views/       source (V,), size (V, 2) width and height, extent (V, 2), as TeacherRow's, and blobs (packing/blobs.py):
             image, embedding (h, w, C), scale, groups, edges, keypoints
pairs/       views (P, 2), and blobs points
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.config import from_dict
from samfeat_hloc.errors import InputError, SamfeatError
from samfeat_hloc.formats.h5store import open_h5
from training.packing.blobs import BlobReader
from training.packing.chapters import Chapter, plan_chapters
from training.packing.codec import decode_array, decode_image, decode_points, restore_embedding
from training.records import SourceConfig, TeacherRow, View

FORMAT = "samfeat-hloc training pack"
FORMAT_VERSION = 1
VIEW_BLOBS = ("image", "embedding", "scale", "groups", "edges", "keypoints")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackedSource:
    """One source of a pack: where it came from and what did not come along.

    Attributes:
        config: what was packed.
        views: number of its views here.
        pairs: number of its pairs here.
        skipped: what the source left out, by reason.
        left_out: views that were left out so that the file is not larger than its limit.
        teacher: its teacher's signature.
        relation_error: mean absolute difference of the cosines of its embeddings' cells, before and after packing.
    """

    config: SourceConfig
    views: int
    pairs: int
    skipped: dict[str, int]
    left_out: int
    teacher: dict[str, Any] | None
    relation_error: float | None


class Pack:
    """Reads a pack, one view or pair at a time. A context manager.

    Attributes:
        path: of the file.
        header: everything that is known about its making, as JSON.
        sources: its sources.
        view_source: (V,) source of each view.
        sizes: (V, 2) width and height of each view.
        pair_views: (P, 2) views of each pair.

    Raises:
        InputError: no such file, a damaged one, or one of another program.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._context = open_h5(self.path)
        self._file = self._context.__enter__()
        try:
            self._open()
        except SamfeatError:
            self.close()
            raise
        except (KeyError, ValueError, TypeError, AttributeError, OSError) as error:
            self.close()
            raise InputError(f"{self.path} is a damaged pack ({error}); make it again with training.pack") from None

    def _open(self) -> None:
        attrs, file = self._file.attrs, self._file
        if attrs.get("format") != FORMAT:
            raise InputError(f"{self.path} is not a pack; make one with: python -m training.pack --output FILE")
        if int(attrs["format_version"]) != FORMAT_VERSION:
            raise InputError(
                f"{self.path} is a pack of format {attrs['format_version']}, this program reads {FORMAT_VERSION}; "
                "make it again with training.pack"
            )
        self.header: dict[str, Any] = json.loads(attrs["header"])
        self.sources = [
            PackedSource(**{**entry, "config": from_dict(SourceConfig, entry["config"])})
            for entry in self.header["sources"]
        ]
        self.names: list[str] = json.loads(bytes(file["names"][()].tobytes()))
        views, pairs = file["views"], file["pairs"]
        self.view_source: Indices = views["source"][()].astype(np.int64)
        self.sizes: Indices = views["size"][()].astype(np.int64)
        self._extent = views["extent"][()]
        self._blobs = {name: BlobReader(views[name]) for name in VIEW_BLOBS}
        self.pair_views: Indices = pairs["views"][()].astype(np.int64).reshape(-1, 2)
        self._points = BlobReader(pairs["points"])
        counts = {len(self.names), len(self.view_source), *(len(blobs) for blobs in self._blobs.values())}
        if counts != {len(self.sizes)} or len(self._points) != len(self.pair_views):
            raise InputError(f"{self.path} is a damaged pack: its tables differ in length; make it again")

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""
        return len(self.pair_views)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """(sources,) how often each source is drawn, relative to the others."""
        return np.array([source.config.weight for source in self.sources])

    @property
    def pair_source(self) -> Indices:
        """(P,) source of each pair."""
        return self.view_source[self.pair_views[:, 0]]

    def view(self, index: int) -> View:
        """One view, its teacher's embedding with fewer channels and cells than the teacher's own.

        Raises:
            InputError: its bytes are damaged.
        """
        what = f"view {self.names[index]} of {self.path}"
        embedding, groups, edges = (self._array(index, name, what) for name in ("embedding", "groups", "edges"))
        extent = None
        if embedding is not None:
            embedding = restore_embedding(embedding, self._array(index, "scale", what))
            extent = self.extent(index)
        blob = self._blobs["keypoints"].read(index)
        keypoints = decode_points(blob, what) if blob else None
        row = TeacherRow(embedding, extent, groups, edges)
        return View(self.names[index], self.image(index), row, keypoints)

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of one view alone."""
        return decode_image(self.encoded(index), f"view {self.names[index]} of {self.path}")

    def encoded(self, index: int) -> bytes:
        """One view's photograph as it is stored."""
        return self.blob(index, "image")

    def blob(self, index: int, part: str) -> bytes:
        """One of VIEW_BLOBS as it is stored; empty for none."""
        return self._blobs[part].read(index)

    def points_blob(self, index: int) -> bytes:
        """A pair's points as they are stored."""
        return self._points.read(index)

    def extent(self, index: int) -> tuple[float, float]:
        """Columns and rows of a view's embedding that the image covers."""
        return float(self._extent[index, 0]), float(self._extent[index, 1])

    def view_bytes(self) -> Indices:
        """(V,) bytes of each view's parts."""
        return np.sum([blobs.sizes for blobs in self._blobs.values()], axis=0)

    def pair_bytes(self) -> Indices:
        """(P,) bytes of each pair's points."""
        return self._points.sizes

    def pair(self, index: int) -> tuple[int, int, npt.NDArray[np.float32]]:
        """Index of the first view, of the second, and (M, 4) float32 corresponding pixels x y, x y."""
        first, second = self.pair_views[index]
        return int(first), int(second), decode_points(self._points.read(index), f"pair {index} of {self.path}")

    def num_chapters(self, resident_views: int, seed: int = 0) -> int:
        """How many chapters of at most `resident_views` views cover the pack."""
        return len(self._plan(resident_views, seed))

    def chapter(self, k: int, resident_views: int, seed: int = 0) -> Chapter:
        """Views and pairs of the k-th chapter (counted round); see `plan_chapters`.

        Raises:
            ConfigError: room for less than two views of every source.
        """
        plan = self._plan(resident_views, seed)
        return plan[k % len(plan)]

    @lru_cache(maxsize=1)  # noqa: B019 - a pack lives as long as its run
    def _plan(self, resident_views: int, seed: int) -> list[Chapter]:
        return plan_chapters(self.view_source, self.pair_views, resident_views, seed)

    def _array(self, index: int, name: str, what: str) -> Any:
        blob = self._blobs[name].read(index)
        return decode_array(blob, what) if blob else None

    def close(self) -> None:
        """Close the file."""
        self._context.__exit__(None, None, None)

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
