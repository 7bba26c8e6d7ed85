"""The comparison with hloc: its parts on a small exact world, and the whole on a rendered corner.

    PYTHONPATH=HLOC python -m pytest -m slow tests/benchmarks/test_vs_hloc.py

runs both sides; without hloc the slow test measures ours alone.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks.vs_hloc import parse
from benchmarks.vs_hloc_colmap import colmap_options
from benchmarks.vs_hloc_compare import compare_correspondences, compare_matches, statistics
from benchmarks.vs_hloc_report import format_report, rows
from benchmarks.vs_hloc_run import JOBS, Benchmark
from benchmarks.vs_hloc_setting import Files, Setting, spread
from benchmarks.vs_hloc_worker import measure
from samfeat_hloc._pycolmap import pycolmap, read_model, to_colmap
from samfeat_hloc.correspondences import gather
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import read_pairs, retrieved, write_pairs
from samfeat_hloc.formats.poses import read_poses
from samfeat_hloc.formats.queries import write_queries
from samfeat_hloc.localization_inputs import matched_images
from samfeat_hloc.scene import Scene, posed_images
from tests.pipelines.wall import write_wall
from tests.world import World, make_world, triangulate

ROOT = Path(__file__).parents[2]
PLAN = {"extract": ["a", "b"], "pairs_db": 10, "pairs_query": 6, "queries": ["q"]}


def run(seconds: float, peak_mb: float, **more: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_s": seconds,
        "load_s": 0.0,
        "peak_mb": peak_mb,
        "imports_mb": 1.0,
        "helpers_mb": 0.0,
        **more,
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Files]:
    """A world's files where the jobs look for theirs."""
    root = tmp_path_factory.mktemp("vs_hloc")
    files = Files(root)
    world = make_world(files.inputs)
    triangulate(world)
    write_queries(files.queries, world.queries)
    write_pairs(files.pairs, [*read_pairs(files.pairs_db), *read_pairs(files.pairs_query)])
    with h5py.File(files.matches, "w") as both:
        for path in (world.matches_db, world.matches_query):
            with h5py.File(path) as part:
                both.attrs.update(part.attrs)
                for key in part:
                    part.copy(key, both)
    plan = {"images": str(world.images), "max_keypoints": 512, **PLAN, "queries": [q.name for q in world.queries]}
    files.plan.write_text(json.dumps(plan))
    return world, files


def test_the_median_counts_and_ratios_are_hlocs_to_ours() -> None:
    measured = {
        "hloc match": [run(9.0, 400), run(8.0, 500), run(20.0, 450)],
        "ours match": [run(1.0, 300), run(3.0, 200), run(2.0, 225)],
        "ours localize": [run(0.5, 100)],
        "colmap sift": [run(4.0, 150, match_s=1.5, match_pairs=3)],
    }
    found = {row["stage"]: row for row in rows(measured, PLAN)}
    assert list(found) == ["match", "localize", "COLMAP's SIFT", "COLMAP matches its sift"]
    match = found["match"]
    assert match["times_faster"] == pytest.approx(9 / 2)
    assert match["memory_ratio"] == pytest.approx(225 / 450)
    assert match["ours"]["per_second"] == pytest.approx(16 / 2)
    assert "times_faster" not in found["localize"]
    assert found["COLMAP matches its sift"]["ours"]["seconds_each"] == pytest.approx(0.5)
    text = format_report({"rows": list(found.values()), "runs": 3, "cores": 2, "comparison": {}})
    assert "4.5" in next(line for line in text.splitlines() if line.startswith("match"))
    assert "ours alone" in text


def test_jobs_follow_what_is_given(tmp_path: Path) -> None:
    alone = Benchmark(Setting(), tmp_path).jobs()
    assert {side for side, _ in alone} == {"ours", "colmap"}
    assert ("ours", "triangulate-estimated") not in alone and ("colmap", "aliked") not in alone
    more = Benchmark(Setting(), tmp_path, estimated=True, models={"aliked": "a", "lightglue": "b"}).jobs()
    assert set(more) - set(alone) == {("ours", "triangulate-estimated"), ("colmap", "aliked")}


def test_every_job_can_be_run() -> None:
    from benchmarks.vs_hloc_jobs import find_job

    for side, job in JOBS:
        assert callable(find_job(side, job))


