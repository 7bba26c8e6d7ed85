"""Correspondences from depth, put right by the photographs themselves.

The colour and the depth of many RGB-D recordings come from two cameras side by side that nobody registered: 7-Scenes
gives one focal length for both, and its correspondences are 9 px off (median against SIFT matches, at 512 px). The way
from depth is then a good start and no more: the second photograph is warped by it onto the first, optical flow finds
what is left, and a point stays where the flow there and the flow back agree and the photographs look alike around it:
then the median is 0.9 px. Textureless surfaces drop out; so does night against day.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import MissingDependencyError
from training.records import Image

ROUNDS = 2
"""The second starts from the map of the first and reaches what was too far."""
RETURN_PX = 1.0
"""Largest distance between a pixel and where the two flows bring it back to."""
LIKENESS = 0.5
"""Smallest normalised cross-correlation of the windows around a point."""
WINDOW_PX = 15
SURROUNDINGS_PX, UNEVEN_PX = 9, 1.5
"""A pixel's shift is within so many px of the mean shift of the pixels around it."""
NOWHERE = np.float32(-1e4)
WHOLE = 0.99999
"""A pixel is known when all that it is interpolated from is: a hundredth of NOWHERE is a hundred pixels."""

Field = npt.NDArray[np.float32]
"""(H, W, 2) pixel of the second photograph that shows each pixel of the first; NOWHERE for none."""


def register(first: Image, second: Image, field: Field) -> tuple[Field, npt.NDArray[np.bool_]]:
    """Refine a dense map from the first photograph to the second, and say which of its pixels can be trusted.

    Args:
        first: (H, W, 3) uint8.
        second: (H2, W2, 3) uint8.
        field: (H, W, 2), right to about 20 px.

    Returns:
        the refined map, and (H, W) which pixels passed.

    Raises:
        MissingDependencyError: OpenCV is not installed.
    """
    cv2 = _opencv()
    grey, other = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = grey.shape
    pixels = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(np.float32)
    good = known = field[..., 0] > NOWHERE / 2
    for _ in range(ROUNDS):
        warped = np.where(known, _sample(cv2, other, field), grey)
        there, back = flow.calc(grey, warped, None), flow.calc(warped, grey, None)
        moved = pixels + there
        good = known & (np.linalg.norm(there + _sample(cv2, back, moved), axis=-1) < RETURN_PX)
        known = _sample(cv2, known.astype(np.float32), moved) > WHOLE
        good &= known
        field = np.where(known[..., None], _sample(cv2, field, moved), NOWHERE)
    rows, columns = other.shape
    good &= ((field >= 0) & (field <= [columns - 1, rows - 1])).all(axis=-1)
    good &= _smooth(cv2, field - pixels, known)
    return field, good & (_likeness(cv2, grey, _sample(cv2, other, field)) > LIKENESS)


def shift_px(before: Field, after: Field, good: npt.NDArray[np.bool_]) -> float:
    """Median distance between two maps where both are known; NaN where nothing is."""
    good = good & (before[..., 0] > NOWHERE / 2)
    return float(np.median(np.linalg.norm(before[good] - after[good], axis=-1))) if good.any() else float("nan")


def densify(points: npt.NDArray[np.float64], size: tuple[int, int]) -> Field:
    """The map for an image of a width and height from one for another grid over the same picture.

    Args:
        points: (h, w, 2) pixels of the second photograph, NaN for none.
        size: width and height of the first photograph.

    Raises:
        MissingDependencyError: OpenCV is not installed.
    """
    cv2 = _opencv()
    known = np.isfinite(points[..., 0])
    weight = cv2.resize(known.astype(np.float32), size)
    total = cv2.resize(np.where(known[..., None], points, 0).astype(np.float32), size)
    inside = cv2.resize(known.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    inside &= weight > 0.3
    return np.where(inside[..., None], total / np.maximum(weight, 0.3)[..., None], NOWHERE).astype(np.float32)


def _sample(cv2: Any, values: npt.NDArray[Any], places: Field) -> npt.NDArray[Any]:
    """(H, W) or (H, W, C) values at (H, W, 2) pixels, bilinear."""
    return np.asarray(cv2.remap(values, places, None, cv2.INTER_LINEAR))


def _smooth(cv2: Any, shift: Field, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(H, W) whether a pixel moves as those around it; not so on edges of depth, where front and back are mixed up."""
    window = (SURROUNDINGS_PX, SURROUNDINGS_PX)
    weight = np.maximum(cv2.blur(known.astype(np.float32), window), 1e-3)
    mean = cv2.blur(np.where(known[..., None], shift, np.float32(0)), window) / weight[..., None]
    return np.asarray(np.linalg.norm(shift - mean, axis=-1) < UNEVEN_PX)


def _likeness(cv2: Any, first: Image, second: Image) -> npt.NDArray[np.float32]:
    """(H, W) normalised cross-correlation of the windows around each pixel."""

    def mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(cv2.blur(values, (WINDOW_PX, WINDOW_PX)))

    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = mean(a), mean(b)
    spread = (mean(a * a) - mean_a**2) * (mean(b * b) - mean_b**2)
    return np.asarray((mean(a * b) - mean_a * mean_b) / np.sqrt(np.maximum(spread, 1.0)))


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f"registering depth with colour needs OpenCV ({error}); install it with: pip install opencv-python-headless"
        ) from None
    return cv2
