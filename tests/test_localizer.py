"""A map on disk and the localizer that holds it in memory."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import global_descriptors, localize_sfm, pairs_from_retrieval
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.features import Features, FeatureWriter
from samfeat_hloc.localizer import Localizer
from samfeat_hloc.map import open_map, write_map
from samfeat_hloc.vlad import VLADConf
from tests.world import CAMERA, DIMENSION, HEIGHT, WIDTH, World, make_world, triangulate


@dataclass(frozen=True)
class FakeConf:
    """The synthetic features have no settings."""


class FakeExtractor:
    """Gives the features whose number is in the image's first pixel."""

    name = "synthetic"
    conf = FakeConf()

    def __init__(self, world: World, weights_sha256: str = "weights") -> None:
        self.weights_sha256 = weights_sha256
        self._features = [world.features_of[query.name] for query in world.queries]

    def __call__(self, image: np.ndarray) -> Features:
        number = int(image[0, 0, 0])
        if number < len(self._features):
            return self._features[number]
        empty = np.zeros(0, np.float32)
        return Features(empty.reshape(0, 2), empty.reshape(0, DIMENSION), empty, empty, (WIDTH, HEIGHT))


def photograph(number: int) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[0, 0, 0] = number
    return image


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    triangulate(made)
    global_descriptors.main(
        made.features,
        made.root / "global.h5",
        codebook=made.root / "codebook.npz",
        codebook_list=made.database,
        conf=VLADConf(words=8),
    )
    write_map(made.root / "map", made.sfm, made.features, made.root / "global.h5", made.root / "codebook.npz")
    return made


def test_same_poses_as_the_stages(world: World, tmp_path: Path) -> None:
    names = [query.name for query in world.queries]
    pairs_from_retrieval.main(
        world.root / "global.h5", tmp_path / "pairs.txt", 6, query_list=names, db_list=world.database
    )
    staged = localize_sfm.main(
        world.sfm, world.queries, tmp_path / "pairs.txt", world.features, world.matches_query, tmp_path / "poses.txt"
    )
    localizer = Localizer(world.root / "map", FakeExtractor(world), num_retrieved=6, match_against="all")
    for number, query in enumerate(world.queries):
        pose, expected = localizer.localize(photograph(number), query.camera), staged.results[query.name]
        assert pose.status == expected.status == "localized"
        assert pose.quaternion is not None and pose.translation is not None and pose.cam_from_world is not None
        assert pose.retrieved == expected.retrieved
        np.testing.assert_array_equal([*pose.quaternion, *pose.translation], expected.pose)
        np.testing.assert_array_equal(pose.covariance, expected.covariance)
        np.testing.assert_array_equal(pose.inlier_points3D, expected.inlier_points3D)


def test_matching_with_observed_keypoints_only(world: World) -> None:
    localizer = Localizer(world.root / "map", FakeExtractor(world))
    for number, query in enumerate(world.queries):
        pose = localizer.localize(photograph(number), CAMERA)
        assert pose.cam_from_world is not None and pose.quaternion is not None and pose.translation is not None
        assert pose_errors(np.array([*pose.quaternion, *pose.translation]), world.pose(query.name))[0] < 0.03
        xy, ids = pose.inliers
        in_camera = localizer.scene.xyz(ids) @ pose.cam_from_world[:3, :3].T + pose.cam_from_world[:3, 3]
        assert np.abs(np.asarray(CAMERA.img_from_cam(in_camera)) - 0.5 - xy).max() < 12
        assert pose.num_inliers == len(xy) > 50 and pose.time_s > 0


def test_photograph_without_features(world: World) -> None:
    pose = Localizer(world.root / "map", FakeExtractor(world)).localize(photograph(200), CAMERA)
    assert pose.status == "too few matches"
    assert pose.cam_from_world is None and pose.covariance is None and pose.num_inliers == 0


def test_other_weights_or_settings_are_refused(world: World) -> None:
    with pytest.raises(InputError, match=r"made with weights weights\.\.\. and the extractor has other"):
        Localizer(world.root / "map", FakeExtractor(world, "other"))
    renamed = FakeExtractor(world)
    renamed.name = "sift"
    with pytest.raises(InputError, match="name 'synthetic' in the map and 'sift' here"):
        Localizer(world.root / "map", renamed)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), "expected an"),
        (np.zeros((HEIGHT, WIDTH, 3), np.float32), "expected an"),
        (np.zeros((HEIGHT // 2, WIDTH, 3), np.uint8), "the image is 640x240 and the camera 640x480"),
    ],
)
def test_bad_images(world: World, image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Localizer(world.root / "map", FakeExtractor(world)).localize(image, CAMERA)


def test_map_is_left_alone_and_another_is_not_replaced(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root / "map", tmp_path / "map")
    inputs = (world.sfm, world.features, world.root / "global.h5", world.root / "codebook.npz")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "map").rglob("*")}
    write_map(tmp_path / "map", *inputs)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "map").rglob("*")} == before
    with pytest.raises(InputError, match="is not the map of these inputs"):
        write_map(tmp_path / "map", *inputs, matcher="nn-ratio")
    write_map(tmp_path / "map", *inputs, matcher="nn-ratio", overwrite=True)
    assert open_map(tmp_path / "map").manifest["matcher"]["ratio"] == 0.9


def test_manifest_says_what_the_map_is(world: World) -> None:
    manifest = open_map(world.root / "map").manifest
    assert manifest["weights_sha256"] == "weights" and manifest["extractor"] == {"name": "synthetic"}
    assert "rotation (rad) then translation (m)" in manifest["covariance"]
    assert manifest["images"] == 8 and set(manifest["versions"]) == {"samfeat_hloc", "pycolmap"}


def test_damaged_maps(world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a map"):
        open_map(tmp_path)
    shutil.copytree(world.root / "map", tmp_path / "map")
    (tmp_path / "map/features.h5").unlink()
    with pytest.raises(InputError, match=r"incomplete: features\.h5"):
        open_map(tmp_path / "map")
    manifest = json.loads((tmp_path / "map/manifest.json").read_text())
    (tmp_path / "map/manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(InputError, match="map format 99"):
        open_map(tmp_path / "map")


def test_model_of_other_features_is_refused(world: World, tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "f.h5", {"name": "synthetic"}, "weights") as writer:
        for name, item in world.features_of.items():
            kept = {key: getattr(item, key)[:-1] for key in ("keypoints", "descriptors", "scores", "attention")}
            writer.add(name, replace(item, **kept))
    with pytest.raises(InputError, match="keypoints in the model"):
        write_map(tmp_path / "map", world.sfm, tmp_path / "f.h5", world.root / "global.h5", world.root / "codebook.npz")
    assert not (tmp_path / "map").exists()
