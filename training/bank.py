"""The views and pairs of a run as tensors in the device's memory, so that drawing a batch touches no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.errors import InputError
from training.packing.chapters import Chapter
from training.packing.reader import Pack
from training.records import TeacherRow, View

POINT_STEPS = 32
"""Points of pairs are held in 1/32 px, as int16: up to 1,023 px."""
GROUP_CELLS, EDGE_CELLS = 128, 192
"""Groups and edges are held as square maps of so many cells, whatever the image's shape."""


class TeacherMaps(NamedTuple):
    """Teacher rows of T views, stretched to squares; what a view lacks is marked absent."""

    embedding: Tensor  # (T, C, E, E) float16
    has_embedding: Tensor  # (T,) bool
    groups: Tensor  # (T, 1, G, G) int16
    has_groups: Tensor  # (T,) bool
    edges: Tensor  # (T, 1, K, K) uint8
    has_edges: Tensor  # (T,) bool


class Bank:
    """P views and Q pairs.

    Views are read twice, one at a time: once for their sizes, once for their pixels.

    Args:
        count: P.
        read: the i-th view.
        view_source: (P,) which source each view is from.
        pair_views: (Q, 2) places of the views of each pair.
        read_points: (M, 4) float32 corresponding pixels x y, x y of the q-th pair.
        device: where the tensors lie.

    Attributes:
        photos: (P, 3, H, W) uint8, padded at the right and bottom.
        sizes: (P, 2) float32, width and height.
        keypoints: (P, K, 2) float32, NaN where a view has fewer; K may be 0.
        has_keypoints: (P,) bool: targets are given, though perhaps none.
        teacher: maps of the views that have a row, and `teacher_index` (P,) their place, -1 without.
        pair_views: (Q, 2) int64.
        pair_points: (Q, M, 4) int16 in 1/32 px; `pair_counts` (Q,) of them are used.
        view_source, pair_source: (P,), (Q,) int64 on the CPU.

    Raises:
        InputError: no view at all, or embeddings of different numbers of channels.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[int], View],
        view_source: npt.NDArray[np.int64],
        pair_views: npt.NDArray[np.int64],
        read_points: Callable[[int], npt.NDArray[np.float32]],
        device: torch.device,
    ) -> None:
        if not count:
            raise InputError("the training data hold no view; give sources with readable photographs")
        self.device = device
        outlines = [_Outline.of(read(i)) for i in range(count)]
        self._allocate(outlines)
        for i in range(count):
            self._fill(i, read(i))
        ends = torch.from_numpy(np.asarray(pair_views, np.int64).reshape(-1, 2))
        self.view_source = torch.from_numpy(np.asarray(view_source, np.int64))
        self.pair_source = self.view_source[ends[:, 0]]
        self.pair_views = ends.to(device)
        self.pair_points, self.pair_counts = _points(len(ends), read_points, device)

    @classmethod
    def of_pack(cls, pack: Pack, chapter: Chapter, device: torch.device) -> Bank:
        """The views and pairs of one chapter of a pack."""
        place = np.full(len(pack), -1, np.int64)
        place[chapter.views] = np.arange(len(chapter.views))
        return cls(
            len(chapter.views),
            lambda i: pack.view(int(chapter.views[i])),
            pack.view_source[chapter.views],
            place[pack.pair_views[chapter.pairs]],
            lambda q: pack.pair(int(chapter.pairs[q]))[2],
            device,
        )

    def __len__(self) -> int:
        return len(self.photos)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Photographs (B, 3, H, W) float32 in [0, 1] and their sizes (B, 2)."""
        return self.photos[indices].float() / 255, self.sizes[indices]

    def _allocate(self, outlines: Sequence[_Outline]) -> None:
        device, count = self.device, len(outlines)
        sizes = torch.tensor([one.size for one in outlines], dtype=torch.float32)
        width, height = (int(side) for side in sizes.amax(dim=0))
        self.sizes = sizes.to(device)
        self.photos = torch.zeros(count, 3, height, width, dtype=torch.uint8, device=device)
        most = max(one.keypoints for one in outlines)
        self.keypoints = torch.full((count, max(most, 0), 2), float("nan"), device=device)
        self.has_keypoints = torch.tensor([one.keypoints >= 0 for one in outlines], device=device)

        taught = torch.tensor([any(one.parts) for one in outlines])
        self.teacher_index = torch.where(taught, taught.cumsum(0) - 1, -1).to(device)
        channels = {one.channels for one in outlines if one.parts[0]}
        if len(channels) > 1:
            numbers = ", ".join(str(number) for number in sorted(channels))
            raise InputError(f"teacher embeddings of {numbers} channels cannot be mixed; pack them alike")
        rows, cells = int(taught.sum()), max(max(one.cells for one in outlines), 1)
        has = torch.tensor([one.parts for one in outlines if any(one.parts)], dtype=torch.bool, device=device)
        has = has.reshape(rows, 3)
        self.teacher = TeacherMaps(
            torch.zeros(rows, channels.pop() if channels else 1, cells, cells, dtype=torch.float16, device=device),
            has[:, 0],
            torch.zeros(rows, 1, GROUP_CELLS, GROUP_CELLS, dtype=torch.int16, device=device),
            has[:, 1],
            torch.zeros(rows, 1, EDGE_CELLS, EDGE_CELLS, dtype=torch.uint8, device=device),
            has[:, 2],
        )

    def _fill(self, i: int, view: View) -> None:
        rows, columns = view.image.shape[:2]
        self.photos[i, :, :rows, :columns] = torch.from_numpy(np.ascontiguousarray(view.image.transpose(2, 0, 1)))
        if view.keypoints is not None:
            self.keypoints[i, : len(view.keypoints)] = torch.from_numpy(np.asarray(view.keypoints, np.float32))
        place, row = int(self.teacher_index[i]), view.teacher
        if row.embedding is not None:
            self.teacher.embedding[place] = _stretch_embedding(row, self.teacher.embedding.shape[-1])
        if row.groups is not None:
            self.teacher.groups[place] = _stretch(row.groups, GROUP_CELLS, "nearest-exact")
        if row.edges is not None:
            self.teacher.edges[place] = _stretch(row.edges, EDGE_CELLS, "area").round()


