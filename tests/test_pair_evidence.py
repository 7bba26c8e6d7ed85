"""Chance against geometry: random matches are refused, right ones pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.pair_evidence import (
    CALIBRATED,
    MIN_SUPPORT,
    UNCALIBRATED,
    is_more_than_chance,
    log10_false_alarms,
    log_tail,
    neighbour_support,
)

SIZE = (1024, 768)
PLANAR = int(pycolmap.TwoViewGeometryConfiguration.PLANAR)


@pytest.mark.parametrize(("hits", "trials", "chance"), [(30, 500, 0.02), (12, 40, 0.1), (40, 40, 0.5), (7, 9, 0.3)])
def test_tail_is_bounded_from_above_and_closely(hits: int, trials: int, chance: float) -> None:
    exact = sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(hits, trials + 1))
    assert math.log(exact) - 1e-9 <= log_tail(hits, trials, chance) <= math.log(exact) + 3


def test_no_more_hits_than_expected_are_no_evidence() -> None:
    assert log_tail(5, 100, 0.05) == 0.0
    assert log10_false_alarms(UNCALIBRATED, 700, 14, 4.0, SIZE) > 0
    assert log10_false_alarms(UNCALIBRATED, 7, 7, 4.0, SIZE) == math.inf


def test_evidence_counts_against_the_number_of_matches() -> None:
    assert log10_false_alarms(UNCALIBRATED, 700, 41, 4.0, SIZE) > 0  # what random matches give, measured
    assert log10_false_alarms(UNCALIBRATED, 60, 41, 4.0, SIZE) < -20
    values = [log10_false_alarms(UNCALIBRATED, 700, count, 4.0, SIZE) for count in (60, 90, 120)]
    assert values == sorted(values, reverse=True) and values[-1] < -20


def test_known_intrinsics_and_planes_need_fewer() -> None:
    found = [log10_false_alarms(config, 700, 50, 4.0, SIZE) for config in (UNCALIBRATED, CALIBRATED, PLANAR)]
    assert found[0] > found[1] > found[2]


def test_robust_estimation_finds_a_geometry_in_noise_and_it_is_refused() -> None:
    rng = np.random.default_rng(3)
    points = [rng.uniform([0, 0], SIZE, (700, 2)) for _ in range(2)]
    matches = np.stack([np.arange(700)] * 2, axis=1).astype(np.uint32)
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=SIZE[0], height=SIZE[1], params=[900, 512, 384])
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = 0
    geometry = pycolmap.estimate_two_view_geometry(camera, points[0], camera, points[1], matches, options)
    inliers = np.asarray(geometry.inlier_matches)
    assert len(inliers) > 15  # COLMAP's own limit
    found = points[0][inliers[:, 0]], points[1][inliers[:, 1]]
    assert log10_false_alarms(int(geometry.config), 700, len(inliers), 4.0, SIZE) > 0
    assert not is_more_than_chance(int(geometry.config), 700, *found, 4.0, SIZE)


@pytest.mark.parametrize("count", [15, 80, 1200])
def test_zoom_rotation_and_slant_keep_neighbours(count: int) -> None:
    points = np.random.default_rng(0).uniform([0, 0], SIZE, (count, 2))
    turned = points @ np.array([[0.2, 1.1], [-0.9, 0.4]]) * 4
    assert neighbour_support(points, turned) > 0.8
    assert neighbour_support(points, points) == 1.0


def test_matches_of_the_same_row_elsewhere_are_no_neighbours() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform([0, 0], SIZE, (200, 2))
    elsewhere = np.column_stack([rng.uniform(0, SIZE[0], 200), points[:, 1] + rng.normal(0, 1, 200)])
    assert log10_false_alarms(UNCALIBRATED, 500, 200, 4.0, SIZE) < -100  # epipolar lines cannot tell
    assert neighbour_support(points, elsewhere) < MIN_SUPPORT / 2
    assert not is_more_than_chance(UNCALIBRATED, 500, points, elsewhere, 4.0, SIZE)
    assert is_more_than_chance(UNCALIBRATED, 500, points, points + np.array([30, 2]), 4.0, SIZE)


def test_neighbours_that_stay_make_up_for_few_matches() -> None:
    points = np.random.default_rng(4).uniform([0, 0], SIZE, (24, 2))
    assert -2 < log10_false_alarms(UNCALIBRATED, 90, 24, 4.0, SIZE) < 2  # not enough alone
    assert is_more_than_chance(UNCALIBRATED, 90, points, points + np.array([30, 2]), 4.0, SIZE)
    halves = points.copy()
    halves[::3] = np.random.default_rng(5).uniform([0, 0], SIZE, (8, 2))
    assert not is_more_than_chance(UNCALIBRATED, 90, points, halves, 4.0, SIZE)


def test_support_is_the_smaller_of_both_directions() -> None:
    points = np.random.default_rng(2).uniform([0, 0], SIZE, (100, 2))
    squeezed = np.column_stack([points[:, 0], np.zeros(100)])
    assert neighbour_support(points, squeezed) == neighbour_support(squeezed, points)
    assert neighbour_support(points[:1], points[:1]) == 0.0
