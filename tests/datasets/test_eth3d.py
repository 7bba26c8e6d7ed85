"""The reader of ETH3D's layout, and the town written in it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.eth3d import ALIGNMENT, SCANS, Eth3dScene, find_scenes, read_alignment, write_alignment
from datasets.eth3d_town import DENSE, write_town_scene
from datasets.town import Camera, Town, build_town
from pipelines.eth3d_poses import align, score_poses
from samfeat_hloc import reconstruction
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.cloud_evaluation import evaluate_cloud
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import read_ply, write_ply
from tests import world
from tests.pipelines.corner import SCANNER, WIDTH, write_scene

SMALL = {"seed": 3, "views": 7, "detail": 0.3, "scan_width": 500, "camera": Camera(160, 120, 131.0)}


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "corner", 3)


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town(3, 0.3)


@pytest.fixture(scope="module")
def town_scene(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town_scene(tmp_path_factory.mktemp("eth3d") / "town", **SMALL, town=town)


def test_a_scene_opens_with_cameras_images_and_scans_in_the_world(scene: Path) -> None:
    opened = Eth3dScene.open(scene)
    assert (opened.name, opened.variant) == ("corner", "undistorted")
    assert opened.image_names == [f"dslr_images_undistorted/{i}.png" for i in (1, 2, 3)]
    assert all((opened.image_dir / name).is_file() for name in opened.image_names)
    assert next(iter(opened.model.cameras.values())).model_name == "PINHOLE"
    (scan,) = opened.scans()
    world = scan.in_world()
    assert np.abs(world.min(axis=1)).max() < 1e-6  # every point is on one of the three walls
    assert np.allclose(scan.world_from_scan[:3, 3], SCANNER)


def test_the_distorted_variant_reads_its_own_calibration(scene: Path) -> None:
    model = pycolmap.Reconstruction()
    params = [200.0, 200.0, 100.0, 75.0, 0.1, 0.01, 0, 0, 0, 0, 0, 0]
    fisheye = pycolmap.Camera(model="THIN_PRISM_FISHEYE", width=200, height=150, params=params, camera_id=4)
    model.add_camera_with_trivial_rig(fisheye)
    image = pycolmap.Image(name="dslr_images/a.png", camera_id=4, image_id=9)
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    for folder in ("dslr_calibration_jpg", "images/dslr_images"):
        (scene / folder).mkdir()
    model.write_text(scene / "dslr_calibration_jpg")
    cv2.imwrite(str(scene / "images/dslr_images/a.png"), np.zeros((150, 200, 3), np.uint8))
    opened = Eth3dScene.open(scene, "distorted")
    assert opened.image_names == ["dslr_images/a.png"]
    assert opened.model.cameras[4].model_name == "THIN_PRISM_FISHEYE"
    assert Eth3dScene.open(scene).variant == "undistorted"


def test_scenes_are_found_one_or_many(scene: Path) -> None:
    assert find_scenes(scene) == [scene]
    assert find_scenes(scene.parent) == [scene]
    with pytest.raises(InputError, match="no ETH3D scene"):
        find_scenes(scene / SCANS)
    with pytest.raises(InputError, match="does not exist"):
        find_scenes(scene / "absent")


def test_a_missing_calibration_or_image_is_told(scene: Path) -> None:
    with pytest.raises(InputError, match="no calibration; expected dslr_calibration_jpg"):
        Eth3dScene.open(scene, "distorted")
    (scene / "images/dslr_images_undistorted/2.png").rename(scene / "2.png")
    with pytest.raises(InputError, match=r"2\.png, which is not in"):
        Eth3dScene.open(scene)
    (scene / "images/dslr_images_undistorted/2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as an image"):
        Eth3dScene.open(scene)
    (scene / "dslr_calibration_undistorted/images.txt").unlink()
    with pytest.raises(InputError, match="no calibration"):
        Eth3dScene.open(scene)


def test_an_image_of_another_size_than_its_camera_is_told(scene: Path) -> None:
    cv2.imwrite(str(scene / "images/dslr_images_undistorted/3.png"), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(InputError, match=f"80x60 pixels and its camera {WIDTH}x240"):
        Eth3dScene.open(scene)


def test_scans_that_are_missing_or_broken_are_told(scene: Path) -> None:
    path, opened = scene / SCANS / ALIGNMENT, Eth3dScene.open(scene)
    whole = path.read_text()
    mirrored = np.diag([1.0, 1, -1, 1])
    scaled = np.diag([2.0, 2, 2, 1])
    for transform in (mirrored, scaled, np.full((4, 4), np.nan)):
        write_alignment(path, [("scan1.ply", transform)])
        with pytest.raises(InputError, match=r"scan 'scan1\.ply' has no rigid 4x4"):
            read_alignment(path)
    for content, message in {
        whole[:-40]: "cannot be read as a MeshLab project",
        whole.replace("MLMesh", "Mesh"): "has no scan",
        whole.replace("MLMatrix44", "Matrix"): "no rigid 4x4",
        whole.replace("scan1.ply", "scan2.ply"): "names scan2.ply, which is not beside it",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            opened.scans()
    path.unlink()
    with pytest.raises(InputError, match=r"no laser scan; expected dslr_scan_eval/scan_alignment\.mlp"):
        opened.scan_files()


def test_the_town_is_a_scene_whose_depth_maps_are_a_perfect_cloud(town_scene: Path) -> None:
    opened = Eth3dScene.open(town_scene)
    assert len(opened.image_names) == 7
    scans = opened.scans()
    assert len(scans) == 3 and sum(len(scan.points) for scan in scans) > 10_000
    cloud = read_ply(town_scene / DENSE).points
    exact = evaluate_cloud(cloud, scans)
    # both are samples of one surface, some centimetres apart at this size
    assert exact.completeness[2] > 0.95 and exact.accuracy[3] > 0.95
    moved = evaluate_cloud(cloud + np.float32([0.5, 0.5, 0.5]), scans)
    assert moved.accuracy[3] < 0.6 < exact.accuracy[3] and moved.completeness[2] < exact.completeness[2] - 0.2


def test_the_town_is_written_once_and_never_over_another(town: Town, town_scene: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in town_scene.rglob("*") if path.is_file()}
    write_town_scene(town_scene, **SMALL)  # builds nothing: no town is given
    assert before == {path: path.stat().st_mtime_ns for path in town_scene.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="another scene"):
        write_town_scene(town_scene, **{**SMALL, "views": 5})
    with pytest.raises(InputError, match="3 to 64"):
        write_town_scene(tmp_path / "few", views=2)


def test_a_town_that_was_killed_goes_on(town: Town, town_scene: Path, tmp_path: Path) -> None:
    whole = sorted(path.relative_to(town_scene) for path in town_scene.rglob("*") if path.is_file())
    victim = tmp_path / "town"

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.eth3d_town._write_dense", killed)
        with pytest.raises(Killed):
            write_town_scene(victim, **SMALL, town=town)
    kept = {path: path.stat().st_mtime_ns for path in victim.rglob("*.jpg")}
    write_town_scene(victim, **SMALL, town=town)
    assert kept == {path: path.stat().st_mtime_ns for path in victim.rglob("*.jpg")} and kept
    assert whole == sorted(path.relative_to(victim) for path in victim.rglob("*") if path.is_file())
    for path in whole:
        assert (victim / path).read_bytes() == (town_scene / path).read_bytes(), path


def test_a_scan_file_that_is_no_cloud_is_told(scene: Path) -> None:
    (scene / SCANS / "scan1.ply").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no PLY file"):
        Eth3dScene.open(scene).scans()
    write_ply(scene / SCANS / "scan1.ply", np.zeros((0, 3)))
    with pytest.raises(InputError, match=r"scan1\.ply has no points"):
        evaluate_cloud(np.ones((2, 3)), Eth3dScene.open(scene).scans())


def test_poses_and_points_come_from_distorted_photographs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's camera model, as strong as its cameras' distortion, through both stages."""
    params = [500.0, 502, 320, 240, -0.2, 0.12, 1e-3, -5e-4, 0.02, 0.01, 8e-4, -3e-4]
    fisheye = pycolmap.Camera(model="THIN_PRISM_FISHEYE", width=640, height=480, params=params, camera_id=7)
    fisheye.has_prior_focal_length = True
    monkeypatch.setattr(world, "CAMERA", fisheye)
    made = world.make_world(tmp_path / "world", num_points=400)
    triangulated = world.triangulate(made)
    assert triangulated.num_points3D() > 300
    assert triangulated.compute_mean_reprojection_error() < 0.5
    found = reconstruction.main(
        tmp_path / "sfm", _blank_images(made), made.pairs_db, made.features, made.matches_db,
        cameras=dict.fromkeys(made.database, fisheye), fixed_cameras={7}, finish=False,
    )  # fmt: skip
    truth = read_model(made.reference)
    similarity = align(found, truth)
    assert similarity is not None
    found.transform(similarity.to_sim3d())
    scores = score_poses(found, truth)
    assert scores.registered == len(made.database) and scores.recall[2] == 1  # 5 cm, 5 degrees
    np.testing.assert_allclose(found.cameras[7].params, params)


def _blank_images(made: world.World) -> Path:
    for name in made.database:
        (made.images / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(made.images / name), np.zeros((480, 640, 3), np.uint8))
    return made.images