@pytest.mark.parametrize(
    ("job", "product"),
    [
        ("match", "matches.h5"),
        ("match-dot", "matches.h5"),
        ("triangulate", "sfm/points3D.bin"),
        ("localize", "poses.txt"),
        ("localize-plain", "poses.txt"),
    ],
)
def test_a_job_says_what_it_took_and_leaves_its_files(
    prepared: tuple[World, Files], tmp_path: Path, job: str, product: str
) -> None:
    world, files = prepared
    figures = measure(files, "ours", job, tmp_path, {})
    assert 0 < figures["seconds"] < 60 and figures["cpu_s"] > 0 and figures["load_s"] == 0
    assert 50 < figures["peak_mb"] < 4000
    assert (tmp_path / product).is_file()
    if job == "triangulate":
        assert statistics(tmp_path / "sfm")["points"] == read_model(world.sfm).num_points3D()
    if job.startswith("localize"):
        assert len(read_poses(tmp_path / "poses.txt")) == len(world.queries)
    if job.startswith("match"):  # float16 descriptors are not quite of unit length: the largest product may be another
        same = compare_matches(tmp_path / "matches.h5", files.matches, files.pairs)
        assert same["only_one_side"] <= (0 if job == "match" else 0.001 * same["matches"])


def test_a_match_more_on_one_side_is_noticed(prepared: tuple[World, Files], tmp_path: Path) -> None:
    _, files = prepared
    with h5py.File(files.matches) as old, h5py.File(tmp_path / "other.h5", "w") as new:
        for key in old:
            old.copy(key, new)
        first, second = read_pairs(files.pairs)[0]
        matches = new[f"{first.replace('/', '-')}/{second.replace('/', '-')}/matches0"]
        index = int(np.flatnonzero(matches[()] >= 0)[0])
        matches[index] = -1
    same = compare_matches(files.matches, tmp_path / "other.h5", files.pairs)
    assert same["equal_pairs"] == same["pairs"] - 1
    assert same["only_one_side"] == 1


def hlocs_correspondences(world: World, files: Files, path: Path, drop: int = 0) -> Path:
    """As hloc orders them: by database image, a keypoint's points together; `drop` of them left out."""
    scene, pairs = Scene(read_model(files.model)), retrieved(read_pairs(files.pairs_query))
    rng = np.random.default_rng(0)
    stored = {}
    with MatchReader(files.matches) as matches:
        for query in world.queries:
            found = gather(matched_images(matches, query.name, pairs[query.name], scene))
            order = rng.permutation(len(found))[drop:]
            points2D = to_colmap(world.features_of[query.name].keypoints)
            stored[f"{query.name}|keypoints"] = found.keypoints[order]
            stored[f"{query.name}|points2D"] = points2D[found.keypoints[order]]
            stored[f"{query.name}|points3D"] = found.points3D[order]
    np.savez(path, **stored)
    return path


def test_equal_correspondences_give_equal_poses_whatever_their_order(
    prepared: tuple[World, Files], tmp_path: Path
) -> None:
    world, files = prepared
    found = compare_correspondences(files, hlocs_correspondences(world, files, tmp_path / "c.npz"))
    assert found["equal_correspondences"] == found["queries"] == len(world.queries)
    assert found["largest_difference_mm"] < 1e-6 and found["largest_difference_deg"] < 1e-6
    fewer = compare_correspondences(files, hlocs_correspondences(world, files, tmp_path / "d.npz", drop=40))
    assert fewer["equal_correspondences"] == 0
    assert fewer["largest_difference_mm"] > 1e-6


def test_images_are_spread_over_the_dataset() -> None:
    names = [str(number) for number in range(10)]
    assert spread(names, 4) == ["0", "2", "5", "7"]
    assert spread(names, 10) == spread(names, 30) == names


def test_a_part_of_a_model_keeps_poses_and_ids(prepared: tuple[World, Files]) -> None:
    world, files = prepared
    whole = read_model(files.model)
    part = posed_images(whole, world.database[1:4])
    assert part.num_points3D() == 0 and part.num_reg_images() == 3
    for image_id, image in part.images.items():
        assert whole.images[image_id].name == image.name
        np.testing.assert_allclose(
            image.cam_from_world().matrix(), whole.images[image_id].cam_from_world().matrix(), atol=1e-12
        )
    with pytest.raises(InputError, match="nowhere"):
        posed_images(whole, ["nowhere.jpg"])


