"""The embedded town: exact, repeatable, in the layout the readers expect, and a place that features can work with."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.town import Camera, Pose, Town, View, build_town, place_shots, render_view, write_town, writer
from datasets.town.atlas import AtlasBuilder
from datasets.town.geometry import Scene
from datasets.town.raster import perspective
from datasets.town.square import build_square
from datasets.town.writer import DONE, write
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import ConfigError, InputError

DETAIL = 0.3  # coarse textures, so that towns are built in seconds
SMALL = {"database": 6, "day": 1, "night": 1}


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town(3, DETAIL)


@pytest.fixture(scope="module")
def written(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(town, tmp_path_factory.mktemp("town"), "v1.1", **SMALL, detail=DETAIL)


def read_poses(path: Path) -> dict[str, np.ndarray]:
    lines = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name: np.array(rest, float) for name, *rest in lines}


def rotation(quaternion: np.ndarray) -> np.ndarray:
    return pycolmap.Rotation3d(np.roll(quaternion, -1)).matrix()


def neighbours(town: Town) -> tuple[Camera, Pose, Pose]:
    """Two views of the same fronts, 1.2 m and some degrees apart."""
    shots, _, _ = place_shots(town, 1, 0, 0)
    first = shots[0].cam_from_world
    turn = np.radians(4.0)
    about_up = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    second = first.rotation @ about_up
    aside = first.centre + 1.2 * first.rotation[0]
    return shots[0].camera, first, Pose(second, -second @ aside)


def test_layout_is_that_of_aachen_v1_1(written: Path) -> None:
    names = []
    for when in ("day", "night"):
        lines = (written / "queries" / f"{when}_time_queries_with_intrinsics.txt").read_text().splitlines()
        assert len(lines) == 1
        for line in lines:
            name, model, width, height, *params = line.split()
            assert (model, width, height, len(params)) == ("SIMPLE_RADIAL", "640", "480", 4)
            assert name.startswith(f"query/{when}/")
            assert cv2.imread(str(written / "images_upright" / name)).shape == (480, 640, 3)
            names.append(name)
    assert sorted(names) == sorted(read_poses(written / "ground_truth.txt"))
    assert len(list((written / "images_upright" / "db").glob("*.jpg"))) == SMALL["database"]


def test_reference_model_holds_exact_projections(written: Path) -> None:
    model = pycolmap.Reconstruction(written / "3D-models" / "aachen_v_1_1")
    assert model.num_images() == SMALL["database"]
    assert model.num_points3D() > 100
    checked = 0
    for image in model.images.values():
        assert (written / "images_upright" / image.name).is_file()
        for point2d in image.points2D:
            projected = image.project_point(model.points3D[point2d.point3D_id].xyz)
            assert np.abs(projected - point2d.xy).max() < 1e-6
            checked += 1
    assert checked >= 2 * model.num_points3D()


def test_same_seed_gives_the_same_bytes_and_v1_0_the_same_world(written: Path, tmp_path: Path) -> None:
    again = write_town(tmp_path, seed=3, version="v1.0", threads=1, detail=DETAIL, **SMALL)
    for path in sorted(written.rglob("*")):
        if path.is_file() and "3D-models" not in path.parts and path.name != DONE:
            assert path.read_bytes() == (again / path.relative_to(written)).read_bytes(), path
    model = pycolmap.Reconstruction(written / "3D-models" / "aachen_v_1_1")
    lines = (again / "3D-models" / "aachen_cvpr2018_db.nvm").read_text().splitlines()
    assert lines[0] == "NVM_V3"
    assert int(lines[2]) == SMALL["database"]
    intrinsics = (again / "3D-models" / "database_intrinsics.txt").read_text().splitlines()
    for line, camera_line in zip(lines[3:9], intrinsics, strict=True):
        name, focal, *numbers = line.split()
        quaternion, centre = np.array(numbers[:4], float), np.array(numbers[4:7], float)
        image = model.find_image_with_name(name)
        assert np.allclose(rotation(quaternion), image.cam_from_world().rotation.matrix(), atol=1e-9)
        assert np.allclose(centre, image.projection_center(), atol=1e-8)
        assert camera_line.split()[0] == name
        assert float(camera_line.split()[4]) == float(focal)
    assert int(lines[10]) == model.num_points3D()
    x, y, z, _, _, _, count, shot, _, dx, dy = lines[11].split()[:11]
    image = model.find_image_with_name(lines[3 + int(shot)].split()[0])
    projected = image.project_point(np.array([x, y, z], float))
    assert np.allclose(projected - (320, 240), (float(dx), float(dy)), atol=1e-6)
    assert int(count) >= 2


def test_queries_keep_their_distance_and_agree_with_ground_truth(town: Town) -> None:
    database, day, night = place_shots(town, 12, 3, 3)
    centres = np.array([s.cam_from_world.centre for s in database])
    for shot in day + night:
        assert np.linalg.norm(centres - shot.cam_from_world.centre, axis=1).min() >= 1.0
        assert np.allclose(rotation(shot.cam_from_world.quaternion), shot.cam_from_world.rotation, atol=1e-12)
    assert len({s.camera.focal for s in day}) >= 2


def test_ground_truth_is_the_camera_of_the_picture(town: Town, written: Path) -> None:
    poses = read_poses(written / "ground_truth.txt")
    _, day, night = place_shots(town, **SMALL)
    for shot in day + night:
        pose = poses[shot.name]
        assert np.allclose(rotation(pose[:4]), shot.cam_from_world.rotation, atol=1e-9)
        assert np.allclose(pose[4:], shot.cam_from_world.translation, atol=1e-9)


def test_depth_is_exact_across_views(town: Town) -> None:
    camera, first, second = neighbours(town)
    a, b = render_view(town, camera, first), render_view(town, camera, second)
    rows, columns = np.nonzero(np.isfinite(a.depth_m))
    rows, columns = rows[::37], columns[::37]
    z = a.depth_m[rows, columns].astype(float)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1)
    local = pixels @ np.linalg.inv(camera.matrix).T * z[:, None]
    world = (local - first.translation) @ first.rotation
    xy, depth = second.project(camera, world)
    inside = (depth > 0) & (xy >= 0).all(axis=1) & (xy < (camera.width, camera.height)).all(axis=1)
    column, row = np.floor(xy[inside]).astype(int).T
    error = np.abs(b.depth_m[row, column] - depth[inside]) / depth[inside]
    assert inside.sum() > 1000
    assert np.median(error) < 0.01
    same = (a.polygons[rows, columns][inside] == b.polygons[row, column]).mean()
    assert same > 0.5
    assert set(np.unique(a.instances)) <= set(range(len(town.names)))


def test_batches_draw_what_a_plain_loop_draws(town: Town) -> None:
    """The span rasteriser against a ray per pixel and polygon."""
    camera, pose, _ = neighbours(town)
    small = camera.scaled(0.05)
    mesh = town.mesh
    drawn = perspective(mesh, pose.rotation, pose.translation, small.matrix, small.width, small.height)
    y, x = np.mgrid[: small.height, : small.width] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ np.linalg.inv(small.matrix).T @ pose.rotation
    best = np.full(len(rays), np.inf)
    for index in np.flatnonzero(mesh.normals @ pose.centre - mesh.offsets > 1e-6):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (mesh.offsets[index] - mesh.normals[index] @ pose.centre) / (rays @ mesh.normals[index])
        hits = pose.centre + t[:, None] * rays - mesh.basis[index, :, 2]
        uv = np.stack([hits @ mesh.basis[index, :, 0], hits @ mesh.basis[index, :, 1], np.ones(len(rays))], axis=1)
        inside = (t > 0.05) & (uv @ mesh.edges[index].T >= 0).all(axis=1)
        best = np.where(inside & (t < best), t, best)
    ours = np.where(drawn.ids >= 0, 1 / np.maximum(drawn.depth_key, 1e-9), np.inf).reshape(-1)
    solid = ~mesh.cutout[drawn.ids.reshape(-1)]
    close = np.isclose(ours, best, rtol=1e-4) | (np.isinf(ours) & np.isinf(best))
    assert close[solid].mean() > 0.995


def test_night_is_darker_than_day(town: Town) -> None:
    camera, pose, _ = neighbours(town)
    day, night = render_view(town, camera, pose).image, render_view(town, camera, pose, night=True).image
    assert night.mean() < 0.6 * day.mean()
    assert night.max() > 60


def test_sift_matches_follow_the_true_epipolar_lines(town: Town) -> None:
    camera, first, second = neighbours(town)
    views = [cv2.cvtColor(render_view(town, camera, pose).image, cv2.COLOR_RGB2GRAY) for pose in (first, second)]
    sift = cv2.SIFT_create(2000)
    (k0, d0), (k1, d1) = (sift.detectAndCompute(view, None) for view in views)
    matches = [m for m, n in cv2.BFMatcher().knnMatch(d0, d1, k=2) if m.distance < 0.75 * n.distance]
    relative = second.rotation @ first.rotation.T
    t = second.translation - relative @ first.translation
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = np.linalg.inv(camera.matrix)
    fundamental = inverse.T @ cross @ relative @ inverse
    p0 = np.array([(*k0[m.queryIdx].pt, 0.5) for m in matches]) + 0.5
    p1 = np.array([(*k1[m.trainIdx].pt, 0.5) for m in matches]) + 0.5
    lines = p0 @ fundamental.T
    distance = np.abs((p1 * lines).sum(axis=1)) / np.hypot(lines[:, 0], lines[:, 1])
    assert len(matches) > 150
    assert np.mean(distance < 1.5) > 0.75  # the rest are wrong matches: windows and bricks look alike


def test_another_seed_is_another_town(town: Town) -> None:
    scene = Scene()
    site = build_square(np.random.default_rng([4, 7001]), scene, AtlasBuilder(), 0.15)
    assert len(scene.polygons) != len(town.mesh.basis)
    assert not np.allclose(site.corners, town.site.corners)


def test_unknown_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"v1\.1"):
        write_town(tmp_path, version="v2")


def test_a_finished_folder_is_left_and_another_town_refused(written: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    assert write_town(written, seed=3, detail=DETAIL, **SMALL) == written
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before
    with pytest.raises(InputError, match="another town"):
        write_town(written, seed=4, detail=DETAIL, **SMALL)


def test_interrupted_it_goes_on_where_it_was(
    town: Town, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[int] = []

    def stop_at_fifth(*arguments: object) -> View:
        if len(rendered) == 4:
            raise KeyboardInterrupt
        rendered.append(1)
        return render_view(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "render_view", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        write(town, tmp_path, "v1.1", **SMALL, threads=1, detail=DETAIL)
    assert not (tmp_path / DONE).exists()
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "images_upright").rglob("*.jpg")}
    assert len(finished) == 4
    monkeypatch.undo()
    write(town, tmp_path, "v1.1", **SMALL, threads=1, detail=DETAIL)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(written)).read_bytes(), path
