"""Scenes: what a model becomes, where it is looked at from, thumbnails and colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samfeat_hloc._pycolmap import pose_to_array, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import write_ply
from samfeat_hloc.formats.poses import write_poses
from samfeat_hloc.viewing.framing import default_view, frustum_depth, kept_ball, up_direction
from samfeat_hloc.viewing.model_scene import corners_of, model_folder, scene_from_model
from samfeat_hloc.viewing.photographs import photographs_of, read_small, thumbnail
from samfeat_hloc.viewing.scene import Cameras, Points, Scene, load_scene, save_scene
from tests.photographed import NAMES, Photographed, make_photographed
from tests.world import look_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Photographed:
    return make_photographed(tmp_path_factory.mktemp("scene"))


def test_a_scene_is_the_models_points_and_cameras(world: Photographed) -> None:
    scene = scene_from_model(world.reconstruction)
    assert scene.database.names == tuple(sorted(NAMES))
    ids = sorted(world.reconstruction.points3D)
    np.testing.assert_allclose(scene.points.xyz, [world.reconstruction.points3D[key].xyz for key in ids])
    np.testing.assert_array_equal(scene.points.rgb, [world.reconstruction.points3D[key].color for key in ids])
    for index, name in enumerate(scene.database.names):
        image = next(image for image in world.reconstruction.images.values() if image.name == name)
        np.testing.assert_allclose(scene.database.centres[index], image.projection_center(), atol=1e-12)
        seen = {point.point3D_id for point in image.get_observation_points2D()}
        assert {ids[point] for point in scene.database.points_of(index)} == seen


def test_the_image_plane_of_a_frustum_projects_onto_the_photographs_corners(world: Photographed) -> None:
    scene = scene_from_model(world.reconstruction)
    image = next(image for image in world.reconstruction.images.values() if image.name == scene.database.names[1])
    apex, *corners = scene.database.frusta(0.7)[1]
    np.testing.assert_allclose(apex, image.projection_center(), atol=1e-12)
    projected = [image.project_point(corner) for corner in corners]
    w, h = image.camera.width, image.camera.height
    np.testing.assert_allclose(projected, [[0, 0], [w, 0], [w, h], [0, h]], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("EQUIRECTANGULAR", None),
        ("OPENCV_FISHEYE", [80.0, 80, 200, 200, 0, 0, 0, 0]),
        ("SIMPLE_PINHOLE", [1.0, 200, 200]),
    ],
)
def test_very_wide_cameras_have_a_frustum_that_can_be_drawn(kind: str, params: list[float] | None) -> None:
    camera = pycolmap.Camera(model=kind, width=400, height=400, params=params or [400.0, 400.0])
    corners = corners_of(camera)
    assert np.isfinite(corners).all() and (np.abs(corners) <= 3).all() and (np.ptp(corners[:, :2], axis=0) > 0.1).all()


def test_queries_and_trajectory(world: Photographed, tmp_path: Path) -> None:
    poses = {"q2.jpg": look_at([0, 1, 0], [0, 0, 8]), "q1.jpg": look_at([1, 0, 0], [0, 0, 8])}
    write_poses(tmp_path / "poses.txt", {name: pose_to_array(pose) for name, pose in poses.items()})
    scene = scene_from_model(world.reconstruction, queries=tmp_path / "poses.txt", trajectory=True)
    np.testing.assert_allclose(scene.queries.centres, [[0, 1, 0], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(scene.queries.rotations[0].T, poses["q2.jpg"].rotation.matrix(), atol=1e-12)
    assert [len(path) for path in scene.paths] == [2, 2, 2]  # left/, right/, the queries: no line between folders
    np.testing.assert_allclose(scene.paths[2], [[1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_points_without_colours_get_those_of_the_photographs(tmp_path: Path) -> None:
    true = make_photographed(tmp_path / "a").reconstruction
    black = make_photographed(tmp_path / "b", coloured=False)
    scene = scene_from_model(black.reconstruction, images=black.images)
    expected = np.array([true.points3D[key].color for key in sorted(true.points3D)], float)
    difference = np.abs(scene.points.rgb - expected).mean(axis=1)
    assert np.median(difference) < 25  # discs cover each other
    by_height = scene_from_model(black.reconstruction).points
    highest, lowest = by_height.rgb[by_height.xyz[:, 1].argmin()], by_height.rgb[by_height.xyz[:, 1].argmax()]
    assert highest[0] > highest[2] and lowest[2] > lowest[0]  # y is down: red above, blue below


def test_a_dense_cloud_beside_the_model(world: Photographed, tmp_path: Path) -> None:
    xyz = np.array([[0.0, 0, 5], [1, 1, 5], [np.nan, 0, 0]])
    write_ply(tmp_path / "dense.ply", xyz, np.full((3, 3), 9, np.uint8))
    cloud = scene_from_model(world.reconstruction, cloud=tmp_path / "dense.ply").cloud
    np.testing.assert_array_equal(cloud.xyz, xyz[:2])
    assert (cloud.rgb == 9).all()


def test_up_is_the_median_of_the_cameras_and_far_points_do_not_move_the_view(world: Photographed) -> None:
    scene = scene_from_model(world.reconstruction)
    assert up_direction(scene) @ [0, -1, 0] > 0.99
    centre, radius = kept_ball(scene)
    far = np.concatenate([scene.points.xyz, [[1e6, -1e6, 1e6]]])
    spoilt = dataclasses.replace(scene, points=Points(far, np.zeros((len(far), 3), np.uint8)))
    moved, larger = kept_ball(spoilt)
    assert np.linalg.norm(moved - centre) < 0.2 * radius and larger < 1.2 * radius
    rotations = scene.database.rotations.copy()
    rotations[0] = rotations[0] @ np.diag([-1.0, -1, 1])  # one photograph taken upside down
    upside = dataclasses.replace(scene, database=dataclasses.replace(scene.database, rotations=rotations))
    assert up_direction(upside) @ [0, -1, 0] > 0.99


def test_cameras_that_look_down_from_the_air_have_the_sky_above() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-50, 50, (500, 2)), rng.uniform(0, 3, 500)])
    angle = rng.uniform(0, 2 * np.pi, 30)
    right = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(30)])
    down = np.tile([0.0, 0, -1], (30, 1))
    rotations = np.stack([right, np.cross(down, right), down], axis=2)
    centres = np.column_stack([rng.uniform(-40, 40, (30, 2)), rng.normal(60, 0.5, 30)])
    corners = np.tile(np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1.0]]), (30, 1, 1))
    cameras = Cameras.make([str(i) for i in range(30)], rotations, centres, corners)
    scene = Scene("air", Points(points, np.zeros((500, 3), np.uint8)), cameras)
    assert up_direction(scene)[2] > 0.99
    assert default_view(scene).eye[2] > 3


def test_the_first_view_shows_the_points(world: Photographed) -> None:
    scene = scene_from_model(world.reconstruction)
    view = default_view(scene)
    in_view = (scene.points.xyz - view.eye) @ view.rotation.T
    assert (in_view[:, 2] > 0).all()
    slopes = np.abs(in_view[:, :2]) / in_view[:, 2:] / np.tan(np.radians(25)) / [4 / 3, 1]
    assert (slopes < 1).all(axis=1).mean() > 0.9 and 0.7 < slopes.max() < 1.3  # they fill the picture
    around = default_view(scene, tight=False)
    for angle in range(0, 360, 30):
        turned = around.turned(angle)
        from_there = (scene.points.xyz - turned.eye) @ turned.rotation.T
        assert (np.abs(from_there[:, :2]) / from_there[:, 2:] < np.tan(np.radians(27)) * np.array([4 / 3, 1])).all()
    with_cameras = default_view(scene, cameras=True)
    centres = (scene.database.centres - with_cameras.eye) @ with_cameras.rotation.T
    assert (centres[:, 2] > 0).all()
    assert (np.abs(centres[:, :2]) / centres[:, 2:] < np.tan(np.radians(26)) * np.array([4 / 3, 1])).all()
    assert view.turned(360).eye == pytest.approx(view.eye)
    np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view.rotation) == pytest.approx(1)
    assert 0 < frustum_depth(scene) < view.radius


def test_a_scene_goes_to_a_child_process_unchanged(world: Photographed, tmp_path: Path) -> None:
    scene = scene_from_model(world.reconstruction, trajectory=True, title="a 'b' <c>")
    save_scene(tmp_path / "scene.npz", scene)
    back = load_scene(tmp_path / "scene.npz")
    assert (back.title, back.facts, back.database.names) == (scene.title, scene.facts, scene.database.names)
    np.testing.assert_array_equal(back.database.observed, scene.database.observed)
    np.testing.assert_array_equal(back.points.xyz, scene.points.xyz)
    assert len(back.queries) == 0 and len(back.paths) == len(scene.paths) == 2


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_thumbnails_are_upright_and_within_their_size(tmp_path: Path, orientation: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (600, 900, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "noise.jpg", exif=exif)
    content, found = thumbnail(tmp_path / "noise.jpg", 30_000)
    assert found == orientation and 0 < len(content) <= 30_000
    (tmp_path / "thumb.jpg").write_bytes(content)
    with Image.open(tmp_path / "thumb.jpg") as small:
        assert (small.width < small.height) == (orientation in (6, 8))
    stored, _ = read_small(tmp_path / "noise.jpg", 300)
    assert stored.shape == (200, 300, 3)


def test_unreadable_photographs_have_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a photograph")
    assert thumbnail(tmp_path / "broken.jpg", 10_000) == (b"", 1)


def test_photographs_are_found_by_base_name_where_that_is_unique(tmp_path: Path) -> None:
    for name in ("day/a.jpg", "night/b.jpg", "day/c.jpg", "night/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    found = photographs_of(tmp_path, ("a.jpg", "night/b.jpg", "c.jpg", "d.jpg"))
    assert found == {"a.jpg": tmp_path / "day/a.jpg", "night/b.jpg": tmp_path / "night/b.jpg"}
    with pytest.raises(InputError, match="none of the model's 1 photographs"):
        photographs_of(tmp_path, ("e.jpg",))


def test_bad_models_say_what_is_wrong(world: Photographed, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        model_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"there are models in {world.model}"):
        model_folder(world.root)
    with pytest.raises(InputError, match="neither points nor cameras"):
        scene_from_model(pycolmap.Reconstruction())
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match="has no poses"):
        scene_from_model(world.reconstruction, queries=tmp_path / "empty.txt")
