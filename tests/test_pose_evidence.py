"""What speaks for a pose: covariance against a Monte-Carlo experiment, false alarms against chance."""

from __future__ import annotations

import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.pose_evidence import (
    NO_EVIDENCE,
    log10_false_alarms,
    pose_covariance,
    projection_jacobian,
    reprojection_errors,
)
from tests.world import CAMERA, HEIGHT, WIDTH, look_at, make_points

TRUE_POSE = look_at([1.0, 0.4, 0.5], [0.2, 0.1, 8])


def visible(count: int) -> np.ndarray:
    points = make_points(6 * count, np.random.default_rng(3))
    xy = np.asarray(CAMERA.img_from_cam(TRUE_POSE * points))
    return points[((xy > 0) & (xy < [WIDTH, HEIGHT])).all(axis=1)][:count]


def log_map(rotation: pycolmap.Rotation3d) -> np.ndarray:
    x, y, z, w = rotation.quat
    return 2 * np.array([x, y, z]) * np.sign(w)  # small angles


@pytest.mark.parametrize(("noise_px", "loss_scale"), [(1.0, 1.0), (0.4, 1.0), (2.0, 5.0)])
def test_covariance_is_that_of_repeated_measurements(noise_px: float, loss_scale: float) -> None:
    points, rng = visible(60), np.random.default_rng(0)
    assert len(points) == 60
    exact = np.asarray(CAMERA.img_from_cam(TRUE_POSE * points))
    options = pycolmap.AbsolutePoseRefinementOptions(loss_function_scale=loss_scale, gradient_tolerance=1e-6)
    errors, predicted = [], []
    for _ in range(400):
        measured = exact + rng.normal(0, noise_px, exact.shape)
        found = pycolmap.refine_absolute_pose(TRUE_POSE, measured, points, np.ones(60, bool), CAMERA, options)
        pose = found["cam_from_world"]
        turned = log_map(TRUE_POSE.rotation * pose.rotation.inverse())
        errors.append([*turned, *(TRUE_POSE.translation - pose.translation)])
        predicted.append(pose_covariance(pose, measured, points, CAMERA, loss_scale))
    # the spread of the errors in the metric of the prediction is the identity, in all six directions
    ratio = np.linalg.eigvals(np.linalg.solve(np.mean(predicted, axis=0), np.cov(np.array(errors).T))).real
    assert ratio.min() > 0.7 and ratio.max() < 1.4, ratio


def test_rotation_comes_first_and_is_in_radians() -> None:
    points = visible(60)
    in_camera = TRUE_POSE * points
    jacobian = projection_jacobian(TRUE_POSE, in_camera, CAMERA)
    step = np.array([1e-3, -2e-3, 5e-4, 0, 0, 0])
    moved = pycolmap.Rigid3d(pycolmap.Rotation3d(step[:3]) * TRUE_POSE.rotation, TRUE_POSE.translation + step[3:])
    change = np.asarray(CAMERA.img_from_cam(moved * points)) - np.asarray(CAMERA.img_from_cam(in_camera))
    np.testing.assert_allclose(jacobian @ step, change, atol=0.02)
    shift = np.array([0, 0, 0, 1e-3, 2e-3, -1e-3])
    moved = pycolmap.Rigid3d(TRUE_POSE.rotation, TRUE_POSE.translation + shift[3:])
    change = np.asarray(CAMERA.img_from_cam(moved * points)) - np.asarray(CAMERA.img_from_cam(in_camera))
    np.testing.assert_allclose(jacobian @ shift, change, atol=0.01)


def test_points_on_one_ray_determine_no_pose() -> None:
    ray = TRUE_POSE.inverse() * (np.array([[0.1, 0.1, 1.0]]) * np.arange(1, 21)[:, None])
    assert pose_covariance(TRUE_POSE, np.asarray(CAMERA.img_from_cam(TRUE_POSE * ray)), ray, CAMERA, 1.0) is None


def test_points_behind_the_camera_are_no_inliers() -> None:
    behind = TRUE_POSE.inverse() * np.array([[0.1, 0.2, -3.0]])
    xy = np.asarray(CAMERA.img_from_cam(np.array([[-0.1 / 3, -0.2 / 3, 1.0]])))
    assert reprojection_errors(TRUE_POSE, xy, behind, CAMERA).tolist() == [np.inf]


def test_spread_inliers_tell_and_a_cluster_does_not() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0, [WIDTH, HEIGHT], (1000, 2))
    errors = np.full(1000, 100.0)
    errors[:60] = 1.0
    steps = (2.0, 4.0, 8.0, 12.0)
    assert log10_false_alarms(spread, errors, steps, (WIDTH, HEIGHT))[0] < -40
    cluster = spread.copy()
    cluster[:60] = np.array([300, 200]) + rng.normal(0, 2, (60, 2))
    false_alarms, evidence = log10_false_alarms(cluster, errors, steps, (WIDTH, HEIGHT))
    assert false_alarms > -1 and evidence < 12


def test_one_keypoint_with_many_points_is_one_piece_of_evidence() -> None:
    xy = np.repeat([[100.0, 100.0], [300.0, 200.0]], 40, axis=0)
    found = log10_false_alarms(xy, np.zeros(80), (4.0,), (WIDTH, HEIGHT))
    assert found == (NO_EVIDENCE, 0)
