"""Verification of a pair from known poses."""

from __future__ import annotations

import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.two_view import (
    CALIBRATED,
    MIN_NUM_INLIERS,
    View,
    accept_all,
    epipolar_errors,
    estimate_geometry,
    verify_known_poses,
)
from tests.world import CAMERA, look_at, make_points

POSE0, POSE1 = look_at([0, 0, 0], [0, 0, 8]), look_at([1.5, 0.2, 0], [0, 0, 8])


def views(uncertainty: float = 1.0, shift: float = 0.0) -> tuple[View, View, np.ndarray]:
    points = make_points(200, np.random.default_rng(0))
    pixels = [np.asarray(CAMERA.img_from_cam(pose * points)) for pose in (POSE0, POSE1)]
    pixels[1] = pixels[1] + [0, shift]
    built = [View.build(CAMERA, xy, uncertainty, pose) for xy, pose in zip(pixels, (POSE0, POSE1), strict=True)]
    return built[0], built[1], np.stack([np.arange(200)] * 2, axis=1).astype(np.int32)


def test_true_matches_have_no_error_and_are_calibrated() -> None:
    view0, view1, matches = views()
    geometry = verify_known_poses(view0, view1, matches)
    assert geometry is not None
    assert geometry.config == CALIBRATED != int(pycolmap.TwoViewGeometryConfiguration.UNDEFINED)
    np.testing.assert_array_equal(geometry.inlier_matches, matches)
    x0, x1 = (np.column_stack([view.rays, np.ones(200)]) for view in (view0, view1))
    assert np.abs(np.sum(x1 @ geometry.E * x0, axis=1)).max() < 1e-9


def test_error_is_the_distance_to_the_epipolar_line_in_pixels() -> None:
    sideways = np.array([1.0, 0.0, 0.0])  # lines are horizontal
    errors0, errors1 = epipolar_errors(np.eye(3), sideways, np.array([[0.1, 0.2]]), np.array([[0.3, 0.21]]))
    np.testing.assert_allclose([errors0[0], errors1[0]], 0.01, atol=1e-12)


def test_threshold_grows_with_uncertainty() -> None:
    assert verify_known_poses(*views(1.0, shift=6.0)) is None
    found = verify_known_poses(*views(2.0, shift=6.0))
    assert found is not None and len(found.inlier_matches) > 150


def test_wrong_matches_are_left_out() -> None:
    view0, view1, matches = views()
    wrong = matches.copy()
    wrong[:100, 1] = np.random.default_rng(1).permutation(100) + 100
    found = verify_known_poses(view0, view1, wrong)
    assert found is not None
    kept = {tuple(row) for row in found.inlier_matches.tolist()}
    assert {tuple(row) for row in wrong[100:].tolist()} <= kept
    assert len(kept) < 120


@pytest.mark.parametrize(("shift", "inliers"), [(0.0, 200), (9.0, 0)])
def test_one_camera_centre_is_verified_by_transfer(shift: float, inliers: int) -> None:
    points = make_points(200, np.random.default_rng(0))
    turned = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 0.05, 0.0])), np.zeros(3))
    xy = [np.asarray(CAMERA.img_from_cam(pose * points)) for pose in (pycolmap.Rigid3d(), turned)]
    xy[1][:, 1] += shift
    view0, view1 = View.build(CAMERA, xy[0], 1.0, pycolmap.Rigid3d()), View.build(CAMERA, xy[1], 1.0, turned)
    found = verify_known_poses(view0, view1, np.stack([np.arange(200)] * 2, axis=1).astype(np.int32))
    assert (0 if found is None else len(found.inlier_matches)) == inliers


def test_too_few_matches_give_nothing_rather_than_undefined() -> None:
    view0, view1, matches = views()
    few = matches[: MIN_NUM_INLIERS - 1]
    assert verify_known_poses(view0, view1, few) is None
    assert accept_all(few) is None
    assert estimate_geometry(view0, view1, few) is None
    assert (
        verify_known_poses(view0, View.build(CAMERA, np.zeros((0, 2)), 1.0, POSE1), np.zeros((0, 2), np.int32)) is None
    )


def test_estimation_without_poses_is_repeatable() -> None:
    view0, view1, matches = views()
    matches[:60, 1] = np.random.default_rng(1).permutation(60) + 140
    found = [estimate_geometry(view0, view1, matches) for _ in range(2)]
    assert found[0] is not None and found[1] is not None
    np.testing.assert_array_equal(found[0].inlier_matches, found[1].inlier_matches)
    assert len(found[0].inlier_matches) >= 135
