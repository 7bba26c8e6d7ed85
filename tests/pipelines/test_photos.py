"""The photographs' pipeline from a messy folder to a report: results, resuming, kills, refusals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.formats.journal import count_records
from tests.pipelines.command_lines import refused
from tests.pipelines.photo_folder import CENTRES, FOCAL_35_MM, PHONE, save, stranger, write_clean, write_messy
from tests.pipelines.wall import painted_wall

ROOT = Path(__file__).parents[2]


def command(folder: Path, outputs: Path, *options: str) -> list[str]:
    given = ["--outputs", str(outputs), "--features", "sift", *options]
    return [sys.executable, "-m", "pipelines.photos", str(folder), *given]


def pipeline(folder: Path, outputs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, outputs, *options), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


def worst_centre_error(model: pycolmap.Reconstruction) -> float:
    """Largest distance in metres of a camera to its true place, after similarity alignment."""
    found = {image.name: image.projection_center() for image in model.images.values() if image.has_pose}
    truth = np.array([CENTRES[name] for name in found], float)
    aligned = pycolmap.estimate_sim3d(np.stack(list(found.values())), truth)
    moved = np.stack([aligned * centre for centre in found.values()])
    return float(np.linalg.norm(moved - truth, axis=1).max())


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messy(tmp_path_factory.mktemp("photos") / "messy")


@pytest.fixture(scope="module")
def finished(messy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Outputs and report of one run with two mappers."""
    outputs = tmp_path_factory.mktemp("outputs")
    result = pipeline(messy, outputs, "--mapper", "incremental", "global")
    assert result.returncode == 0, result.stderr
    assert "incremental" in result.stdout and "8 of 13" in result.stdout
    return outputs, json.loads((outputs / "report.json").read_text())


def test_the_photographs_that_fit_are_where_they_were(finished: tuple[Path, dict]) -> None:
    outputs, report = finished
    assert [(run["features"], run["mapper"]) for run in report["runs"]] == [("sift", "incremental"), ("sift", "global")]
    for run in report["runs"]:
        model = read_model(outputs / run["model"])
        assert {image.name for image in model.images.values() if image.has_pose} == set(CENTRES)
        assert worst_centre_error(model) < 0.1
        assert run["statistics"]["points"] == model.num_points3D() > 100
        assert run["statistics"]["mean_reprojection_error_px"] < 2


def test_every_other_file_has_a_reason(finished: tuple[Path, dict]) -> None:
    _, report = finished
    assert report["photographs"]["found"] == 13
    for run in report["runs"]:
        why = run["not_registered"]
        assert set(why) == {"copies/IMG_6.jpg", "garbage.jpg", "torn.jpg", "wide.jpg", "stranger.png"}
        assert "a copy of IMG_6.jpg" in why["copies/IMG_6.jpg"]
        assert "cannot be read" in why["garbage.jpg"] and "cannot be read" in why["torn.jpg"]
        assert "panorama (1280x240" in why["wide.jpg"]
        assert "none of its 8 pairs passed geometric verification" in why["stranger.png"]


def test_cameras_are_shared_by_device_and_size(finished: tuple[Path, dict]) -> None:
    outputs, report = finished
    model = read_model(outputs / "sift/incremental")
    cameras = {image.name: model.cameras[image.camera_id] for image in model.images.values()}
    assert {name for name, camera in cameras.items() if (camera.width, camera.height) == (256, 192)} == set(PHONE)
    assert len({cameras[name].camera_id for name in PHONE}) == 1
    # a turned photograph is stored with its sides swapped: another camera to COLMAP
    assert (cameras["IMG_7.jpg"].width, cameras["IMG_7.jpg"].height) == (240, 320)
    assert report["cameras"]["exif"] >= 3 and report["cameras"]["given"] == 0
    assert report["photographs"]["turned_by_exif"] == 2


def test_stages_are_measured(finished: tuple[Path, dict]) -> None:
    for run in finished[1]["runs"]:
        stages = run["stages"]
        wanted = {"features", "pairs", "matching", f"mapping ({run['mapper']})", f"verification ({run['mapper']})"}
        assert wanted <= set(stages)
        assert all(row["seconds"] >= 0 and 20 < row["peak_memory_mb"] < 4000 for row in stages.values())
        assert not any("mapping" in stage and run["mapper"] not in stage for stage in stages)


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_everything_itself(finished: tuple[Path, dict]) -> None:
    page = Page((finished[0] / "report.html").read_text())
    assert len(page.sources) >= 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "stranger.png" in page.text and "a copy of IMG_6.jpg" in page.text and "8 of 13" in page.text
    assert "compare with the incremental mapper before you trust" in page.text