def test_bad_options_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--num-database is 2"):
        Setting(num_database=2)
    with pytest.raises(ConfigError, match="--runs is 0"):
        parse(["--runs", "0"])
    with pytest.raises(ConfigError, match="both --aliked and --lightglue"):
        parse(["--aliked", str(tmp_path / "a.onnx")])
    with pytest.raises(InputError, match="does not exist"):
        parse(["--dataset", str(tmp_path / "absent")])
    with pytest.raises(ConfigError, match="give --hloc too"):
        parse(["--hloc-pycolmap", str(tmp_path)])
    with pytest.raises(InputError, match="no aliked model file"):
        colmap_options("aliked", 512, {})


def test_aliked_takes_the_given_models_where_pycolmap_has_onnx(tmp_path: Path) -> None:
    models = {name: str(tmp_path / f"{name}.onnx") for name in ("aliked", "lightglue")}
    for path in models.values():
        Path(path).write_bytes(b"")
    if not hasattr(pycolmap.FeatureExtractionOptions(), "aliked"):
        with pytest.raises(MissingDependencyError, match="without ONNX"):
            colmap_options("aliked", 512, models)
        return
    extraction, matching = colmap_options("aliked", 512, models)
    assert extraction.aliked.n16rot_model_path == models["aliked"]
    assert matching.aliked.lightglue.model_path == models["lightglue"]


def test_a_folder_without_hloc_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("hloc"):
        pytest.skip("hloc can be imported from anywhere here")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(MissingDependencyError, match=r"hloc cannot be imported from .*No module named 'hloc'"):
        Benchmark(Setting(), tmp_path, tmp_path)


def test_a_stage_that_fails_says_so_and_where_its_output_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ours prepare ended with status 2: error: .*absent does not exist") as error:
        Benchmark(Setting(dataset=str(tmp_path / "absent")), tmp_path / "out").run(1)
    assert "ours-prepare-0.log" in str(error.value)


@pytest.mark.slow
def test_one_run_measures_every_stage_and_the_next_measures_none_again(tmp_path: Path) -> None:
    dataset = write_wall(tmp_path / "wall")
    spec = importlib.util.find_spec("hloc")
    hloc = [] if spec is None or spec.origin is None else ["--hloc", str(Path(spec.origin).parents[1])]
    sizes = ["--num-database", "8", "--num-queries", "3", "--num-retrieved", "6", "--num-extract", "2"]
    command = [sys.executable, "-m", "benchmarks.vs_hloc", "--dataset", str(dataset), "--max-keypoints", "400", *sizes]
    command += ["--runs", "1", "--outputs", str(tmp_path / "out"), "--json", str(tmp_path / "found.json"), *hloc]

    def call() -> str:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = call()
    report = json.loads((tmp_path / "found.json").read_text())
    stages = {row["stage"]: row for row in report["rows"]}
    assert {"extract SAMFeat", "extract SIFT", "match", "triangulate", "localize", "COLMAP's SIFT"} <= set(stages)
    assert stages["match"]["count"] == 8 * 7 // 2 + 3 * 6
    assert all(row["ours"]["seconds"] > 0 and row["ours"]["peak_mb"] > 50 for row in report["rows"])
    if hloc:
        same = report["comparison"]
        assert same["matches"]["by dot product"]["only_one_side"] == 0
        assert same["correspondences"]["equal_correspondences"] == same["correspondences"]["queries"] == 3
        assert same["correspondences"]["largest_difference_mm"] < 1
        assert same["correspondences"]["largest_difference_deg"] < 0.01
        assert stages["match"]["times_faster"] > 0
        assert same["models"]["hloc triangulate"] == same["models"]["ours triangulate"]
    else:
        assert "ours alone" in printed
    results = sorted((tmp_path / "out").glob("*/results/ours-localize-0.json"))
    before = [path.stat().st_mtime_ns for path in results]
    call()
    assert len(results) == 1 and [path.stat().st_mtime_ns for path in results] == before
