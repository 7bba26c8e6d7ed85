"""The HPatches pipeline on a data set whose answers are known by construction."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import hpatches
from samfeat_hloc.checkpoints import save_weights
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.formats.features import Features, FeatureWriter
from samfeat_hloc.model import SAMFeat

SIZE = (96, 64)
GRID = np.stack(np.meshgrid(np.arange(10.0, 50, 10), np.arange(10.0, 30, 10)), axis=-1).reshape(-1, 2)  # 8 points
SHIFT = np.array([[1, 0, 5], [0, 1, 3], [0, 0, 1]], np.float64)
AFFINE = np.array([[1.1, 0.1, 2], [-0.05, 0.95, 4], [0, 0, 1]], np.float64)


def sequence(folder: Path, homographies: list[np.ndarray], seed: int = 0) -> None:
    """Random photographs: only features made by hand know where anything is."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(1, len(homographies) + 2):
        pixels = generator.integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    for number, homography in enumerate(homographies, 2):
        (folder / f"H_1_{number}").write_text("\n".join(" ".join(map(str, row)) for row in homography))


def features(points: np.ndarray) -> Features:
    """Keypoints whose descriptors are all different, the same for the same index."""
    count = len(points)
    return Features(
        keypoints=points.astype(np.float32),
        descriptors=np.eye(8, dtype=np.float32)[:count],
        scores=np.linspace(1, 0.5, count).astype(np.float32),
        attention=np.ones(count, np.float32),
        image_size=SIZE,
    )


def moved(points: np.ndarray, homography: np.ndarray, offsets: np.ndarray | float = 0.0) -> np.ndarray:
    """Points of image k that are wrong by the offsets, pixels in x."""
    there = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return there[:, :2] / there[:, 2:] + np.column_stack([offsets * np.ones(len(points)), np.zeros(len(points))])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    sequence(root / "i_one", [SHIFT, SHIFT])
    sequence(root / "v_two", [AFFINE], 1)
    sequence(root / "i_dc", [SHIFT], 2)  # left out by the protocol
    return root


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """i_one/2: the j-th of 8 matches is wrong by j - 0.5 px; i_one/3: all by 20 px; v_two/2: none is wrong."""
    path = tmp_path / "peer.h5"
    with FeatureWriter(path, {"name": "by hand"}) as writer:
        writer.add("i_one/1.png", features(GRID))
        writer.add("i_one/2.png", features(moved(GRID, SHIFT, np.arange(8) + 0.5)))
        writer.add("i_one/3.png", features(moved(GRID, SHIFT, 20)))
        writer.add("v_two/1.png", features(GRID[:6]))
        writer.add("v_two/2.png", features(moved(GRID[:6], AFFINE)))
    return path


