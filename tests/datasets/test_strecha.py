"""Strecha's scenes in the layout of Aachen."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.strecha import write_scene
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import camera_center
from samfeat_hloc.layout import AachenLayout, problems

NAMES = [f"{number:04}.jpg" for number in range(7)]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "scene"
    (folder / "images").mkdir(parents=True)
    entries = {}
    for number, name in enumerate(NAMES):
        cv2.imwrite(str(folder / "images" / name), np.full((48, 64, 3), 90, np.uint8))
        rotation = pycolmap.Rotation3d(np.array([0.1 * number, 0.2, -0.3])).matrix().round(6)
        entries[name] = {
            "width": 64,
            "height": 48,
            "fx": 60.0,
            "fy": 61.0,
            "cx": 32.5,
            "cy": 23.5,
            "world_from_cam_rotation": rotation.tolist(),
            "camera_center_m": [float(number), 2.0, -3.0],
        }
    (folder / "cameras.json").write_text(json.dumps(entries))
    return folder


def test_every_third_image_is_a_query_and_the_rest_has_poses_without_points(scene: Path, tmp_path: Path) -> None:
    output = write_scene(scene, tmp_path / "out")
    assert problems(output) == []
    layout = AachenLayout.find(output)
    assert [query.name for query in layout.queries("day")] == ["query/day/0002.jpg", "query/day/0005.jpg"]
    assert layout.queries("night") == []
    assert layout.model is not None
    model = read_model(layout.model)
    assert sorted(image.name for image in model.images.values()) == [f"db/{NAMES[i]}" for i in (0, 1, 3, 4, 6)]
    assert model.num_points3D() == 0 and model.num_reg_images() == 5
    for image in model.images.values():
        np.testing.assert_allclose(image.projection_center(), [int(image.name[3:7]), 2, -3], atol=1e-9)
    truth = layout.true_poses()
    np.testing.assert_allclose(camera_center(truth["query/day/0005.jpg"]), [5, 2, -3], atol=1e-9)


def test_missing_scene_and_missing_image(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cameras\.json"):
        write_scene(tmp_path / "nothing", tmp_path / "out")
    (scene / "images/0003.jpg").unlink()
    with pytest.raises(InputError, match=r"0003\.jpg"):
        write_scene(scene, tmp_path / "out")
