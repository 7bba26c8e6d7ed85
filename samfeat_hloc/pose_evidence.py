"""How much a pose explains: is it more than chance (a contrario), and how sure is it (covariance)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, pycolmap

SAMPLE = 3
"""Correspondences that determine a pose."""
MIN_POINTS = 4
"""Three points leave up to four poses; the fourth decides."""
NO_EVIDENCE = 99.0


def log10_false_alarms(
    points2D: FloatArray, errors: FloatArray, thresholds: Sequence[float], image_size: tuple[int, int]
) -> tuple[float, int]:
    """Expected number of poses that explain as much by chance, log10, over thresholds; and the evidence behind it.

    After Moisan and Stival (IJCV 2004), with two changes. Points are counted by cell of the image, twice the threshold
    wide, each at most once: a query keypoint is matched to several 3D points and keypoints come in clusters, so a
    pose from far away that projects the whole scene into one cluster has many "inliers" that are one piece of
    evidence. And the tail of the number of occupied cells is bounded by Chernoff's inequality, since cells differ in
    how many chances they had.

    Args:
        points2D: (C, 2) of all correspondences, in pixels.
        errors: (C,) reprojection errors in pixels.
        thresholds: inlier thresholds in pixels; the most telling one counts.
        image_size: width, height.

    Returns:
        log10 of the expected number of false alarms, `NO_EVIDENCE` when the inliers are no more than chance; and the
        number of cells with an inlier at the threshold that told most.
    """
    best, evidence = NO_EVIDENCE, 0
    for threshold in thresholds:
        column, row = np.floor(points2D / (2 * threshold)).astype(np.int64).T
        cells, member, chances = np.unique((row << 32) + column, return_inverse=True, return_counts=True)
        hit_chance = min(1.0, math.pi * threshold**2 / (image_size[0] * image_size[1]))
        expected = float(np.sum(1 - (1 - hit_chance) ** chances))
        occupied = len(np.unique(member.reshape(-1)[errors <= threshold]))
        excess = occupied - SAMPLE
        if excess <= expected or expected <= 0:
            continue
        samples = math.log10(max(len(cells), SAMPLE + 1)) * SAMPLE - math.log10(math.factorial(SAMPLE))
        tail = -(excess * math.log(excess / expected) - excess + expected) / math.log(10)
        false_alarms = math.log10(len(thresholds)) + samples + tail
        if false_alarms < best:
            best, evidence = false_alarms, occupied
    return best, evidence


def reprojection_errors(
    cam_from_world: pycolmap.Rigid3d, points2D: FloatArray, points3D: FloatArray, camera: pycolmap.Camera
) -> FloatArray:
    """(C,) distances in pixels between points and their projections, inf behind the camera."""
    in_camera = cam_from_world * points3D
    errors = np.linalg.norm(np.asarray(camera.img_from_cam(in_camera)) - points2D, axis=1)
    return np.where((in_camera[:, 2] > 0) & np.isfinite(errors), errors, np.inf)


def pose_covariance(
    cam_from_world: pycolmap.Rigid3d,
    points2D: FloatArray,
    points3D: FloatArray,
    camera: pycolmap.Camera,
    loss_scale: float,
) -> FloatArray | None:
    """(6, 6) covariance of a pose that minimises a Cauchy loss: rotation (rad), translation (m), of cam_from_world.

    The true pose is exp(rotation) R, translation + t. pycolmap's own (`return_covariance`) has half the rotation angle
    in its first block, the tangent of its quaternion, and takes every residual for one of 1 px. This one is in
    radians and takes the scale from the residuals: the M-estimator's variance K^2 b / a^2 (J^T J)^-1 (Huber 1981,
    7.6), with a the loss's mean curvature, b the mean square of its gradient and K a correction for few points. The
    3D points count as exact.
    `tests/test_pose_evidence.py` holds it against a Monte-Carlo experiment.

    Args:
        cam_from_world: the estimate.
        points2D: (I, 2) inliers.
        points3D: (I, 3) inliers.
        camera: intrinsics.
        loss_scale: of the Cauchy loss, in pixels.

    Returns:
        None when the inliers do not determine the pose.
    """
    if len(points2D) < MIN_POINTS:
        return None
    in_camera = cam_from_world * points3D
    residuals = np.asarray(camera.img_from_cam(in_camera)) - points2D
    weight = 1 / (1 + np.sum(residuals**2, axis=1, keepdims=True) / loss_scale**2)
    curvatures = weight - 2 * weight**2 * (residuals / loss_scale) ** 2  # along each axis
    curvature = float(curvatures.mean())
    if curvature <= 0:
        return None
    gradient = float(np.sum((weight * residuals) ** 2)) / max(residuals.size - 6, 1)
    correction = 1 + 6 / residuals.size * float(curvatures.var()) / curvature**2
    jacobian = projection_jacobian(cam_from_world, in_camera, camera).reshape(-1, 6)
    normal = jacobian.T @ jacobian
    scale = np.sqrt(np.diag(normal))
    if not np.isfinite(normal).all() or (scale == 0).any():
        return None
    normalised = normal / np.outer(scale, scale)
    if np.linalg.cond(normalised) > 1e12:
        return None
    inverse: FloatArray = np.linalg.inv(normalised) / np.outer(scale, scale)
    return correction**2 * gradient / curvature**2 * (inverse + inverse.T) / 2


def projection_jacobian(
    cam_from_world: pycolmap.Rigid3d, in_camera: FloatArray, camera: pycolmap.Camera
) -> npt.NDArray[np.float64]:
    """(I, 2, 6) derivative of the projections by the pose: rotation (left, rad) and translation (m).

    Central differences, so that every camera model is served.
    """
    rotated = in_camera - cam_from_world.translation
    depth = np.maximum(np.abs(in_camera[:, 2:]), 1e-6)
    columns = []
    for axis in range(6):
        direction = np.eye(3)[axis % 3]
        motion = np.cross(direction, rotated) if axis < 3 else np.broadcast_to(direction, rotated.shape)
        step = 1e-6 * depth / np.maximum(np.linalg.norm(motion, axis=1, keepdims=True), 1e-12)
        ahead = np.asarray(camera.img_from_cam(in_camera + step * motion))
        behind = np.asarray(camera.img_from_cam(in_camera - step * motion))
        columns.append((ahead - behind) / (2 * step))
    return np.stack(columns, axis=2)
