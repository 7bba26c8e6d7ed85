"""The pycolmap module: versions, import order, the half pixel, cameras, poses, models."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import _pycolmap
from samfeat_hloc._pycolmap import (
    check_version,
    from_colmap,
    make_camera,
    pose_from_array,
    pose_to_array,
    pycolmap,
    read_model,
    to_colmap,
)
from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.formats.queries import QueryCamera

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("version", ["3.13.0", "5.0.0", "nightly"])
def test_another_version_is_refused_with_the_supported_range(version: str) -> None:
    with pytest.raises(MissingDependencyError, match=re.escape("pycolmap>=4.0,<5")):
        check_version(version)


def test_installed_version_is_supported() -> None:
    check_version(pycolmap.__version__)


@pytest.mark.parametrize(
    ("first", "second"), [("torch", "samfeat_hloc._pycolmap"), ("samfeat_hloc._pycolmap", "torch")]
)
def test_torch_and_pycolmap_load_in_either_order(first: str, second: str) -> None:
    script = f"import {first}, {second}, torch; print(torch.ones(2).sum().item())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2.0"


def test_no_other_module_imports_pycolmap_or_adds_half_pixels() -> None:
    for path in [*ROOT.glob("samfeat_hloc/**/*.py"), *ROOT.glob("datasets/**/*.py"), *ROOT.glob("pipelines/**/*.py")]:
        if path.name != "_pycolmap.py":
            assert not re.search(r"^\s*(import pycolmap|from pycolmap)", path.read_text(), re.MULTILINE), path


def test_half_pixel_is_exact_beyond_1024() -> None:
    keypoints = np.array([[0, 0], [1101.25, 2047.125]], np.float32)
    shifted = to_colmap(keypoints)
    np.testing.assert_array_equal(shifted, [[0.5, 0.5], [1101.75, 2047.625]])
    np.testing.assert_array_equal(from_colmap(shifted), keypoints)


def test_camera_from_query_and_from_dict() -> None:
    query = QueryCamera("SIMPLE_RADIAL", 64, 48, (50.0, 32.0, 24.0, 0.1))
    camera = make_camera(query)
    same = make_camera({"model": "SIMPLE_RADIAL", "width": 64, "height": 48, "params": [50, 32, 24, 0.1]})
    assert camera.params.tolist() == same.params.tolist() == [50.0, 32.0, 24.0, 0.1]
    assert make_camera(camera) is camera


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"model": "PINHOLE", "width": 64, "height": 48}, "has no params"),
        ({"model": "PINHOL", "width": 64, "height": 48, "params": [1, 1, 1, 1]}, "is not valid"),
        ({"model": "PINHOLE", "width": 64, "height": 48, "params": [50, 50, 32]}, "is not valid"),
        ({"model": "PINHOLE", "width": 0, "height": 48, "params": [50, 50, 32, 24]}, "is not valid"),
    ],
)
def test_bad_cameras_are_named(camera: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_camera(camera)


def test_pose_array_is_w_first_and_round_trips() -> None:
    pose = np.array([-0.5, 0.5, 0.5, -0.5, 1.0, 2.0, 3.0])
    back = pose_to_array(pose_from_array(pose))
    np.testing.assert_allclose(back, [0.5, -0.5, -0.5, 0.5, 1, 2, 3], atol=1e-12)


def test_missing_and_damaged_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no COLMAP model"):
        read_model(tmp_path)
    for stem in ("cameras", "images", "points3D"):
        (tmp_path / f"{stem}.bin").write_bytes(b"\x05\x00\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_model(tmp_path)


def test_point_ids_of_an_image() -> None:
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="PINHOLE", width=9, height=9, params=[9, 9, 4, 4], camera_id=1)
    )
    image = pycolmap.Image(name="a", camera_id=1, image_id=1, keypoints=np.arange(6.0).reshape(3, 2))
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    track = pycolmap.Track()
    track.add_element(1, 2)
    point = model.add_point3D(np.ones(3), track, np.zeros(3, np.uint8))
    assert _pycolmap.point3D_ids(model.images[1]).tolist() == [-1, -1, point]
