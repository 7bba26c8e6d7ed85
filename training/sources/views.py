"""From an image file to a view: upright, reduced, with its teacher row and given keypoints, all in the same pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.images import SWAPPED, read_image, stored_size
from training.records import Image, Skipped, SourceConfig, Teacher, TeacherRow, View

MIN_SIDE = 96
"""Smaller photographs are left out."""
KEPT_SUFFIXES = frozenset({".jpg", ".jpeg", ".webp"})
"""Files whose bytes a pack can take as they are."""
NO_ROW = "kept without a teacher row"


@dataclass(frozen=True)
class FileView(View):
    """A view that knows its file's bytes, when they are exactly its image, else None."""

    encoded: bytes | None = None


@dataclass(frozen=True)
class Placement:
    """How the pixels of an image file became those of a view.

    Attributes:
        stored: width and height of the file's image.
        size: width and height of the view.
        orientation: the file's EXIF orientation, 1 to 8; the view is upright.
    """

    stored: tuple[int, int]
    size: tuple[int, int]
    orientation: int = 1

    def to_view(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, 2) pixels of the file's image in those of the view."""
        x, y = np.asarray(points, np.float64).reshape(-1, 2).T
        width, height = self.stored
        if self.orientation in SWAPPED:
            x, y, width, height = y, x, height, width
        if self.orientation in (2, 3, 6, 7):
            x = width - 1 - x
        if self.orientation in (3, 4, 7, 8):
            y = height - 1 - y
        return rescale(np.stack([x, y], axis=1), (width, height), self.size)


def rescale(points: npt.ArrayLike, old: tuple[int, int], new: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(N, 2) pixels of a grid of old width and height in those of a grid of another over the same picture."""
    scale = np.array(new, np.float64) / old
    return (np.asarray(points, np.float64) + 0.5) * scale - 0.5


def reduce_image(image: Image, max_side: int) -> Image:
    """(H, W, 3) with its long side at most `max_side`: every new pixel is the mean of the area it covers."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    from PIL import Image as pillow

    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(pillow.fromarray(image).resize(size, pillow.Resampling.BOX))


class ViewMaker:
    """Makes the views of a source and counts those that it cannot make.

    Args:
        config: of the source.
        skipped: where to count.

    Raises:
        InputError: the teacher or the keypoints of the configuration are not there.
    """

    def __init__(self, config: SourceConfig, skipped: Skipped) -> None:
        self.config, self.skipped = config, skipped
        self.placements: dict[str, Placement] = {}
        self.teacher = _open_teacher(config.teacher)
        self._keypoints = FeatureReader(config.keypoints) if config.keypoints else None

    def make(self, name: str, path: Path) -> FileView | None:
        """The view of an image file; None when it cannot be used, which is counted."""
        try:
            image, orientation = read_image(path)
        except InputError:
            self.skipped.count("unreadable image")
            return None
        view = self.make_of(name, path, image, orientation)
        whole = view is not None and view.image is image and orientation == 1
        if view is None or not whole or path.suffix.lower() not in KEPT_SUFFIXES:
            return view
        return FileView(view.name, view.image, view.teacher, view.keypoints, path.read_bytes())

    def make_of(self, name: str, path: Path, image: Image, orientation: int = 1) -> FileView | None:
        """The view of an upright image (H, W, 3) that came from the file; None when it cannot be used."""
        size = (image.shape[1], image.shape[0])
        if min(size) < MIN_SIDE:
            self.skipped.count(f"smaller than {MIN_SIDE} px")
            return None
        if self._keypoints is not None and name not in self._keypoints:
            self.skipped.count("no keypoints")
            return None
        try:
            row = self.teacher.row(path, image) if self.teacher else None
        except InputError:
            self.skipped.count("teacher row of another image")
            return None
        if self.teacher and row is None:
            self.skipped.count(NO_ROW)
        reduced = reduce_image(image, self.config.max_side)
        placement = Placement(stored_size(size, orientation), (reduced.shape[1], reduced.shape[0]), orientation)
        self.placements[name] = placement
        keypoints = None
        if self._keypoints is not None:
            keypoints = placement.to_view(self._keypoints.read_keypoints(name)).astype(np.float32)
        return FileView(name, reduced, row or TeacherRow(), keypoints)

    def close(self) -> None:
        """Close the keypoints' file; the placements stay."""
        if self._keypoints is not None:
            self._keypoints.close()


def guard_empty(views: Iterator[View], config: SourceConfig, skipped: Skipped, expected: str) -> Iterator[View]:
    """The views themselves.

    Raises:
        InputError: there was none; the message names the folder and why.
    """
    found = 0
    for view in views:
        found += 1
        yield view
    if not found:
        raise InputError(f"{config.path} has no usable view ({describe(skipped)}); expected {expected}")


def no_pair(config: SourceConfig, skipped: Skipped) -> InputError:
    """The error of a source of pairs that has none."""
    low, high = config.overlap
    return InputError(
        f"{config.path} has no usable pair of views ({describe(skipped)}); expected views that overlap by {low:g} to "
        f"{high:g}: widen `overlap`, or use it with kind=photos"
    )


def describe(skipped: Skipped) -> str:
    """What was skipped, in words."""
    return ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items())) or "nothing was skipped"


def check_folder(config: SourceConfig) -> Path:
    """The source's folder.

    Raises:
        InputError: there is none.
    """
    folder = Path(config.path)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected the folder of a source of kind {config.kind}")
    return folder


def _open_teacher(name: str | None) -> Teacher | None:
    if name is None:
        return None
    from training.teachers.store import open_teacher

    teacher: Teacher | None = open_teacher(name)
    return teacher
