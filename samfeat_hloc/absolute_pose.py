"""From 2D-3D matches to a camera pose with its covariance, or to a clear no.

The core that `localize_sfm` (files) and `Localizer` (memory) share:

1. Correspondences that several retrieved images agree on come first: on South Building with SIFT 1 to 3 % of those with
   one vote are right, 6 to 14 % of those with two, 87 % with five by day. LO-RANSAC on these is seven times as fast,
   and finds poses by night that it does not find among all. When that leaves doubt, the best-scored of each image are
   tried, with those of the images that see the same points and by themselves (`best_matches`): where few images see the
   place, they may have a third of them right and all together a fiftieth. What chance explains least is taken, and only
   when that is no localization, all are tried.
2. The pose is refined on all correspondences near it, with a robust loss, until what is near stays the same.
3. It is a localization only when chance does not explain its inliers (`log10_false_alarms`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, IntArray, pose_to_array, pycolmap
from samfeat_hloc.best_matches import best_groups
from samfeat_hloc.correspondences import MatchedImage, gather
from samfeat_hloc.pose_evidence import (
    MIN_POINTS,
    NO_EVIDENCE,
    log10_false_alarms,
    pose_covariance,
    reprojection_errors,
)
from samfeat_hloc.scene import Scene

Status: TypeAlias = Literal["localized", "too few matches", "not verified", "no retrieval", "unreadable"]
STATUSES: tuple[Status, ...] = ("localized", "too few matches", "not verified", "no retrieval", "unreadable")

Points: TypeAlias = tuple[FloatArray, FloatArray]
"""(C, 2) in COLMAP's pixel coordinates and (C, 3) in metres, of C correspondences."""

ERROR_STEPS = (1 / 6, 1 / 3, 2 / 3, 1.0)
"""Thresholds at which the evidence is weighed, as shares of `ransac_thresh`: 2, 4, 8 and 12 px by default."""
MAX_REFINEMENTS = 8
"""Of one pose; most need two or three."""


@dataclass(frozen=True)
class PoseOptions:
    """How a pose is estimated.

    Attributes:
        ransac_thresh: largest reprojection error of an inlier, in pixels; hloc's value for images of 1024 to 1600 px.
        refine_thresh: correspondences of the refinement, in pixels.
        loss_scale: scale of the refinement's Cauchy loss, in pixels.
        min_inliers: a pose with inliers in fewer different places of the image is "not verified".
        max_log10_nfa: so is one whose expected number of false alarms is above 10 to this power.
        sure_log10_nfa: a pose from the agreed correspondences below this needs no second attempt.
        min_votes: retrieved images that must agree on a correspondence for the first attempt.
        max_num_trials: of each LO-RANSAC.
        best_num_trials: of each on best-scored matches; 0: these are not tried.
        best_share: of an image's matches that count as its best.
        num_covisible: images whose best are tried together with an image's.
        confidence: that LO-RANSAC saw one sample without outliers.
        seed: of LO-RANSAC; the result depends on it and the matches alone.
    """

    ransac_thresh: float = 12.0
    refine_thresh: float = 6.0
    loss_scale: float = 1.0
    min_inliers: int = 12
    max_log10_nfa: float = -8.0
    sure_log10_nfa: float = -60.0
    min_votes: int = 2
    max_num_trials: int = 10000
    best_num_trials: int = 2000
    best_share: float = 0.25
    num_covisible: int = 5
    confidence: float = 0.99999
    seed: int = 0


@dataclass(frozen=True)
class PoseEstimate:
    """The answer for one query.

    Attributes:
        status: "localized", or why not.
        pose: (7,) qw qx qy qz tx ty tz of cam_from_world; None unless localized.
        covariance: (6, 6) of the pose's error, rotation (rad) then translation (m): see `pose_covariance`; None unless
            localized.
        num_matches: matches with keypoints that observe a 3D point, over all retrieved images.
        inlier_keypoints: (I,) indices of the query's keypoints that agree with the pose.
        inlier_points3D: (I,) ids of their 3D points.
        log10_nfa: expected number of poses that explain as much by chance, log10.
    """

    status: Status
    pose: FloatArray | None = None
    covariance: FloatArray | None = None
    num_matches: int = 0
    inlier_keypoints: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    inlier_points3D: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    log10_nfa: float = NO_EVIDENCE

    @property
    def num_inliers(self) -> int:
        """Number of correspondences that agree with the pose."""
        return len(self.inlier_keypoints)


@dataclass(frozen=True)
class Candidate:
    """A pose that was found, with what speaks for it."""

    cam_from_world: pycolmap.Rigid3d
    errors: FloatArray
    log10_nfa: float
    evidence: int

    def passes(self, options: PoseOptions) -> bool:
        """Whether it is a localization."""
        return self.evidence >= options.min_inliers and self.log10_nfa <= options.max_log10_nfa


