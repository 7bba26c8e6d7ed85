"""Solvers side by side, on a small world with exact poses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks import vs_hloc_solvers
from benchmarks.vs_hloc_setting import Files
from benchmarks.vs_hloc_solvers import SOLVERS, by_poselib, format_report, measure, problems
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.pairs import read_pairs, write_pairs
from samfeat_hloc.formats.poses import write_poses
from samfeat_hloc.formats.queries import write_queries
from tests.world import make_world, triangulate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    found = Files(tmp_path_factory.mktemp("solvers"))
    world = make_world(found.inputs, num_points=300, num_db=6, num_queries=3)
    triangulate(world)
    write_queries(found.queries, world.queries)
    write_pairs(found.pairs, read_pairs(found.pairs_query))
    with h5py.File(found.matches, "w") as new, h5py.File(world.matches_query) as old:
        new.attrs.update(old.attrs)
        for key in old:
            old.copy(key, new)
    write_poses(found.truth, {query.name: world.pose(query.name) for query in world.queries}, basename=True)
    found.plan.write_text(json.dumps({"queries": [query.name for query in world.queries]}))
    return found


def test_noise_is_the_share_that_was_asked_for_and_has_one_vote(files: Files) -> None:
    _, clean = problems(files, 0)
    _, noisy = problems(files, 0.75)
    assert len(clean) == len(noisy) == 3
    for one, other in zip(clean, noisy, strict=True):
        assert len(one.ids) > 50
        assert len(other.ids) == pytest.approx(4 * len(one.ids), abs=2)
        np.testing.assert_array_equal(other.points2D[: len(one.ids)], one.points2D)
        assert (other.votes[len(one.ids) :] == 1).all()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_every_solver_finds_the_pose(files: Files, name: str, noise: float) -> None:
    if name == "PoseLib's":
        pytest.importorskip("poselib", reason="pip install poselib")
    scene, queries = problems(files, noise)
    for query in queries:
        pose = SOLVERS[name](query, scene)
        assert pose is not None
        error_m, error_deg = pose_errors(pose, query.truth)
        assert error_m < 0.05 and error_deg < 0.5


def test_the_table_and_what_is_missing(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "poselib", None)
    found = measure(files, 0.5, rounds=1)
    assert list(found) == ["COLMAP's, as hloc", "ours"]
    assert "pip install poselib; measured without it" in capsys.readouterr().out
    assert all(row["cpu_ms"] > 0 and row["within_5_cm"] == 1 and row["median_mm"] < 50 for row in found.values())
    table = format_report({"0.5": found})
    assert "| 50 % | ours | " in table and " | 100 % | 100 % | " in table
    scene, queries = problems(files, 0)
    with pytest.raises(MissingDependencyError, match="pip install poselib"):
        by_poselib(queries[0], scene)


def test_a_query_far_off_counts_as_wrong(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None:
        return None

    monkeypatch.setattr(vs_hloc_solvers, "SOLVERS", {"ours": nowhere, "PoseLib's": nowhere})
    monkeypatch.setattr(vs_hloc_solvers, "by_poselib", nowhere)
    found = measure(files, 0, rounds=1)
    assert found["ours"]["within_25_cm"] == 0 and found["ours"]["median_mm"] == np.inf


def test_bad_options(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--noise is 1"):
        problems(files, 1)
    with pytest.raises(ConfigError, match="--rounds is 0"):
        measure(files, 0, rounds=0)
    with pytest.raises(InputError, match=r"run python -m benchmarks\.vs_hloc first"):
        problems(Files(tmp_path), 0)
