"""How far a reconstruction's cameras are from the true ones, once the two worlds are aligned.

The similarity that brings the camera centres together is taken out first: a reconstruction has neither place nor scale.
Errors are the distance of the centres in cm and the angle between the rotations in degrees; a camera that is not
registered has an infinite error. Recall at t is the share of all cameras within t; AUC at t is the area under the curve
of recall over error up to t, divided by t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import pose_to_array, pycolmap
from samfeat_hloc.alignment import Similarity, align_models
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import pose_errors

THRESHOLDS = (0.5, 1.0, 5.0)
"""In cm for positions, in degrees for rotations."""


@dataclass(frozen=True)
class PoseScores:
    """Pose errors of one reconstruction, shares at each of `THRESHOLDS`.

    Attributes:
        images: cameras with a true pose.
        registered: of these, in the model.
        recall_cm: within each threshold in cm.
        recall_deg: within each threshold in degrees.
        recall: within both, cm and degrees.
        auc_cm: of the positions.
        auc_deg: of the rotations.
        median_cm: over the registered cameras; None when there is none.
        median_deg: the same.
        max_cm: the same.
    """

    images: int
    registered: int
    recall_cm: tuple[float, ...]
    recall_deg: tuple[float, ...]
    recall: tuple[float, ...]
    auc_cm: tuple[float, ...]
    auc_deg: tuple[float, ...]
    median_cm: float | None
    median_deg: float | None
    max_cm: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def align(model: pycolmap.Reconstruction, truth: pycolmap.Reconstruction) -> Similarity | None:
    """truth_from_model by the camera centres; None when there are too few, or they are on a line."""
    try:
        return align_models(_centers(model), _centers(truth))
    except InputError:
        return None


def score_poses(model: pycolmap.Reconstruction | None, truth: pycolmap.Reconstruction) -> PoseScores:
    """Errors of a model's cameras.

    Args:
        model: in the truth's world; None when there is none or it could not be aligned.
        truth: the model with the true poses.
    """
    true = {image.name: pose_to_array(image.cam_from_world()) for image in truth.images.values() if image.has_pose}
    found = (
        {}
        if model is None
        else {i.name: pose_to_array(i.cam_from_world()) for i in model.images.values() if i.has_pose}
    )
    errors = np.array([pose_errors(found[name], true[name]) for name in sorted(true) if name in found]).reshape(-1, 2)
    cm, deg = 100 * errors[:, 0], errors[:, 1]
    both = np.maximum(cm, deg)
    count = len(true)
    return PoseScores(
        count,
        len(errors),
        recall_at(cm, count),
        recall_at(deg, count),
        recall_at(both, count),
        auc_at(cm, count),
        auc_at(deg, count),
        *((float(np.median(cm)), float(np.median(deg)), float(cm.max())) if len(errors) else (None, None, None)),
    )


def recall_at(errors: npt.ArrayLike, count: int, thresholds: Sequence[float] = THRESHOLDS) -> tuple[float, ...]:
    """Share of `count` cameras whose error is at most each threshold."""
    found = np.asarray(errors, np.float64)
    return tuple(float((found <= threshold).sum()) / max(count, 1) for threshold in thresholds)


def auc_at(errors: npt.ArrayLike, count: int, thresholds: Sequence[float] = THRESHOLDS) -> tuple[float, ...]:
    """Area under recall over error up to each threshold, divided by it: the mean of 1 - error/t, below zero as zero."""
    found = np.asarray(errors, np.float64)
    return tuple(float(np.maximum(1 - found / threshold, 0).sum()) / max(count, 1) for threshold in thresholds)


def _centers(model: pycolmap.Reconstruction) -> dict[str, npt.NDArray[np.float64]]:
    return {i.name: np.asarray(i.projection_center()) for i in model.images.values() if i.has_pose}
