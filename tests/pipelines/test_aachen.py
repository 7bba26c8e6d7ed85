"""The Aachen pipeline from a folder to poses: results, reports, bad inputs, kills."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from samfeat_hloc.formats.journal import count_records
from samfeat_hloc.formats.poses import read_poses
from tests.pipelines.command_lines import refused
from tests.pipelines.wall import write_wall

ROOT = Path(__file__).parents[2]


def pipeline(dataset: Path | None, outputs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.aachen", "--outputs", str(outputs), "--features", "sift", *options]
    command += [] if dataset is None else ["--dataset", str(dataset)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wall(tmp_path_factory.mktemp("wall"))


@pytest.fixture(scope="module")
def finished(wall: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Outputs and printed text of one run."""
    outputs = tmp_path_factory.mktemp("outputs")
    result = pipeline(wall, outputs)
    assert result.returncode == 0, result.stderr
    return outputs, result.stdout


def report(outputs: Path) -> dict[str, dict[str, str]]:
    with (outputs / "sift/poses_report.csv").open() as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def test_every_query_is_localized_and_the_summary_says_so(finished: tuple[Path, str]) -> None:
    outputs, printed = finished
    summary = json.loads((outputs / "summary.json").read_text())
    assert set(summary) == {"dataset", "features", "seconds", "peak_memory_mb"}
    entry = summary["features"]["sift"]
    for condition, count in (("day", 3), ("night", 2)):
        row = entry[condition]
        assert set(row) == {"queries", "localized", "recall", "median_t_m", "median_r_deg"}
        assert row["queries"] == row["localized"] == count
        assert row["recall"] == [1.0, 1.0, 1.0]
        assert row["median_t_m"] < 0.05
    assert {"extract", "match", "triangulate", "localize"} <= set(summary["seconds"])
    assert 100 < summary["peak_memory_mb"] < 4000
    poses = read_poses(entry["poses"])
    assert sorted(poses) == ["t1.png", "t2.png", "y1.png", "y2.png", "y3.png"]
    assert "100.0 %" in printed
    pictures = {path.name for path in (outputs / "sift/pictures").iterdir()}
    assert pictures >= {"map.png", "overview.png", "day-y1.png", "night-t1.png"}
    assert {row["status"] for row in report(outputs).values()} == {"localized"}


def test_the_estimate_comes_before_the_work(wall: Path, tmp_path: Path) -> None:
    result = pipeline(wall, tmp_path)
    assert result.stderr.index("estimate: about") < result.stderr.index("extract:")
    assert "of memory" in result.stderr


def test_a_second_run_computes_nothing_again(finished: tuple[Path, str], wall: Path) -> None:
    outputs = finished[0]
    files = ["features.h5", "matches-db.h5", "matches-query.h5", "sfm/points3D.bin", "map/manifest.json"]
    before = {name: (outputs / "sift" / name).stat().st_mtime_ns for name in files}
    poses = (outputs / "sift/poses.txt").read_bytes()
    again = pipeline(wall, outputs)
    assert again.returncode == 0, again.stderr
    assert {name: (outputs / "sift" / name).stat().st_mtime_ns for name in files} == before
    assert (outputs / "sift/poses.txt").read_bytes() == poses


def test_other_settings_on_the_same_outputs_are_refused(finished: tuple[Path, str], wall: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(finished[0], outputs)
    assert "features.h5" in refused(pipeline(wall, outputs, "--max-keypoints", "300"))
    again = pipeline(wall, outputs, "--max-keypoints", "300", "--no-resume")
    assert again.returncode == 0, again.stderr


def test_bad_queries_are_reported_and_the_rest_completes(wall: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "wall"
    shutil.copytree(wall, dataset)
    day = dataset / "images_upright/query/day"
    (day / "y1.png").write_bytes((day / "y1.png").read_bytes()[:500])
    (day / "y2.png").unlink()
    cv2.imwrite(str(dataset / "images_upright/query/night/t1.png"), np.full((240, 320, 3), 77, np.uint8))
    (dataset / "images_upright/db/b4.png").write_bytes(b"no picture")
    result = pipeline(dataset, tmp_path / "outputs")
    assert result.returncode == 0, result.stderr
    status = {name.rsplit("/", 1)[-1]: row["status"] for name, row in report(tmp_path / "outputs").items()}
    assert status["y1.png"] == status["y2.png"] == "unreadable"
    assert status["t1.png"] in ("no retrieval", "too few matches")
    assert status["y3.png"] == status["t2.png"] == "localized"
    summary = json.loads((tmp_path / "outputs/summary.json").read_text())
    assert summary["features"]["sift"]["day"]["queries"] == 3
    assert summary["features"]["sift"]["day"]["localized"] == 1
    assert summary["features"]["sift"]["day"]["recall"][0] == pytest.approx(1 / 3, abs=1e-5)


def test_bad_datasets_get_one_line_and_status_2(wall: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "images_upright" in refused(pipeline(empty, tmp_path / "outputs"))
    assert "does not exist" in refused(pipeline(tmp_path / "absent", tmp_path / "outputs"))
    dataset = tmp_path / "wall"
    shutil.copytree(wall, dataset)
    (dataset / "queries/day_time_queries_with_intrinsics.txt").write_text("query/day/y1.png\n")
    assert "day_time_queries_with_intrinsics.txt:1" in refused(pipeline(dataset, tmp_path / "outputs"))


def test_the_local_features_protocol_takes_given_pairs_and_night_queries(wall: Path, tmp_path: Path) -> None:
    options = ["--protocol", "local-features"]
    assert "image_pairs_to_match" in refused(pipeline(wall, tmp_path / "outputs", *options))
    names = [f"db/b{i}.png" for i in range(1, 9)]
    lines = [f"{a} {b}" for i, a in enumerate(names) for b in names[i + 1 : i + 4]]
    lines += [f"{b} query/night/t{i}.png" for i in (1, 2) for b in names]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    result = pipeline(wall, tmp_path / "outputs", *options, "--pairs", str(tmp_path / "pairs.txt"))
    assert result.returncode == 0, result.stderr
    entry = json.loads((tmp_path / "outputs/summary.json").read_text())["features"]["sift"]
    assert "day" not in entry
    assert entry["night"]["localized"] == 2


@pytest.mark.parametrize(
    ("journal", "items"), [("features.h5.journal", 4), ("matches-db.h5.journal", 3), ("matches-query.h5.journal", 8)]
)
def test_killed_in_a_stage_it_ends_with_the_same_poses(
    finished: tuple[Path, str], wall: Path, tmp_path: Path, journal: str, items: int
) -> None:
    command = [sys.executable, "-m", "pipelines.aachen", "--dataset", str(wall), "--outputs", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--features", "sift"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if count_records(tmp_path / "sift" / journal) >= items:
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the stage was over before it could be killed"
    again = pipeline(wall, tmp_path)
    assert again.returncode == 0, again.stderr
    expected, got = (read_poses(outputs / "sift/poses.txt") for outputs in (finished[0], tmp_path))
    assert list(expected) == list(got)
    for name, pose in expected.items():
        np.testing.assert_allclose(got[name], pose, atol=1e-9)
