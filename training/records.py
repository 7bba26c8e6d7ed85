"""What one photograph and one pair of photographs bring to training, before anything is random.

    source -> View, Pair -> pack -> bank (on the device) -> Batch -> losses

Pixels: the centre of the top-left pixel is (0, 0). A map of (h, w) cells over an image of (H, W) pixels has the centre
of cell (row, column) at x = (column + 0.5) * W / w - 0.5, y = (row + 0.5) * H / h - 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import ConfigError

Image = npt.NDArray[np.uint8]
MAX_POINTS = 4096
"""Correspondences of a pair that are kept."""


@dataclass(frozen=True)
class TeacherRow:
    """What a teacher says about one image; a part that is None is switched off for this image.

    Attributes:
        embedding: (C, h, w) float16, whose cosines are the relations to learn (C = 256 for SAM). A teacher that pads
            its input stores the cells that see the image, and nothing else.
        extent: columns and rows of the embedding that the image covers, not always whole: pixel x lies at column
            (x + 0.5) / W * extent[0] - 0.5. None: all of it.
        groups: (h, w) int16 at any resolution: semantic grouping of each cell, 0 uncovered.
        edges: (h, w) uint8 at any resolution, 0 to 255.
    """

    embedding: npt.NDArray[np.float16] | None = None
    extent: tuple[float, float] | None = None
    groups: npt.NDArray[np.int16] | None = None
    edges: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class View:
    """One photograph.

    Attributes:
        name: unique in its source.
        image: (H, W, 3) uint8 RGB.
        teacher: its row.
        keypoints: (K, 2) float32 x, y where the detector shall fire; None: corners are found during training.
    """

    name: str
    image: Image
    teacher: TeacherRow = field(default_factory=TeacherRow)
    keypoints: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Pair:
    """Two views of one scene: points (M, 4) float32, x y in the first view and x y in the second, M <= MAX_POINTS."""

    first: str
    second: str
    points: npt.NDArray[np.float32]


class Skipped(dict[str, int]):
    """What was left out of a source, counted by reason."""

    def count(self, reason: str, number: int = 1) -> None:
        """Add to a reason."""
        self[reason] = self.get(reason, 0) + number


class Source(Protocol):
    """A place photographs come from. Every view and every pair is given once, one at a time in memory."""

    skipped: Skipped

    def views(self) -> Iterator[View]:
        """All readable views; an unreadable one is counted in `skipped`."""
        ...

    def pairs(self) -> Iterator[Pair]:
        """All usable pairs of those views; none from a folder of photographs. Called after `views` is exhausted."""
        ...


class Teacher(Protocol):
    """Whoever says how the pixels of an image belong together."""

    @property
    def signature(self) -> dict[str, Any]:
        """Everything its rows depend on (kind, sha256 of its weights, settings), as plain JSON."""
        ...

    def row(self, path: Path, image: Image) -> TeacherRow | None:
        """The row of the image file at `path`, whose pixels are given; None when the teacher has nothing about it.

        Raises:
            InputError: what the teacher has belongs to an image of another size.
        """
        ...


@dataclass(frozen=True)
class SourceConfig:
    """One source of a training run.

    Attributes:
        kind: photos: a folder of photographs; rgbd: colour, depth and pose files, see datasets/rgbd.py; colmap: a
            COLMAP reconstruction whose tracks correspond; megadepth: raw MegaDepth; mtldesc: the MTLDesc release's
            layout; town: a rendered town, written to `path` when it is not there; pack: written by `training.pack`.
        path: its folder or file.
        weight: how often it is drawn, relative to the other sources.
        teacher: "segmentation" (maps beside the photographs), "rendered" (instance masks beside them), a folder written
            by `training.teacher`, or None.
        keypoints: a features file whose keypoints are the detector's targets; None: repeatable corners, found while
            training.
        images: colmap only: the folder of its images.
        limit: at most this many views (of photos), or pairs.
        max_side: larger images are reduced to this long side.
        overlap: smallest and largest overlap of a pair: the share of one view's points that the other sees.
        seed: of the town, and of every random choice.
    """

    kind: Literal["photos", "rgbd", "colmap", "megadepth", "mtldesc", "town", "pack"]
    path: str
    weight: float = 1.0
    teacher: str | None = None
    keypoints: str | None = None
    images: str | None = None
    limit: int | None = None
    max_side: int = 512
    overlap: tuple[float, float] = (0.15, 0.8)
    seed: int = 1000

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ConfigError(f"weight of {self.path} is {self.weight}; expected a positive number")
        low, high = self.overlap
        if not 0 <= low < high <= 1:
            raise ConfigError(f"overlap of {self.path} is {self.overlap}; expected 0 <= smallest < largest <= 1")