def localize_from_matches(
    keypoints: FloatArray,
    matched: Sequence[MatchedImage],
    scene: Scene,
    camera: pycolmap.Camera,
    options: PoseOptions,
) -> PoseEstimate:
    """Localize a query from its matches with the retrieved images. Releases the GIL in COLMAP's part.

    Args:
        keypoints: (N, 2) of the query in COLMAP's pixel coordinates.
        matched: the retrieved images.
        scene: has the points' positions.
        camera: of the query; not refined.
        options: thresholds, gate, seed.
    """
    found = gather(matched)
    if len(np.unique(found.keypoints)) < max(MIN_POINTS, options.min_inliers):
        return PoseEstimate("too few matches", num_matches=found.num_matches)
    points2D = keypoints[found.keypoints]
    points3D = scene.xyz(found.points3D)
    groups = best_groups(matched, options.best_share, options.num_covisible, options.min_inliers)
    best = best_candidate(points2D, points3D, found.votes, camera, options, groups)
    if best is None:
        return PoseEstimate("not verified", num_matches=found.num_matches)
    inliers = best.errors <= options.ransac_thresh
    near = best.errors <= options.refine_thresh
    covariance = pose_covariance(best.cam_from_world, points2D[near], points3D[near], camera, options.loss_scale)
    verified = best.passes(options) and covariance is not None
    return PoseEstimate(
        "localized" if verified else "not verified",
        pose_to_array(best.cam_from_world) if verified else None,
        covariance if verified else None,
        found.num_matches,
        found.keypoints[inliers],
        found.points3D[inliers],
        best.log10_nfa,
    )


def best_candidate(
    points2D: FloatArray,
    points3D: FloatArray,
    votes: IntArray,
    camera: pycolmap.Camera,
    options: PoseOptions,
    groups: Iterable[IntArray] = (),
) -> Candidate | None:
    """The pose that chance explains least: from the agreed correspondences; when they leave doubt, from groups of the
    best-scored as well; when none of these is a localization, from all.

    Args:
        points2D: (C, 2) in COLMAP's pixel coordinates.
        points3D: (C, 3) in metres.
        votes: (C,) number of images that say so.
        camera: intrinsics.
        options: thresholds, seed.
        groups: indices of correspondences, taken only in doubt.

    Returns:
        None when no attempt gave a pose.
    """

    def attempts(chosen: Iterable[IntArray | npt.NDArray[np.bool_]], trials: int) -> list[Candidate]:
        samples = ((points2D[one], points3D[one]) for one in chosen)
        tried = (_attempt(one, (points2D, points3D), camera, options, trials) for one in samples)
        return [candidate for candidate in tried if candidate is not None]

    found: list[Candidate] = []
    agreed = votes >= options.min_votes
    if 0 < np.count_nonzero(agreed) < len(votes):
        found += attempts([agreed], options.max_num_trials)
    if options.best_num_trials and not any(one.log10_nfa <= options.sure_log10_nfa for one in found):
        found += attempts(groups, options.best_num_trials)
    if not any(one.passes(options) for one in found):
        found += attempts([np.ones(len(votes), bool)], options.max_num_trials)
    return min(found, key=lambda candidate: candidate.log10_nfa, default=None)


def _attempt(
    chosen: Points, everything: Points, camera: pycolmap.Camera, options: PoseOptions, trials: int
) -> Candidate | None:
    """LO-RANSAC on the chosen correspondences, refinement and evidence on all."""
    if len(chosen[0]) < MIN_POINTS:
        return None
    points2D, points3D = everything
    ransac = pycolmap.RANSACOptions(
        max_error=options.ransac_thresh,
        random_seed=options.seed,
        max_num_trials=trials,
        confidence=options.confidence,
        min_inlier_ratio=0.01,
        num_threads=1,
    )
    refinement = pycolmap.AbsolutePoseRefinementOptions(loss_function_scale=options.loss_scale)
    found = pycolmap.estimate_absolute_pose(*chosen, camera, pycolmap.AbsolutePoseEstimationOptions(ransac=ransac))
    if found is None:
        return None
    cam_from_world = found["cam_from_world"]
    refined_on = np.zeros(len(points2D), bool)
    for _ in range(MAX_REFINEMENTS):  # each refines on what is near the refined pose, until that stays the same
        near = reprojection_errors(cam_from_world, points2D, points3D, camera) <= options.refine_thresh
        if np.count_nonzero(near) < MIN_POINTS or np.array_equal(near, refined_on):
            break
        refined = pycolmap.refine_absolute_pose(cam_from_world, points2D, points3D, near, camera, refinement)
        if refined is None:
            break
        cam_from_world, refined_on = refined["cam_from_world"], near
    errors = reprojection_errors(cam_from_world, points2D, points3D, camera)
    steps = [options.ransac_thresh * step for step in ERROR_STEPS]
    return Candidate(
        cam_from_world, errors, *log10_false_alarms(points2D, errors, steps, (camera.width, camera.height))
    )
