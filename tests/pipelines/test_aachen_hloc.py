"""`--runtime hloc`: refusals without hloc, hloc's logs as our reports, and a whole run inside a real hloc.

PYTHONPATH=HLOC python -m pytest tests/pipelines/test_aachen_hloc.py
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import aachen_hloc
from pipelines.aachen import parse
from pipelines.aachen_hloc_results import read_results
from pipelines.aachen_run import Options, run
from pipelines.aachen_stages import Files
from samfeat_hloc._pycolmap import pose_to_array, read_model, to_colmap
from samfeat_hloc.correspondences import gather
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import read_pairs, retrieved
from samfeat_hloc.formats.poses import read_poses, write_poses
from samfeat_hloc.localization_inputs import matched_images
from samfeat_hloc.scene import Scene
from tests.pipelines.wall import write_wall
from tests.world import World, make_world, triangulate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_hloc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "hloc"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hloc", None)


def test_without_hloc_it_says_how_to_get_it_before_any_work(no_hloc: None, tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="git clone") as error:
        run(Options(runtime="hloc", outputs=tmp_path / "outputs"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "outputs").exists()


def test_an_hloc_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old: Any = ModuleType("hloc")
    old.__version__ = "1.4"
    monkeypatch.setitem(sys.modules, "hloc", old)
    monkeypatch.setattr(aachen_hloc, "register_with_hloc", lambda: None)
    with pytest.raises(MissingDependencyError, match=r"hloc 1\.4 cannot triangulate .* with pycolmap 4"):
        aachen_hloc.check_hloc()
    old.__version__ = "1.5"
    assert aachen_hloc.check_hloc() == "1.5"


def test_the_option(tmp_path: Path) -> None:
    assert parse([]).runtime == "native" and parse([]).results == parse([]).outputs
    chosen = parse(["--runtime", "hloc", "--outputs", str(tmp_path)])
    assert chosen.runtime == "hloc" and chosen.results == tmp_path / "hloc"
    with pytest.raises(SystemExit):
        parse(["--runtime", "colmap"])
    with pytest.raises(ConfigError, match="native, hloc"):
        Options(runtime="colmap")


def test_what_hloc_raises_becomes_one_line() -> None:
    expected = r"^hloc's match_features failed: KeyError: 'db/1\.jpg'; "
    with pytest.raises(InputError, match=expected) as error, aachen_hloc.hloc_stage("match_features"):
        raise KeyError("db/1.jpg")
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(MissingDependencyError), aachen_hloc.hloc_stage("extract_features"):
        raise MissingDependencyError("ours stay as they are")


def test_a_folder_of_other_settings_is_refused_or_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "samfeat"
    aachen_hloc._open_folder(folder, {"matcher": "nn-mutual"}, True)
    (folder / "features.h5").write_bytes(b"made")
    aachen_hloc._open_folder(folder, {"matcher": "nn-mutual"}, True)
    assert (folder / "features.h5").exists()
    with pytest.raises(InputError, match=r"different: matcher"):
        aachen_hloc._open_folder(folder, {"matcher": "nn-ratio"}, True)
    aachen_hloc._open_folder(folder, {"matcher": "nn-ratio"}, False)
    assert not (folder / "features.h5").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(InputError, match="did not make"):
            aachen_hloc._open_folder(other, {}, resume)
    assert (other / "thesis.txt").exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"), num_points=300, num_db=6, num_queries=3)
    triangulate(made)
    return made


def test_hlocs_logs_become_our_reports(world: World) -> None:
    files = Files(world.root)
    scene, pairs = Scene(read_model(world.sfm)), retrieved(read_pairs(world.pairs_query))
    solved, failed, unseen = (query.name for query in world.queries)
    logs: dict[str, Any] = {}
    with MatchReader(world.matches_query) as matches:
        for name in (solved, failed):
            found = gather(matched_images(matches, name, pairs[name], scene))
            points2D = to_colmap(world.features_of[name].keypoints)[found.keypoints]
            inliers = np.arange(len(found)) % 3 > 0
            logs[name] = {
                "PnP_ret": {"inlier_mask": inliers} if name == solved else None,
                "num_matches": found.num_matches,
                "keypoints_query": points2D,
                "points3D_ids": found.points3D.tolist(),
                "keypoint_index_to_db": (found.keypoints.tolist(), []),
            }
    borrowed = pose_to_array(world.poses[world.database[0]])
    write_poses(files.poses, {solved: world.pose(solved), failed: borrowed}, basename=True)
    Path(f"{files.poses}_logs.pkl").write_bytes(pickle.dumps({"loc": logs}))
    outcome = read_results(world.queries, files, {"hloc": "1.5"})
    assert [result.status for result in outcome.results.values()] == ["localized", "not verified", "no retrieval"]
    result = outcome.results[solved]
    assert result.pose is not None
    np.testing.assert_allclose(result.pose, world.pose(solved), atol=1e-9)
    assert result.estimate.num_inliers == np.count_nonzero(np.arange(len(logs[solved]["points3D_ids"])) % 3)
    assert result.estimate.log10_nfa < -30  # a right pose is not chance
    np.testing.assert_allclose(outcome.poses[failed], borrowed, atol=1e-9)
    assert unseen not in outcome.poses
    with outcome.csv_path.open() as stream:
        table = {row["name"]: row for row in csv.DictReader(stream)}
    assert table[solved]["std_translation_m"] == "" and table[solved]["qw"] != ""
    settings = json.loads(outcome.json_path.read_text())["settings"]
    assert settings == {"hloc": "1.5"}


def pipeline(dataset: Path, outputs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.aachen", "--dataset", str(dataset), "--outputs", str(outputs)]
    command += ["--num-covis", "4", "--num-loc", "6", "--max-keypoints", "512", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("features", ["samfeat", "sift"])
def test_a_run_inside_hloc_gives_the_same_table(tmp_path: Path, features: str) -> None:
    pytest.importorskip("hloc", reason="put a checkout of hloc on PYTHONPATH")
    dataset, outputs = write_wall(tmp_path / "wall"), tmp_path / "outputs"
    done = pipeline(dataset, outputs, "--runtime", "hloc", "--features", features)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("estimate_two_view_geometries=True") == 1
    summary = json.loads((outputs / "hloc/summary.json").read_text())
    assert summary["runtime"].startswith("hloc 1.")
    native = pipeline(dataset, outputs, "--features", features)
    assert native.returncode == 0, native.stderr
    ours = json.loads((outputs / "summary.json").read_text())
    for condition in ("day", "night"):
        theirs, mine = summary["features"][features][condition], ours["features"][features][condition]
        assert theirs["recall"] == mine["recall"] == [1.0, 1.0, 1.0]
        assert theirs["median_t_m"] < 0.05
    folder = outputs / "hloc" / features
    assert {path.name for path in (folder / "pictures").iterdir()} >= {"map.png", "overview.png"}
    assert "100.0 %" in done.stdout
    kept = [folder / name for name in ("features.h5", "matches-db.h5", "sfm/points3D.bin")]
    before, poses = [path.stat().st_mtime_ns for path in kept], read_poses(folder / "poses.txt")
    again = pipeline(dataset, outputs, "--runtime", "hloc", "--features", features)
    assert again.returncode == 0, again.stderr
    assert [path.stat().st_mtime_ns for path in kept] == before
    for name, pose in read_poses(folder / "poses.txt").items():
        np.testing.assert_allclose(pose, poses[name], atol=1e-9)
    refused = pipeline(dataset, outputs, "--runtime", "hloc", "--features", features, "--matcher", "nn-ratio")
    assert refused.returncode == 2 and "different: matcher" in refused.stderr


def test_photographs_are_told_apart_by_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    world: Any = SimpleNamespace(image_names=["a.jpg", "b.jpg"], layout=SimpleNamespace(images=tmp_path))
    assert aachen_hloc.image_bytes(world) == {"a.jpg": 5, "b.jpg": -1}
