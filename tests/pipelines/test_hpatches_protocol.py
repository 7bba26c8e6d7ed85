"""The protocol's arithmetic: errors, homographies, means and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.hpatches_protocol import (
    PairResult,
    SequenceResult,
    corner_error,
    estimate_homography,
    reprojection_errors,
)
from pipelines.hpatches_summary import pair_counts_differ, summarize

PERSPECTIVE = np.array([[0.9, 0.1, 8], [-0.05, 1.1, -4], [2e-4, -1e-4, 1]])


def apply(points: np.ndarray, homography: np.ndarray) -> np.ndarray:
    moved = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return moved[:, :2] / moved[:, 2:]


def pair(share: float, matches: int = 10, error: float = 0.5) -> PairResult:
    return PairResult((share,) * 10, matches, round(share * matches), error)


def test_errors_are_in_the_second_image() -> None:
    points = np.random.default_rng(0).uniform(0, 300, (20, 2))
    there = apply(points, PERSPECTIVE) + np.array([3.0, 4.0])
    np.testing.assert_allclose(reprojection_errors(points, there, PERSPECTIVE), 5.0)
    horizon = np.array([[1, 0, 0], [0, 1, 0], [1, 0, -5]], np.float64)
    assert not np.isfinite(reprojection_errors(np.array([[5.0, 1.0]]), np.zeros((1, 2)), horizon)).any()


def test_homography_survives_outliers_and_is_repeatable() -> None:
    generator = np.random.default_rng(1)
    points = generator.uniform(0, 300, (100, 2))
    there = apply(points, PERSPECTIVE) + generator.normal(0, 0.3, (100, 2))
    there[:50] = generator.uniform(0, 300, (50, 2))
    first, second = estimate_homography(points, there), estimate_homography(points, there)
    assert first is not None and second is not None
    np.testing.assert_array_equal(first, second)
    assert corner_error(first, PERSPECTIVE, (300, 300)) < 1
    assert estimate_homography(points[:3], there[:3]) is None


def test_corner_error_is_the_mean_over_the_pixel_corners() -> None:
    stretched = np.diag([1.01, 1.0, 1.0])
    assert corner_error(stretched, np.eye(3), (101, 51)) == pytest.approx((0 + 1 + 1 + 0) / 4)
    assert corner_error(None, np.eye(3), (101, 51)) == np.inf


def test_means_over_pairs_and_over_sequences() -> None:
    results = [
        SequenceResult("i_a", (10, 20, 30, 40), (pair(0.0), pair(0.0), pair(0.3, error=4))),
        SequenceResult("v_b", (100, 100), (pair(1.0, 30),)),
    ]
    assert pair_counts_differ(results)
    overall = summarize(results)["overall"]
    assert overall["over_pairs"]["mma"][0] == pytest.approx(1.3 / 4)
    assert overall["over_sequences"]["mma"][0] == pytest.approx((0.1 + 1) / 2)
    assert overall["over_pairs"]["matches"] == pytest.approx(60 / 4)
    assert overall["over_sequences"]["matches"] == pytest.approx((10 + 30) / 2)
    assert overall["over_pairs"]["keypoints"] == pytest.approx(300 / 6, abs=1e-3)
    assert overall["over_sequences"]["keypoints"] == pytest.approx((25 + 100) / 2)
    assert overall["over_pairs"]["homography"] == [0.75, 0.75, 1.0]
    assert "viewpoint" in summarize(results) and "viewpoint" not in summarize(results[:1])


def test_intervals_are_over_sequences() -> None:
    """Ten sequences, half of them perfect: the share in a resample is binomial, 95 % within 0.2 to 0.8."""
    results = [SequenceResult(f"s{k}", (5, 5), (pair(float(k % 2)),) * 50) for k in range(10)]
    summary = summarize(results)
    assert list(summary) == ["overall"]
    low, high = summary["overall"]["over_pairs"]["interval95"]["mma"][4]
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.8))
    assert summarize(results) == summary
    same = summarize([SequenceResult(f"s{k}", (5, 5), (pair(0.5),)) for k in range(6)])["overall"]["over_pairs"]
    assert same["interval95"]["auc5"] == [0.5, 0.5] and same["interval95"]["keypoints"] == [5, 5]
    alone = summarize(results[:1])["overall"]["over_pairs"]
    assert alone["interval95"] is None