def test_exact_values(dataset: Path, by_hand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = hpatches.run(dataset, [str(by_hand)], tmp_path / "out")
    sets = report["features"]["peer"]["sets"]
    staircase = np.minimum(np.arange(1, 11), 8) / 8
    overall, light, view = (sets[name] for name in ("overall", "illumination", "viewpoint"))
    assert [(s["sequences"], s["pairs"]) for s in (overall, light, view)] == [(2, 3), (1, 2), (1, 1)]
    np.testing.assert_allclose(light["over_pairs"]["mma"], staircase / 2)
    np.testing.assert_allclose(view["over_pairs"]["mma"], np.ones(10))
    np.testing.assert_allclose(overall["over_pairs"]["mma"], (staircase + 0 + 1) / 3, atol=1e-6)
    np.testing.assert_allclose(overall["over_sequences"]["mma"], (staircase / 2 + 1) / 2, atol=1e-6)
    assert overall["over_pairs"]["auc5"] == pytest.approx((staircase[:5].mean() + 1) / 3, abs=1e-6)
    assert overall["over_pairs"]["matches"] == pytest.approx((8 + 8 + 6) / 3, abs=1e-3)
    assert overall["over_pairs"]["correct"] == pytest.approx((3 + 0 + 6) / 3, abs=1e-3)
    assert overall["over_pairs"]["keypoints"] == pytest.approx((3 * 8 + 2 * 6) / 5, abs=1e-3)
    assert overall["over_sequences"]["keypoints"] == pytest.approx(7)
    assert view["over_pairs"]["homography"] == [1, 1, 1]
    rows = {row["name"]: row for row in report["features"]["peer"]["sequences"]}
    assert rows["v_two"]["pair_corner_error"][0] == pytest.approx(0, abs=1e-3)
    assert rows["i_one"]["pair_corner_error"][1] == pytest.approx(20, abs=1e-3)
    assert rows["i_one"]["homography"][0] <= 0.5
    assert light["over_pairs"]["interval95"] is None  # one sequence says nothing about others
    assert overall["over_pairs"]["interval95"]["mma"][0] == [0.0625, 1]
    printed = capsys.readouterr().out
    assert "Means over pairs (D2-Net's protocol)" in printed and "Means over sequences" in printed
    assert "0.375 [0.062, 1.000]" in printed  # MMA@1 over pairs


def test_files(dataset: Path, by_hand: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    report = hpatches.run(dataset, [str(by_hand)], out, command="the command")
    assert sorted(path.name for path in out.iterdir()) == ["data.json", "data.md", "data.pdf", "data.png"]
    assert json.loads((out / "data.json").read_text()) == report
    assert report["command"] == "the command"
    assert report["settings"]["homography_ransac"]["threshold_px"] == 3.0
    assert (out / "data.pdf").read_bytes().startswith(b"%PDF")
    assert Image.open(out / "data.png").size[0] > 600  # three panels
    assert (out / "data.md").read_text().count("| peer") == 6


def test_equal_numbers_of_pairs_need_one_table(tmp_path: Path, by_hand: Path) -> None:
    sequence(tmp_path / "data" / "v_two", [AFFINE])
    hpatches.run(tmp_path / "data", [str(by_hand)], tmp_path / "out")
    assert "Means over sequences" not in (tmp_path / "out" / "data.md").read_text()


def test_best_keypoints_only(dataset: Path, by_hand: Path, tmp_path: Path) -> None:
    report = hpatches.run(dataset, [str(by_hand)], tmp_path / "out", max_keypoints=3)
    overall = report["features"]["peer"]["sets"]["overall"]["over_pairs"]
    assert (overall["keypoints"], overall["matches"]) == (3, 3)
    assert overall["homography"] == [0, 0, 0]  # three matches make no homography
    rows = {row["name"]: row for row in report["features"]["peer"]["sequences"]}
    assert rows["i_one"]["mma"][2] == 0.5 and rows["i_one"]["pair_corner_error"] == [None, None]


def test_without_matplotlib_everything_else_is_written(
    dataset: Path, by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    hpatches.run(dataset, [str(by_hand)], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.json", "data.md"]
    assert "pip install 'samfeat-hloc[plots]'" in caplog.text


def test_features_are_kept_by_what_made_them_and_not_by_name(dataset: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "model.safetensors", tmp_path / "out"

    def measure(seed: int, count: int = 40) -> tuple[str, float]:
        torch.manual_seed(seed)
        save_weights(weights, SAMFeat(), {})
        report = hpatches.run(dataset, ["sift", f"samfeat:{weights}"], out, max_keypoints=count, device="cpu")
        found = report["features"]["samfeat:model"]
        return found["made_with"]["weights_sha256"], found["sets"]["overall"]["over_pairs"]["matches"]

    first = measure(0)
    kept = {path: path.stat().st_mtime_ns for path in (out / "features").iterdir()}
    assert len(kept) == 2
    assert measure(0) == first
    assert {path: path.stat().st_mtime_ns for path in (out / "features").iterdir()} == kept  # nothing extracted again
    assert measure(1)[0] != first[0]
    assert len(list((out / "features").iterdir())) == 3  # other weights under the old name are another file
    measure(1, 30)
    assert len(list((out / "features").iterdir())) == 5
    assert measure(0) == first


def test_one_sequence_alone(dataset: Path, by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset / "v_two")
    report = hpatches.run(".", [str(by_hand)], tmp_path / "out")
    assert report["dataset"] == "v_two"
    assert report["features"]["peer"]["sets"]["viewpoint"]["over_pairs"]["mma"] == [1.0] * 10


def test_report_names(tmp_path: Path) -> None:
    assert hpatches.report_names([tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "y"]) == ["a-x", "b-x", "y"]


def status(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["hpatches", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        run_cli(hpatches.main)
    return caught.value.code


def test_bad_input_ends_with_status_2(
    dataset: Path, by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: object) -> str:
        assert status(monkeypatch, *arguments, "--outputs", tmp_path / "out") == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    (tmp_path / "empty").mkdir()
    assert "has no sequence" in error("--dataset", tmp_path / "empty", "--features", by_hand)
    sequence(tmp_path / "small" / "i_dc", [SHIFT])
    assert "leaves out" in error("--dataset", tmp_path / "small", "--features", by_hand)
    sequence(tmp_path / "more" / "v_new", [SHIFT])
    assert "2 of 2 images are not in" in error("--dataset", tmp_path / "more", "--features", by_hand)
    assert "does not exist" in error("--dataset", dataset, "--features", tmp_path / "none.h5")
    assert "there is no extractor called 'siift'" in error("--dataset", dataset, "--features", "siift")
    assert "'peer' is named twice" in error("--dataset", dataset, "--features", by_hand, by_hand)
    (dataset / "i_one" / "3.png").write_bytes(b"junk")
    assert "3.png could not be read" in error("--dataset", dataset, "--features", "sift")
    (dataset / "i_one" / "3.png").unlink()
    assert "lacks image 3" in error("--dataset", dataset, "--features", "sift")
    assert not (tmp_path / "out" / "data.json").exists()


def test_bad_arguments(dataset: Path, by_hand: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_keypoints is 0"):
        hpatches.run(dataset, [str(by_hand)], tmp_path, max_keypoints=0)
    with pytest.raises(InputError, match="no features"):
        hpatches.run(dataset, [], tmp_path)