class _Outline(NamedTuple):
    """What has to be known of a view before memory is taken for it."""

    name: str
    size: tuple[int, int]
    keypoints: int  # -1 when none are given
    parts: tuple[bool, bool, bool]
    channels: int
    cells: int

    @classmethod
    def of(cls, view: View) -> _Outline:
        row = view.teacher
        shape = (0, 0, 0) if row.embedding is None else row.embedding.shape
        parts = (row.embedding is not None, row.groups is not None, row.edges is not None)
        keypoints = -1 if view.keypoints is None else len(view.keypoints)
        size = (view.image.shape[1], view.image.shape[0])
        return cls(view.name, size, keypoints, parts, shape[0], max(shape[1:]))


def _points(count: int, read: Callable[[int], npt.NDArray[np.float32]], device: torch.device) -> tuple[Tensor, Tensor]:
    lists = [torch.from_numpy(np.round(read(q) * POINT_STEPS).astype(np.int16)) for q in range(count)]
    counts = torch.tensor([len(one) for one in lists], dtype=torch.int64)
    if not count:
        return torch.zeros(0, 0, 4, dtype=torch.int16, device=device), counts.to(device)
    return torch.nn.utils.rnn.pad_sequence(lists, batch_first=True).to(device), counts.to(device)


def _stretch(values: npt.NDArray[Any], cells: int, mode: str) -> Tensor:
    wanted = torch.from_numpy(values.astype(np.float32))[None, None]
    return F.interpolate(wanted, (cells, cells), mode=mode)[0]


def _stretch_embedding(row: TeacherRow, cells: int) -> Tensor:
    """The cells that see the image, resampled to a square."""
    values = torch.from_numpy(np.asarray(row.embedding, np.float32))
    rows, columns = values.shape[1:]
    across, down = row.extent or (columns, rows)
    steps = (torch.arange(cells, dtype=torch.float32) + 0.5) / cells
    x, y = steps * across / columns * 2 - 1, steps * down / rows * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return F.grid_sample(values[None], grid[None], padding_mode="border", align_corners=False)[0]
