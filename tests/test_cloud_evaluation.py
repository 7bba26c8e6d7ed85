"""Accuracy, completeness and F1 of clouds whose scores are known beforehand."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

from samfeat_hloc import nearest
from samfeat_hloc.cloud_evaluation import Scan, evaluate_cloud, seen_past_m
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.nearest import nearest_distances, voxel_keys

RNG = np.random.default_rng(1)


def room(spacing_m: float = 0.008) -> np.ndarray:
    """(N, 3) points on three faces of a corner, 1.2 m wide, 2 m away from a scanner at the origin."""
    u, v = np.meshgrid(np.arange(0, 1.2, spacing_m), np.arange(0, 1.2, spacing_m))
    u, v, zero = u.ravel(), v.ravel(), np.zeros(u.size)
    faces = [np.stack(face, axis=1) for face in ((zero, u, v), (u, zero, v), (u, v, zero))]
    return 2.0 - np.concatenate(faces)


def scan_of(points: np.ndarray) -> Scan:
    """A scan from the origin of a world that is turned and far away."""
    world_from_scan = np.eye(4)
    world_from_scan[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    world_from_scan[:3, 3] = [100, -50, 3]
    return Scan("corner", points, world_from_scan)


def test_distances_are_those_of_brute_force() -> None:
    queries, references = RNG.uniform(-3, 3, (400, 3)), RNG.uniform(-3, 3, (300, 3))
    full = np.linalg.norm(queries[:, None] - references[None], axis=2).min(axis=1)
    for cube_m in (0.1, 1.0, 20.0):  # the first is raised to the limit
        found = nearest_distances(queries, references, 0.6, cube_m)
        expected = np.where(full <= 0.6, full, np.inf)
        assert np.isinf(expected).any() and np.isfinite(expected).any()
        assert np.allclose(found, expected, atol=1e-6)


def test_distances_stay_exact_far_from_the_origin() -> None:
    references = RNG.uniform(0, 2, (200, 3)) + 5e5
    queries = references + np.array([0.003, 0, 0])
    assert np.allclose(nearest_distances(queries, references, 0.5), 0.003, atol=1e-6)


def test_no_references_and_no_queries() -> None:
    points = RNG.uniform(size=(5, 3))
    assert np.isinf(nearest_distances(points, np.zeros((0, 3)), 0.5)).all()
    assert len(nearest_distances(np.zeros((0, 3)), points, 0.5)) == 0


def test_points_have_one_key_when_they_share_a_voxel() -> None:
    points = np.array([[0.001, 0.002, 0.003], [0.009, 0.009, 0.009], [0.011, 0.002, 0.003], [-0.001, 0.002, 0.003]])
    keys = voxel_keys(points, 0.01)
    assert keys[0] == keys[1] and len(set(keys.tolist())) == 3
    shifted = voxel_keys(points, 0.01, 0.5)
    assert shifted[0] == shifted[3] and shifted[0] != shifted[1] != shifted[2]
    wide = voxel_keys(np.array([[0.0, 0, 0], [1e9, 1e9, 1e9], [0.001, 0, 0]]), 0.01)  # more voxels than a number holds
    assert wide[0] == wide[2] != wide[1]


def test_the_scan_itself_is_perfect_and_a_shift_of_3_cm_fails_at_2_and_passes_at_5() -> None:
    scan = scan_of(room())
    perfect = evaluate_cloud(scan.in_world(), [scan])
    assert perfect.accuracy == perfect.completeness == perfect.f1 == (1.0,) * 6
    assert perfect.median_m < 1e-6
    towards_scanner = Scan("shifted", room() - 0.03, scan.world_from_scan).in_world()  # 3 cm off every face
    shifted = evaluate_cloud(towards_scanner, [scan])
    edges = 0.06  # where two faces meet, the shifted one of them crosses the other
    assert all(share < edges for share in shifted.accuracy[:2] + shifted.completeness[:2] + shifted.f1[:2])
    assert min(shifted.accuracy[2:] + shifted.completeness[2:] + shifted.f1[2:]) > 0.9999
    assert shifted.median_m == pytest.approx(0.03, abs=0.002)


def test_points_behind_the_surface_are_unobserved_and_points_before_it_wrong() -> None:
    scan = scan_of(room())
    behind = Scan("", room()[::50] * 1.5, scan.world_from_scan).in_world()
    before = Scan("", room()[::50] * 0.5, scan.world_from_scan).in_world()
    beside = Scan("", -room()[::50] * 0.5, scan.world_from_scan).in_world()  # the scanner got nothing from there
    assert seen_past_m(behind, scan).max() < -0.5
    assert (seen_past_m(before, scan) > 0.5).mean() > 0.99
    assert np.isneginf(seen_past_m(beside, scan)).all()
    good = scan.in_world()
    with_ghosts = evaluate_cloud(np.concatenate([good, behind, beside]), [scan])
    assert with_ghosts.accuracy == (1.0,) * 6
    assert with_ghosts.unobserved[0] == pytest.approx((len(behind) + len(beside)) / (len(good) + 2 * len(behind)))
    with_floaters = evaluate_cloud(np.concatenate([good, before]), [scan])
    right, wrong = (sum(len(np.unique(voxel_keys(x, 0.01, shift))) for shift in (0, 0.5)) for x in (good, before))
    assert with_floaters.accuracy[-1] == pytest.approx(right / (right + wrong), rel=1e-4)
    assert with_floaters.completeness == (1.0,) * 6


def test_true_points_between_the_returns_of_a_slanted_floor_are_not_called_wrong() -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(4, 9, 0.02), np.arange(-2, 2, 0.02)))
    floor = Scan("floor", np.stack([x, y, np.full(x.size, -1.5)], axis=1), np.eye(4))
    between = np.column_stack([RNG.uniform(4.1, 8.8, 5000), RNG.uniform(-1.9, 1.9, 5000), np.full(5000, -1.5)])
    found = evaluate_cloud(between, [floor])
    assert found.accuracy[0] > 0.995 and found.unobserved[0] > 0.15
    raised = evaluate_cloud(between + np.array([0, 0, 0.04]), [floor])
    assert raised.accuracy[1] < 0.01 and raised.accuracy[3] == 1.0


def test_a_second_scan_that_saw_past_a_point_condemns_it() -> None:
    first = scan_of(room())
    world_from_second = first.world_from_scan.copy()
    ghost = Scan("", np.array([[3.0, 3.0, 3.0]]), first.world_from_scan).in_world()
    second = Scan("second", np.array([[6.0, 6.0, 6.0]]), world_from_second)
    cloud = np.concatenate([first.in_world()[:1], ghost])
    assert evaluate_cloud(cloud, [first]).accuracy[-1] == 1.0
    assert evaluate_cloud(cloud, [first, second]).accuracy[-1] == 0.5


def test_completeness_counts_places_not_points() -> None:
    scan = scan_of(room())
    crowd = np.repeat(scan.points[:1], 50_000, axis=0)  # one spot scanned again and again
    crowded = Scan("crowded", np.concatenate([scan.points, crowd]), scan.world_from_scan)
    half = scan.in_world()[len(scan.points) // 2 :]
    plain, weighted = evaluate_cloud(half, [scan]), evaluate_cloud(half, [crowded])
    assert plain.completeness[0] == pytest.approx(0.5, abs=0.03)
    assert weighted.completeness[0] == pytest.approx(plain.completeness[0], abs=0.001)


def test_bad_inputs() -> None:
    scan = scan_of(room())
    with pytest.raises(InputError, match="cloud is empty"):
        evaluate_cloud(np.zeros((0, 3)), [scan])
    with pytest.raises(InputError, match="no laser scan"):
        evaluate_cloud(np.zeros((1, 3)), [])
    with pytest.raises(InputError, match="scan nothing has no points"):
        evaluate_cloud(np.zeros((1, 3)), [Scan("nothing", np.zeros((0, 3)), np.eye(4))])
    with pytest.raises(ConfigError, match="positive"):
        evaluate_cloud(np.zeros((1, 3)), [scan], tolerances_m=(0.0, 0.1))


def test_a_cloud_far_from_every_scan_scores_nothing() -> None:
    scan = scan_of(room())
    with patch.object(nearest, "_FLANN", side_effect=AssertionError("no tree is needed")):
        scores = evaluate_cloud(np.full((3, 3), 1e4), [scan])
    assert scores.completeness == (0.0,) * 6
    assert np.isnan(scores.accuracy).all() and scores.unobserved == (1.0,) * 6
    assert scores.to_json()["accuracy"] == [None] * 6 and scores.to_json()["median_m"] is None
