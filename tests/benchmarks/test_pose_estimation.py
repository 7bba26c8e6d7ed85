"""benchmarks.pose_estimation: right poses are found by every variant, wrong ones are called so, and counted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pose_estimation
from benchmarks.pose_estimation import (
    EACH_IMAGE,
    SEEDS,
    VARIANTS,
    Query,
    agreement,
    evidence,
    fine_by_seed,
    ours,
    plain,
    right_by_score,
    summary,
    table,
)
from samfeat_hloc._pycolmap import pose_to_array, pycolmap
from samfeat_hloc.absolute_pose import PoseEstimate
from samfeat_hloc.errors import run_cli
from samfeat_hloc.scene import Scene
from tests.world import CAMERA, HEIGHT, WIDTH, look_at, make_points, unscored

POSE = look_at([1.0, 0.4, 0.5], [0.2, 0.1, 8])


@pytest.fixture(scope="module")
def world() -> tuple[Scene, Query]:
    """A query whose 60 right correspondences have two votes each, among 300 wrong ones with one."""
    rng = np.random.default_rng(0)
    points = make_points(1500, rng)
    model = pycolmap.Reconstruction()
    ids = np.array([model.add_point3D(xyz, pycolmap.Track(), np.zeros(3, np.uint8)) for xyz in points])
    xy = np.asarray(CAMERA.img_from_cam(POSE * points))
    inside = np.flatnonzero(((xy > 0) & (xy < [WIDTH, HEIGHT])).all(axis=1) & ((POSE * points)[:, 2] > 0))[:60]
    clutter = rng.uniform(0, [WIDTH, HEIGHT], (300, 2))
    keypoints = np.concatenate([xy[inside] + rng.normal(0, 0.5, (60, 2)), clutter])
    rows = np.column_stack([np.arange(360), np.arange(360)])
    observed = np.concatenate([ids[inside], rng.choice(ids, 300)])
    return Scene(model), Query(
        keypoints, [unscored(rows, observed), unscored(rows[:60], observed)], CAMERA, pose_to_array(POSE)
    )


def test_every_variant_finds_a_clear_pose(world: tuple[Scene, Query]) -> None:
    scene, query = world
    for name, estimate in VARIANTS.items():
        row = summary([(estimate(query, scene), query.truth)], 1.0)
        assert (row["fine"], row["localized"], row["wrong"]) == (1, 1, 0), name


def test_votes_tell_right_from_wrong(world: tuple[Scene, Query]) -> None:
    shares = agreement([world[1]], world[0])
    assert shares["2"] == 1.0
    assert shares["1"] < 0.1
    assert set(shares) == {"1", "2"}


def test_scores_tell_right_from_wrong(world: tuple[Scene, Query]) -> None:
    """The 60 right of the first image's 360 have the best scores; the second image has these alone."""
    scene, query = world
    scored = query.matched[0]._replace(scores=lambda: np.linspace(1, 0, 360))
    shares = right_by_score([replace(query, matched=[scored])], scene)
    assert shares["0.1"] == 1.0 and shares["0.25"] == pytest.approx(60 / 90, abs=0.05)
    assert shares["0.5"] == pytest.approx(60 / 180, abs=0.05) and shares["1.0"] == pytest.approx(60 / 360, abs=0.05)
    assert right_by_score([replace(query, matched=query.matched[1:])], scene)["1.0"] == 1.0
    assert right_by_score([], scene) == {}


def test_a_crowded_place_is_called_localized_by_the_count_of_inliers_alone(world: tuple[Scene, Query]) -> None:
    """All keypoints in one place: a camera far away sees every point there."""
    scene, query = world
    rng = np.random.default_rng(1)
    ids = np.array(sorted(scene.model.points3D))
    crowd = np.array([320, 240]) + rng.normal(0, 3, (200, 2))
    matched = [unscored(np.column_stack([np.arange(200)] * 2), rng.choice(ids, 200)) for _ in range(5)]
    crowded = Query(crowd, matched, CAMERA, query.truth)
    counted = [(plain(12.0)(crowded, scene), query.truth)]
    judged = [(ours()(crowded, scene), query.truth)]
    assert (summary(counted, 1.0)["localized"], summary(counted, 1.0)["wrong"]) == (1, 1)
    assert (summary(judged, 1.0)["localized"], summary(judged, 1.0)["wrong"]) == (0, 0)
    assert summary(judged, 1.0)["fine_mean_t_mm"] is None


def test_evidence_names_the_weakest_right_and_the_strongest_wrong_pose() -> None:
    near, far = pose_to_array(POSE), pose_to_array(look_at([30.0, 0.4, 0.5], [0.2, 0.1, 8]))
    found = [
        (PoseEstimate("localized", near, log10_nfa=-40.0), near),
        (PoseEstimate("localized", near, log10_nfa=-31.0), near),
        (PoseEstimate("localized", far, log10_nfa=-2.0), near),
        (PoseEstimate("localized", far, log10_nfa=3.0), near),
        (PoseEstimate("not verified"), near),
    ]
    assert evidence(found) == {"weakest_right": -31.0, "strongest_wrong": -2.0}


def test_table_has_a_row_for_every_variant(world: tuple[Scene, Query]) -> None:
    row = summary([(ours()(world[1], world[0]), world[1].truth)], 2.0)
    counts = fine_by_seed([world[1]], world[0], EACH_IMAGE)
    assert counts == [1] * SEEDS
    text = table({"sift": {"day": {"variants": dict.fromkeys(VARIANTS, row), "fine_by_seed": {"each": counts}}}})
    assert len(text.splitlines()) == 2 + len(VARIANTS) + 2
    assert text.splitlines()[-1] == "day, each: fine with 8 seeds 1, 1, 1, 1, 1, 1, 1, 1"
    assert "| 1, 1, 0, 2.0 |" in text


def test_a_folder_without_a_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pose_estimation", str(tmp_path), "--dataset", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as stop:
        run_cli(pose_estimation.main)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
