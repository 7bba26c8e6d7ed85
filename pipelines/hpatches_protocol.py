"""What is measured on one sequence in HPatches' layout: matching accuracy as D2-Net measures it, and homographies.

For every pair (image 1, image k) the matches of the two images are correct at t pixels when the first point, moved by
the known homography, lies at most t pixels from the second, in image k. A pair's accuracy is the share of its matches
that are correct, 0 when it has none. Source: Dusmanu et al., CVPR 2019.

Beside it, how good a homography the matches give: RANSAC with the settings of `RANSAC`, and the mean distance in pixels
between the four corners of image 1 moved by the estimated and by the known homography (DeTone et al., CVPRW 2018).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.hpatches import Sequence, read_sequence, read_sequences
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers import Matcher

FloatArray = npt.NDArray[np.float64]
THRESHOLDS = tuple(float(t) for t in range(1, 11))
"""Of the matching accuracy, pixels."""
CORRECT_AT = 3.0
CORNER_THRESHOLDS = (1.0, 3.0, 5.0)
"""A homography is right when its corner error is at most this, pixels."""
RANSAC: dict[str, Any] = {
    "method": "cv2.RANSAC",
    "threshold_px": 3.0,
    "max_iterations": 10000,
    "confidence": 0.9999,
    "seed": 0,
}


@dataclass(frozen=True)
class PairResult:
    """One pair of a sequence.

    Attributes:
        accuracy: share of correct matches at each threshold.
        matches: how many there are.
        correct: how many are within `CORRECT_AT` pixels.
        corner_error: of the estimated homography, pixels; inf when there is none.
    """

    accuracy: tuple[float, ...]
    matches: int
    correct: int
    corner_error: float = float("inf")


@dataclass(frozen=True)
class SequenceResult:
    """One sequence: its name, the keypoints used of each image, and its pairs."""

    name: str
    keypoints: tuple[int, ...]
    pairs: tuple[PairResult, ...]


def find_sequences(folder: Path | str) -> tuple[Path, list[Sequence]]:
    """The sequences of a folder without the eight that D2-Net leaves out; or the one sequence that `folder` is.

    Returns:
        the folder that holds the sequences' folders, and the sequences.

    Raises:
        InputError: no sequence there, or a damaged one.
    """
    folder = Path(folder).resolve()
    if (folder / "H_1_2").exists():
        return folder.parent, [read_sequence(folder)]
    sequences = read_sequences(folder)
    if not sequences:
        raise InputError(f"{folder} has only sequences that D2-Net's protocol leaves out; give the whole data set")
    return folder, sequences


def best_features(features: Features, count: int) -> Features:
    """The `count` best by score."""
    if len(features) <= count:
        return features
    order = np.argsort(-features.scores, kind="stable")[:count]
    return Features(
        features.keypoints[order],
        features.descriptors[order],
        features.scores[order],
        features.attention[order],
        features.image_size,
        features.uncertainty,
    )


def reprojection_errors(
    points0: npt.NDArray[np.floating[Any]], points1: npt.NDArray[np.floating[Any]], homography: FloatArray
) -> FloatArray:
    """(M,) distances in pixels between points0 (M, 2), moved by the (3, 3) homography, and points1 (M, 2)."""
    moved = np.column_stack([points0, np.ones(len(points0))]).astype(np.float64) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):  # a point on the horizon is nowhere in the other image
        errors: FloatArray = np.linalg.norm(moved[:, :2] / moved[:, 2:] - points1, axis=1)
    return errors


def estimate_homography(
    points0: npt.NDArray[np.floating[Any]], points1: npt.NDArray[np.floating[Any]]
) -> FloatArray | None:
    """The (3, 3) homography from points0 to points1 (M, 2) that RANSAC finds; None when it finds none."""
    if len(points0) < 4:
        return None
    import cv2

    cv2.setRNGSeed(RANSAC["seed"])
    found, _ = cv2.findHomography(
        points0.astype(np.float64),
        points1.astype(np.float64),
        cv2.RANSAC,
        ransacReprojThreshold=RANSAC["threshold_px"],
        maxIters=RANSAC["max_iterations"],
        confidence=RANSAC["confidence"],
    )
    return None if found is None else np.asarray(found, np.float64)


def corner_error(estimated: FloatArray | None, true: FloatArray, size: tuple[int, int]) -> float:
    """Mean distance in pixels of image 1's corners, moved by the two homographies; inf for no estimate.

    Args:
        estimated: (3, 3), from image 1.
        true: (3, 3).
        size: width and height of image 1.
    """
    if estimated is None:
        return float("inf")
    right, bottom = size[0] - 1.0, size[1] - 1.0
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]])
    moved = np.column_stack([corners, np.ones(4)]) @ true.T
    error = float(reprojection_errors(corners, moved[:, :2] / moved[:, 2:], estimated).mean())
    return error if np.isfinite(error) else float("inf")


def measure_sequence(
    name: str,
    features: Seq[Features],
    homographies: Seq[FloatArray],
    matcher: Matcher,
    thresholds: Seq[float] = THRESHOLDS,
    size: tuple[int, int] | None = None,
) -> SequenceResult:
    """Measure one sequence.

    Args:
        name: of the sequence.
        features: of image 1, 2, ..., K.
        homographies: from image 1 to image 2, ..., K.
        matcher: of the descriptors.
        thresholds: of the accuracy, pixels.
        size: width and height of image 1; None leaves homographies out.
    """
    first, pairs = features[0], []
    for other, homography in zip(features[1:], homographies, strict=True):
        found = matcher(first, other).indices()
        points0, points1 = first.keypoints[found[:, 0]], other.keypoints[found[:, 1]]
        errors = reprojection_errors(points0, points1, homography)
        pairs.append(
            PairResult(
                accuracy=tuple(float((errors <= t).mean()) if len(errors) else 0.0 for t in thresholds),
                matches=len(found),
                correct=int((errors <= CORRECT_AT).sum()),
                corner_error=float("inf")
                if size is None
                else corner_error(estimate_homography(points0, points1), homography, size),
            )
        )
    return SequenceResult(name, tuple(len(one) for one in features), tuple(pairs))