def test_a_second_run_computes_nothing_again(finished: tuple[Path, dict], messy: Path) -> None:
    outputs, report = finished
    kept = [
        path for path in (outputs / "sift").rglob("*")
        if path.is_file() and path.suffix in (".h5", ".bin")
    ]  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) > 8
    again = pipeline(messy, outputs, "--mapper", "incremental", "global")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    rerun = json.loads((outputs / "report.json").read_text())
    assert rerun["runs"][0]["stages"]["features"] == report["runs"][0]["stages"]["features"]
    assert rerun["runs"][0]["statistics"] == report["runs"][0]["statistics"]


@pytest.mark.parametrize("moment", ["features.h5.journal", "matches.h5.journal", "incremental/snapshots"])
def test_killed_in_a_stage_it_ends_with_a_whole_model(tmp_path: Path, moment: str) -> None:
    folder = write_clean(tmp_path / "photos")
    process = subprocess.Popen(
        command(folder, tmp_path / "out"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    watched = tmp_path / "out/sift" / moment
    while process.poll() is None and time.monotonic() < deadline:
        if watched.is_dir() or (watched.suffix == ".journal" and count_records(watched) >= 3):
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL, "the stage was over before it could be killed"
    again = pipeline(folder, tmp_path / "out")
    assert again.returncode == 0, again.stderr
    model = read_model(tmp_path / "out/sift/incremental")
    assert model.num_reg_images() == 8
    assert worst_centre_error(model) < 0.1


def test_photographs_of_different_places_are_reported_and_refused(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"photos/{number}.jpg", stranger(number))
    line = refused(pipeline(tmp_path / "photos", tmp_path / "out"))
    assert "none of the 3 pairs passed geometric verification" in line and "report.html" in line
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert len(report["runs"][0]["not_registered"]) == 3
    assert report["runs"][0]["models"] == []


def test_more_photographs_than_before_need_a_word(tmp_path: Path) -> None:
    folder = write_clean(tmp_path / "photos", count=5)
    assert pipeline(folder, tmp_path / "out").returncode == 0
    write_clean(folder, count=6)
    assert "--overwrite" in refused(pipeline(folder, tmp_path / "out"))
    result = pipeline(folder, tmp_path / "out", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert "6 of 6" in result.stdout
    assert "features: finished before" in result.stderr and "matching: finished before" in result.stderr


def test_given_intrinsics_stay_as_given(tmp_path: Path) -> None:
    folder = write_clean(tmp_path / "photos", count=6)
    (tmp_path / "cameras.txt").write_text("# one camera\n1 PINHOLE 320 240 300 300 160 120\n")
    options = ["--cameras", str(tmp_path / "cameras.txt"), "--mapper", "incremental", "global"]
    result = pipeline(folder, tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    for mapper in ("incremental", "global"):
        model = read_model(tmp_path / "out/sift" / mapper)
        assert [list(camera.params) for camera in model.cameras.values()] == [[300, 300, 160, 120]]
        assert worst_centre_error(model) < 0.05


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "does not exist" in refused(pipeline(tmp_path / "absent", out))
    (tmp_path / "one").mkdir()
    assert "has no photograph" in refused(pipeline(tmp_path / "one", out))
    save(tmp_path / "one/1.jpg", painted_wall(0, 5, 4), focal_35=FOCAL_35_MM)
    assert "1 usable photographs; expected at least 2" in refused(pipeline(tmp_path / "one", out))
    assert "--max-aspect is 0.5" in refused(pipeline(tmp_path / "one", out, "--max-aspect", "0.5"))


def test_names_with_white_space(tmp_path: Path) -> None:
    folder = write_clean(tmp_path / "photos", count=4)
    (folder / "IMG_5.jpg").rename(folder / "IMG 5.jpg")
    result = pipeline(folder, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "4 of 4" in result.stdout and "read through links" in result.stderr
    assert json.loads((tmp_path / "out/report.json").read_text())["folder"] == str(folder)
