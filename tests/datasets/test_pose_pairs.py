"""Pairs with known cameras: three layouts, one meaning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.pose_pairs import image_names, read_pose_pairs
from samfeat_hloc.errors import InputError


def rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(path)


WORLD_FROM_CAM = [(rotation(0.1 * k), np.array([k, 0.5 * k, -0.2 * k * k])) for k in range(4)]


def relative(i: int, j: int) -> np.ndarray:
    """cam_j from cam_i."""
    poses = []
    for turn, centre in (WORLD_FROM_CAM[i], WORLD_FROM_CAM[j]):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, centre
        poses.append(pose)
    return np.linalg.inv(poses[1]) @ poses[0]


@pytest.fixture
def strecha(tmp_path: Path) -> Path:
    scene = tmp_path / "scene"
    cameras = {}
    for number, (turn, centre) in enumerate(WORLD_FROM_CAM):
        photograph(scene / "images" / f"{number}.jpg")
        cameras[f"{number}.jpg"] = {
            "width": 64, "height": 48, "fx": 60.0, "fy": 61.0, "cx": 32.5, "cy": 24.5,
            "world_from_cam_rotation": turn.tolist(), "camera_center_m": centre.tolist(),
        }  # fmt: skip
    (scene / "cameras.json").write_text(json.dumps(cameras))
    return scene


@pytest.fixture
def rgbd(tmp_path: Path) -> Path:
    folder = tmp_path / "rgbd"
    for number, (turn, centre) in enumerate(WORLD_FROM_CAM):
        photograph(folder / f"f{number}.color.png")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, centre
        np.savetxt(folder / f"f{number}.pose.txt", pose)
    np.savetxt(folder / "camera-intrinsics.txt", [[60, 0, 32], [0, 61, 24], [0, 0, 1]])
    return folder


def line(i: int, j: int, turn: int = 0) -> str:
    intrinsics = "60 0 32 0 61 24 0 0 1"
    return f"{i}.jpg {j}.jpg 0 {turn} {intrinsics} {intrinsics} " + " ".join(
        f"{v:.12g}" for v in relative(i, j).ravel()
    )


def test_strecha_has_every_pair(strecha: Path) -> None:
    root, pairs = read_pose_pairs(strecha)
    assert root == strecha / "images"
    assert [pair.name0[0] + pair.name1[0] for pair in pairs] == ["01", "02", "03", "12", "13", "23"]
    np.testing.assert_allclose(pairs[4].cam1_from_cam0, relative(1, 3), atol=1e-12)
    # a half pixel from COLMAP's centre of the top-left pixel to (0, 0)
    np.testing.assert_allclose(pairs[4].intrinsics1, [[60, 0, 32], [0, 61, 24], [0, 0, 1]])
    assert image_names(pairs) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_rgbd_frames_a_gap_apart(rgbd: Path) -> None:
    root, pairs = read_pose_pairs(rgbd, gap=2)
    assert root == rgbd
    assert [(pair.name0, pair.name1) for pair in pairs] == [
        ("f0.color.png", "f2.color.png"),
        ("f1.color.png", "f3.color.png"),
    ]
    np.testing.assert_allclose(pairs[1].cam1_from_cam0, relative(1, 3), atol=1e-9)
    with pytest.raises(InputError, match="no pair"):
        read_pose_pairs(rgbd, gap=4)
    with pytest.raises(InputError, match="gap is 0"):
        read_pose_pairs(rgbd, gap=0)


def test_pair_list(strecha: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listing = tmp_path / "pairs.txt"
    listing.write_text(f"{line(1, 3)}\n\n{line(0, 2, turn=1)}\n")
    root, pairs = read_pose_pairs(listing, strecha / "images")
    assert root == strecha / "images" and [pair.name1 for pair in pairs] == ["3.jpg", "2.jpg"]
    np.testing.assert_allclose(pairs[0].cam1_from_cam0, relative(1, 3), atol=1e-9)
    np.testing.assert_allclose(pairs[0].intrinsics0, [[60, 0, 32], [0, 61, 24], [0, 0, 1]])
    assert "1 pairs" in caplog.text and "stored turned" in caplog.text


def test_bad_lists(strecha: Path, tmp_path: Path) -> None:
    listing = tmp_path / "pairs.txt"
    for text, message in (
        ("a.jpg b.jpg 0 0 1 2 3", r"pairs\.txt:1: expected 38 words"),
        (line(0, 1).replace("60", "x"), r"pairs\.txt:1: expected 38 words"),
        (line(0, 1).replace("60", "0"), "no camera"),
        (line(0, 1) + "\n" + line(0, 1) + " 1", r"pairs\.txt:2"),
        (line(0, 1).replace("0.jpg", "7.jpg"), r"names 7\.jpg, which is not in"),
        (line(0, 0), "taken from one place"),
        ("", "no pair"),
    ):
        listing.write_text(text)
        with pytest.raises(InputError, match=message):
            read_pose_pairs(listing, strecha / "images")


def test_bad_folders(strecha: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pairs with known cameras"):
        read_pose_pairs(tmp_path / "nothing")
    (strecha / "images" / "2.jpg").unlink()
    with pytest.raises(InputError, match=r"2\.jpg, which is not in"):
        read_pose_pairs(strecha)
    (strecha / "cameras.json").write_text('{"0.jpg": {"fx": 1}}')
    with pytest.raises(InputError, match=r"cameras\.json is malformed"):
        read_pose_pairs(strecha)
