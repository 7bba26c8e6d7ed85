"""Pose errors, recall and the table."""

from __future__ import annotations

import numpy as np
import pytest

from samfeat_hloc._pycolmap import pose_from_array, pose_to_array, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import (
    THRESHOLDS,
    camera_center,
    format_table,
    pose_errors,
    recall,
    rotation_matrix,
    summarize,
)

IDENTITY = np.array([1.0, 0, 0, 0, 0, 0, 0])


def moved(metres: float, degrees: float) -> np.ndarray:
    half = np.radians(degrees) / 2
    quaternion = np.array([np.cos(half), 0, np.sin(half), 0])
    return np.array([*quaternion, *(-rotation_matrix(quaternion) @ [metres, 0, 0])])


@pytest.mark.parametrize("degrees", [0.0, 1e-7, 0.3, 90.0, 180.0])
def test_errors_are_those_of_the_camera(degrees: float) -> None:
    t_m, r_deg = pose_errors(moved(0.7, degrees), IDENTITY)
    assert t_m == pytest.approx(0.7)
    assert r_deg == pytest.approx(degrees, abs=1e-10, rel=1e-6)


def test_sign_of_the_quaternion_does_not_matter() -> None:
    pose = moved(1.0, 30.0)
    assert pose_errors(pose * [-1, -1, -1, -1, 1, 1, 1], pose) == pytest.approx((0, 0), abs=1e-9)


def test_conventions_are_colmaps() -> None:
    pose = np.array([0.5, -0.5, 0.5, 0.5, 1.0, 2.0, 3.0])
    rigid = pose_from_array(pose)
    np.testing.assert_allclose(rotation_matrix(pose[:4]), rigid.rotation.matrix(), atol=1e-12)
    np.testing.assert_allclose(camera_center(pose), rigid.inverse().translation, atol=1e-12)
    np.testing.assert_allclose(pose_to_array(pycolmap.Rigid3d()), IDENTITY)


def test_unlocalized_queries_count_as_infinitely_wrong() -> None:
    truth = {f"q{i}": IDENTITY for i in range(4)}
    estimated = {"q0": moved(0.2, 1), "q1": moved(0.2, 4), "q2": moved(4, 1)}
    summary = summarize(estimated, truth, truth)
    assert (summary.queries, summary.localized, summary.recall) == (4, 3, (0.25, 0.5, 0.75))
    assert summary.median_t_m == pytest.approx(0.2)


def test_thresholds_are_inclusive_and_both_must_hold() -> None:
    assert recall([(0.25, 2.0), (0.1, 2.1), (0.3, 1.0)], 3, THRESHOLDS[:1]) == (1 / 3,)


def test_nothing_localized() -> None:
    summary = summarize({}, {"q": IDENTITY}, ["q"])
    assert summary.recall == (0, 0, 0)
    assert summary.to_json()["median_t_m"] is None


def test_query_without_truth_is_an_error() -> None:
    with pytest.raises(InputError, match="nearest name to 'db/q' there is 'q'"):
        summarize({}, {"q": IDENTITY}, ["db/q"])


def test_table_has_a_line_a_condition() -> None:
    truth = {"q": IDENTITY}
    table = format_table({"samfeat": {"day": summarize({"q": moved(0.1, 1)}, truth, ["q"])}}).splitlines()
    assert len(table) == 2
    assert "(0.25 m, 2°)" in table[0] and "100.0 %" in table[1] and "0.100 m" in table[1]
