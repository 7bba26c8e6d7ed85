"""Observations scattered by half a pixel come back to where the photographs agree."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.final_adjustment import finish_model
from samfeat_hloc.mappers import pipeline_options
from samfeat_hloc.patch_alignment import Observations, align_observations
from tests.world import look_at

WIDTH, HEIGHT, FOCAL = 400, 300, 380.0
METRE = 100  # texture pixels
CENTRES = ([0.0, 0.0, -4.0], [1.2, 0.3, -3.8], [-1.3, -0.2, -4.2], [0.4, 0.9, -3.5])


def write_photographs(folder: Path, poses: list[pycolmap.Rigid3d]) -> None:
    """A textured plane z = 0, seen by each camera; the second photograph is darker and flatter."""
    noise = np.random.default_rng(0).uniform(0, 255, (800, 1000)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 3)
    texture = (texture - texture.mean()) / texture.std() * 45 + 128
    intrinsics = np.array([[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]])  # pixel (0, 0)
    to_plane = np.array([[1 / METRE, 0, -5.0], [0, 1 / METRE, -4.0], [0, 0, 1]])
    for number, pose in enumerate(poses):
        matrix = pose.matrix()
        seen = cv2.warpPerspective(
            texture, intrinsics @ matrix[:, [0, 1, 3]] @ to_plane, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC
        )
        seen = seen * 0.6 + 20 if number == 1 else seen
        cv2.imwrite(str(folder / f"{number}.png"), np.clip(seen, 0, 255).astype(np.uint8))


def scattered(sigma: float, count: int = 150) -> tuple[pycolmap.Reconstruction, list[pycolmap.Rigid3d]]:
    """The true model with observations that are `sigma` pixels off along each axis."""
    rng = np.random.default_rng(1)
    poses = [look_at(centre, [0, 0, 0]) for centre in CENTRES]
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, WIDTH / 2, HEIGHT / 2], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    points = np.column_stack([rng.uniform([-0.9, -0.6], [0.9, 0.6], (count, 2)), np.zeros(count)])
    for number, pose in enumerate(poses):
        xy = np.asarray(camera.img_from_cam(pose * points)) + rng.normal(0, sigma, (count, 2))
        image = pycolmap.Image(name=f"{number}.png", camera_id=1, image_id=number + 1, keypoints=xy)
        model.add_image_with_trivial_frame(image, pose)
    for index, point in enumerate(points):
        track = pycolmap.Track([pycolmap.TrackElement(number + 1, index) for number in range(len(poses))])
        model.add_point3D(point, track)
    return model, poses


def disagreement(model: pycolmap.Reconstruction) -> float:
    """Median distance, over pairs of photographs, of an observation to where the other's lies on the plane."""
    found = Observations.of(model)
    places = np.zeros((len(found.xyz), len(CENTRES), 2))
    for image_id in model.images:
        mine = found.image == image_id
        image = model.images[image_id]
        rays = np.asarray(model.cameras[1].cam_from_img(found.xy[mine]))
        directions = np.column_stack([rays, np.ones(len(rays))]) @ image.cam_from_world().rotation.matrix()
        centre = image.projection_center()
        on_plane = centre + directions * (-centre[2] / directions[:, 2])[:, None]
        places[found.point[mine], image_id - 1] = on_plane[:, :2]
    apart = np.linalg.norm(places - places[:, :1], axis=2)[:, 1:]
    return float(np.median(apart)) * FOCAL / 4  # pixels at 4 m


def test_observations_agree_afterwards(tmp_path: Path) -> None:
    model, poses = scattered(0.5)
    write_photographs(tmp_path, poses)
    before = disagreement(model)
    moved = align_observations(model, tmp_path)
    assert before > 0.5
    assert disagreement(model) < 0.1
    assert 0.8 * 150 * 3 < moved <= 150 * 3  # all but one of each point


def test_what_does_not_look_alike_stays(tmp_path: Path) -> None:
    model, poses = scattered(0.5)
    write_photographs(tmp_path, poses)
    rng = np.random.default_rng(2)
    for number in (1, 2, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8))
    before = Observations.of(model).xy
    moved = align_observations(model, tmp_path)
    after = Observations.of(model).xy
    assert moved < 0.05 * len(before)
    assert np.abs(after - before).max() <= 2 * np.sqrt(2)


def test_photographs_that_cannot_be_read_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, poses = scattered(0.5)
    write_photographs(tmp_path, poses)
    (tmp_path / "1.png").unlink()
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((10, 20), np.uint8))
    assert align_observations(model, tmp_path) > 0
    assert "1.png cannot be read" in caplog.text and "2.png is 20 x 10" in caplog.text


def test_finishing_brings_cameras_closer_to_the_truth(tmp_path: Path) -> None:
    model, poses = scattered(0.8)
    write_photographs(tmp_path, poses)
    rng = np.random.default_rng(3)
    for index in range(0, 150, 10):  # gross errors
        model.images[3].points2D[index].xy += rng.uniform(3, 4, 2)
    truth = np.array(CENTRES)

    def error(found: pycolmap.Reconstruction) -> float:
        centres = np.stack([found.images[i].projection_center() for i in sorted(found.images)])
        aligned = pycolmap.estimate_sim3d(centres, truth)
        return float(np.linalg.norm([aligned * centre for centre in centres] - truth, axis=1).mean())

    plain = pycolmap.Reconstruction(model)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_extra_params = options.print_summary = False
    pycolmap.bundle_adjustment(plain, options)
    finish_model(model, tmp_path, pipeline_options("incremental"), fixed_cameras=[1])
    assert error(model) < error(plain) / 2
    assert model.cameras[1].params[0] == FOCAL


def test_intrinsics_are_refined_as_the_mapper_does(tmp_path: Path) -> None:
    model, poses = scattered(0.0)
    write_photographs(tmp_path, poses)
    model.cameras[1].params = [FOCAL * 1.02, WIDTH / 2, HEIGHT / 2]
    kept = pycolmap.Reconstruction(model)
    finish_model(model, tmp_path, pipeline_options("incremental"))
    assert abs(model.cameras[1].params[0] - FOCAL) < 2
    finish_model(kept, tmp_path, pipeline_options("global", {"refine_focal_length": False}))
    assert kept.cameras[1].params[0] == FOCAL * 1.02


def test_an_empty_model_has_nothing_to_align(tmp_path: Path) -> None:
    assert align_observations(pycolmap.Reconstruction(), tmp_path) == 0
