"""The layout of Aachen: both versions are found, every defect has its sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.aachen import database_images, queries_by_condition, reference_model
from samfeat_hloc._pycolmap import pose_from_array, pycolmap, read_model
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import rotation_matrix
from samfeat_hloc.layout import AachenLayout, problems

POSES = {
    "db/1.jpg": [0.9, 0.1, -0.2, 0.3, 1.0, 2.0, 3.0],
    "db/2.jpg": [0.8, -0.3, 0.1, 0.2, -1.0, 0.5, 2.0],
}
CAMERA = {"model": "SIMPLE_RADIAL", "width": 64, "height": 48, "params": [60.0, 32.0, 24.0, -0.02]}
POINT = np.array([0.3, -0.2, 8.0])


def unit(pose: list[float]) -> list[float]:
    norm = float(np.linalg.norm(pose[:4]))
    return [value / norm for value in pose[:4]] + pose[4:]


def write_dataset(root: Path) -> Path:
    """A v1.1 dataset with two database images, one query a condition, one point."""
    for name in [*POSES, "query/day/a.jpg", "query/night/b.jpg"]:
        path = root / "images_upright" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    (root / "queries").mkdir()
    for condition, name in (("day", "query/day/a.jpg"), ("night", "query/night/b.jpg")):
        line = f"{name} SIMPLE_RADIAL 64 48 60 32 24 -0.02\n"
        (root / f"queries/{condition}_time_queries_with_intrinsics.txt").write_text(line)
    model = pycolmap.Reconstruction()
    track = pycolmap.Track()
    for index, (name, pose) in enumerate(POSES.items(), 1):
        camera = pycolmap.Camera(camera_id=index, **CAMERA)
        model.add_camera_with_trivial_rig(camera)
        cam_from_world = pose_from_array(unit(pose))
        xy = camera.img_from_cam(cam_from_world * POINT)
        image = pycolmap.Image(name=name, camera_id=index, image_id=index, keypoints=np.array([xy]))
        model.add_image_with_trivial_frame(image, cam_from_world)
        track.add_element(index, 0)
    model.add_point3D(POINT, track, np.array([1, 2, 3], np.uint8))
    folder = root / "3D-models/aachen_v_1_1"
    folder.mkdir(parents=True)
    model.write(folder)
    return root


def write_v10(root: Path) -> Path:
    """The same as v1.0: an NVM file and intrinsics in place of the COLMAP model."""
    model = read_model(write_dataset(root) / "3D-models/aachen_v_1_1")
    shutil.rmtree(root / "3D-models/aachen_v_1_1")
    cameras, measurements = [], []
    for index, (name, pose) in enumerate(POSES.items()):
        quaternion, translation = unit(pose)[:4], np.array(pose[4:])
        centre = -rotation_matrix(quaternion).T @ translation
        numbers = " ".join(f"{value:.12f}" for value in [*quaternion, *centre])
        cameras.append(f"{name} 60 {numbers} 0.02 0")
        x, y = model.images[index + 1].points2D[0].xy - [32, 24]
        measurements.append(f"{index} 7 {x:.9f} {y:.9f}")
    point = " ".join(map(str, POINT))
    text = ["NVM_V3 ", "", "2", *cameras, "", "1", f"{point} 1 2 3 2 {' '.join(measurements)}", "", "0"]
    (root / "3D-models/aachen_cvpr2018_db.nvm").write_text("\n".join(text) + "\n")
    lines = [f"{name} SIMPLE_RADIAL 64 48 60 32 24 -0.02" for name in POSES]
    (root / "3D-models/database_intrinsics.txt").write_text("\n".join(lines) + "\n")
    return root


def test_v11_is_found_whole(tmp_path: Path) -> None:
    layout = AachenLayout.find(write_dataset(tmp_path))
    assert problems(tmp_path) == []
    assert layout.version == "v1.1"
    assert reference_model(layout, tmp_path / "cache") == tmp_path / "3D-models/aachen_v_1_1"
    assert queries_by_condition(layout) == {"day": ["query/day/a.jpg"], "night": ["query/night/b.jpg"]}
    assert layout.true_poses() == {}


def test_v10_becomes_the_same_model(tmp_path: Path) -> None:
    layout = AachenLayout.find(write_v10(tmp_path))
    assert layout.version == "v1.0"
    folder = reference_model(layout, tmp_path / "cache")
    model = read_model(folder)
    assert database_images(model, layout) == ["db/1.jpg", "db/2.jpg"]
    for image in model.images.values():
        expected = pose_from_array(unit(POSES[image.name]))
        np.testing.assert_allclose(image.cam_from_world().matrix(), expected.matrix(), atol=1e-9)
        projected = image.camera.img_from_cam(image.cam_from_world() * POINT)
        np.testing.assert_allclose(image.points2D[0].xy, projected, atol=1e-6)
    point = next(iter(model.points3D.values()))
    np.testing.assert_allclose(point.xyz, POINT)
    assert point.track.length() == 2
    assert reference_model(layout, tmp_path / "cache") == folder


def test_images_may_lie_one_folder_deeper_as_in_v10(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images_upright").rename(tmp_path / "images/images_upright")
    assert AachenLayout.find(tmp_path).images == tmp_path / "images/images_upright"
    assert problems(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: shutil.rmtree(root / "images_upright"), "has no images_upright/"),
        (lambda root: shutil.rmtree(root / "3D-models"), "has no reference model"),
        (lambda root: shutil.rmtree(root / "images_upright/db"), "no images in db/"),
        (lambda root: (root / "images_upright/query/day/a.jpg").unlink(), "1 of 1 day queries are not in"),
        (lambda root: shutil.rmtree(root / "queries"), "has no queries"),
        (lambda root: (root / "ground_truth.txt").write_text("a 1 2\n"), "expected 7"),
        (
            lambda root: (root / "queries/day_time_queries_with_intrinsics.txt").write_text("query/day/a.jpg\n"),
            "day_time_queries_with_intrinsics.txt:1",
        ),
    ],
)
def test_every_defect_has_its_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    damage(write_dataset(tmp_path))  # type: ignore[operator]
    assert any(sentence in problem for problem in problems(tmp_path)), problems(tmp_path)


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert "does not exist" in problems(tmp_path / "absent")[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("NVM_V3", "PLY"), "no NVM_V3 file"),
        (lambda text: text[: len(text) // 2], r"ends after line|malformed"),
        (lambda text: text.replace("db/2.jpg", "db/9.jpg"), "no intrinsics for it"),
    ],
)
def test_damaged_nvm(tmp_path: Path, change: object, sentence: str) -> None:
    layout = AachenLayout.find(write_v10(tmp_path))
    assert layout.nvm is not None
    layout.nvm.write_text(change(layout.nvm.read_text()))  # type: ignore[operator]
    with pytest.raises(InputError, match=sentence):
        reference_model(layout, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
