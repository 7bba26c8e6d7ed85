"""RGB-D folders: what their files mean, and what is said of those that mean nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.rgbd import DepthSizeError, list_frames, read_depth, read_intrinsics, read_pose
from samfeat_hloc.errors import InputError


def test_frames_are_listed_by_their_colour_images(tmp_path: Path) -> None:
    for name in ("b.color.png", "a.color.webp", "a.depth.png", "c.color.txt", "d.png"):
        (tmp_path / name).write_bytes(b"")
    frames = list_frames(tmp_path)
    assert [frame.name for frame in frames] == ["a.color.webp", "b.color.png"]
    assert (frames[1].depth.name, frames[1].pose.name) == ("b.depth.png", "b.pose.txt")
    with pytest.raises(InputError, match="has no RGB-D frame"):
        list_frames(tmp_path / "absent")


def test_depth_is_in_metres_and_sentinels_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.depth.png"
    cv2.imwrite(str(path), np.array([[0, 1500], [65535, 65000]], np.uint16))
    assert np.allclose(read_depth(path, (640, 640)), [[0, 1.5], [0, 65.0]])
    with pytest.raises(DepthSizeError, match="2x2 for a photograph of 640x480"):
        read_depth(path, (640, 480))
    cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="expected 16-bit depth"):
        read_depth(path, (640, 640))
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as a depth map"):
        read_depth(path, (640, 640))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 0 0 0 1 0 0 0 0 1 nan 0 0 0 1", "finite"),
        ("1 0 0 0 0 1 0 0 0 0 1 -inf 0 0 0 1", "finite"),
        ("1 0 0", "does not hold 4x4"),
        ("one 0 0", "cannot be read"),
        ("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", "no rigid"),
        ("1 0 0 0 0 1 0 0 0 0 -1 0 0 0 0 1", "no rigid"),
        ("1 0 0 5 0 1 0 6 0 0 1 7 0 0 1 1", "no rigid"),
    ],
)
def test_poses_are_finite_and_rigid(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.pose.txt"
    path.write_text("1 0 0 5  0 1 0 6  0 0 1 7  0 0 0 1")
    assert (read_pose(path)[:3, 3] == [5, 6, 7]).all()
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_pose(path)


def test_intrinsics_are_a_camera_matrix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"camera-intrinsics\.txt cannot be read"):
        read_intrinsics(tmp_path)
    (tmp_path / "camera-intrinsics.txt").write_text("500 0 320 0 500 240 0 0 1")
    assert read_intrinsics(tmp_path)[1, 2] == 240
    (tmp_path / "camera-intrinsics.txt").write_text("-500 0 320 0 500 240 0 0 1")
    with pytest.raises(InputError, match="no camera matrix"):
        read_intrinsics(tmp_path)
