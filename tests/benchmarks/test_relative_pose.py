"""Relative pose: errors and areas against known values, poses from made features, one line for bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import relative_pose
from benchmarks.relative_pose import estimate_pose, pose_auc, pose_error
from datasets.pose_pairs import PosePair
from samfeat_hloc.errors import ConfigError, run_cli
from samfeat_hloc.formats.features import Features, FeatureWriter

K = np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])


def turn(axis: list[float], degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pose(rotation: np.ndarray, translation: list[float]) -> np.ndarray:
    return np.column_stack([rotation, translation])


def project(points: np.ndarray, cam_from_world: np.ndarray) -> np.ndarray:
    there = (points @ cam_from_world[:, :3].T + cam_from_world[:, 3]) @ K.T
    return there[:, :2] / there[:, 2:]


TRUE = pose(turn([0.2, 1, 0.1], 12), [0.9, 0.1, 0.2])


def test_pose_error_is_the_larger_angle() -> None:
    for degrees in (1e-5, 0.3, 40, 179):
        other = pose(turn([1, 2, 3], degrees) @ TRUE[:, :3], list(TRUE[:, 3]))
        assert pose_error(other, TRUE) == pytest.approx(degrees, rel=1e-6)
    moved = pose(TRUE[:, :3], list(turn([0, 0, 1], 25) @ [1, 0, 0]))
    assert pose_error(moved, pose(TRUE[:, :3], [3, 0, 0])) == pytest.approx(25)
    assert pose_error(pose(TRUE[:, :3], list(-2 * TRUE[:, 3])), TRUE) == pytest.approx(0, abs=1e-6)
    both = pose(turn([1, 0, 0], 30) @ TRUE[:, :3], list(turn([0, 1, 0], 10) @ TRUE[:, 3]))
    assert pose_error(both, TRUE) == pytest.approx(30)


def test_area_under_the_curve() -> None:
    assert pose_auc([0.0, 0.0]) == pytest.approx([1, 1, 1])
    assert pose_auc([np.inf, 40.0]) == [0, 0, 0]
    # one pair at 2 of 5 degrees: a triangle to 2, then the share stays
    assert pose_auc([2.0], [5.0]) == pytest.approx([(2 * 1 / 2 + 3 * 1) / 5])
    # shares 1/4, 2/4 at 1, 3 degrees: trapezoids up to 5
    expected = (1 * 0.25 / 2 + 2 * (0.25 + 0.5) / 2 + 2 * 0.5) / 5
    assert pose_auc([3.0, np.inf, 1.0, 7.0], [5.0]) == pytest.approx([expected])
    assert pose_auc([3.0, np.inf, 1.0, 7.0], [2.0])[0] == pytest.approx((1 * 0.25 / 2 + 1 * 0.25) / 2)


def test_pose_from_noisy_matches_with_outliers() -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform([-2, -2, 4], [2, 2, 9], (300, 3))
    first = project(points, np.eye(3, 4)) + generator.normal(0, 0.3, (300, 2))
    second = project(points, TRUE) + generator.normal(0, 0.3, (300, 2))
    second[:120] = generator.uniform(0, 480, (120, 2))
    pair = PosePair("a", "b", K, K, TRUE)
    estimated, inliers = estimate_pose(first, second, pair)
    assert estimated is not None and pose_error(estimated, TRUE) < 0.5
    assert 150 < inliers < 220
    again, _ = estimate_pose(first, second, pair)
    np.testing.assert_array_equal(estimated, again)
    assert estimate_pose(first[:4], second[:4], pair) == (None, 0)
    assert estimate_pose(first[:0], second[:0], pair) == (None, 0)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """Three photographs: exact features of two, none of the third."""
    generator = np.random.default_rng(1)
    points = generator.uniform([-2, -2, 4], [2, 2, 9], (60, 3))
    root = tmp_path / "scene"
    root.mkdir()
    poses = {"a.png": np.eye(3, 4), "b.png": TRUE, "c.png": pose(np.eye(3), [0, 1, 0])}
    lines = []
    for name, other in (("a.png", "b.png"), ("a.png", "c.png")):
        transform = np.vstack([poses[other], [0, 0, 0, 1]])
        numbers = [0, 0, *K.ravel(), *K.ravel(), *transform.ravel()]
        lines.append(" ".join([name, other, *(repr(float(value)) for value in numbers)]))
    (root / "pairs.txt").write_text("\n".join(lines))
    path = tmp_path / "hand.h5"
    with FeatureWriter(path, {"name": "by hand"}, as_half=False) as writer:
        for name, camera in poses.items():
            Image.new("RGB", (640, 480)).save(root / name)
            kept = points if name != "c.png" else points[:0]
            found = Features(
                keypoints=project(kept, camera).astype(np.float32),
                descriptors=np.eye(60, dtype=np.float32)[: len(kept)],
                scores=np.ones(len(kept), np.float32),
                attention=np.ones(len(kept), np.float32),
                image_size=(640, 480),
            )
            writer.add(name, found)
    return root / "pairs.txt", path


def test_report(
    scene: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, features = scene
    output = tmp_path / "out.json"
    arguments = [
        "x",
        "--dataset",
        listing,
        "--features",
        features,
        "--matcher",
        "nn-mutual",
        "nn-ratio",
        "--json",
        output,
    ]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    relative_pose.main()
    report = json.loads(output.read_text())["datasets"][0]
    assert report["pairs"] == [["a.png", "b.png"], ["a.png", "c.png"]]
    assert [result["matcher"] for result in report["results"]] == ["nn-mutual", "nn-ratio"]
    result = report["results"][0]
    assert result["errors_deg"][0] < 0.01 and result["errors_deg"][1] is None
    assert result["auc"] == pytest.approx([0.5, 0.5, 0.5], abs=1e-3)
    assert (result["failed"], result["matches"], result["inliers"], result["keypoints"]) == (1, 30, 30, 45)
    assert report["settings"]["ransac"]["max_error"] == 1.0
    printed = capsys.readouterr().out
    assert "2 pairs" in printed and "0.500" in printed


def test_bad_input(
    scene: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, features = scene

    def error(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments), "--outputs", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as caught:
            run_cli(relative_pose.main)
        assert caught.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "no pairs with known cameras" in error("--dataset", tmp_path / "none", "--features", features)
    assert "there is no matcher called" in error(
        "--dataset", listing, "--features", features, "--matcher", "lightgluee"
    )
    with FeatureWriter(tmp_path / "less.h5", {"name": "less"}) as writer:
        nothing = np.zeros(0, np.float32)
        empty = np.zeros((0, 8), np.float32)
        writer.add("a.png", Features(np.zeros((0, 2), np.float32), empty, nothing, nothing, (640, 480)))
    assert "2 of 3 images are not in" in error("--dataset", listing, "--features", tmp_path / "less.h5")
    with pytest.raises(ConfigError, match="max_keypoints"):
        relative_pose.run(listing, [str(features)], max_keypoints=0)
