"""Exports, each read back against the model: projections, undistorted photographs, resuming, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from samfeat_hloc import export
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.exporting.undistort import undistorted_camera
from samfeat_hloc.formats.ply import read_ply
from tests.photographed import CAMERA_MODELS, NAMES, RADIUS_PX, Photographed, make_photographed

ROOT = Path(__file__).parents[1]
DISTORTED = ("SIMPLE_RADIAL", "OPENCV", "PINHOLE")
UNUSED = (*DISTORTED, "PINHOLE", "OPENCV")
"""More cameras than the four photographs."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Photographed:
    return make_photographed(tmp_path_factory.mktemp("export"), UNUSED)


def run(world: Photographed, to: str, output: Path, **options: Any) -> Path:
    return export.main(world.model, to, output, images=world.images, **options)


def check_colours(world: Photographed, name: str, picture: Path, xy: npt.NDArray[np.float64], ids: list[int]) -> None:
    """The photograph shows the points' colours where they project to, except where discs cover each other."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2) + 1e9 * np.eye(len(xy))
    clear = np.flatnonzero(gap.min(axis=1) > 2.5 * RADIUS_PX)
    height, width = pixels.shape[:2]
    clear = clear[((xy[clear] > 2) & (xy[clear] < [width - 2, height - 2])).all(axis=1)]
    assert len(clear) >= 5, name
    for index in clear:
        found = pixels[int(xy[index, 1]), int(xy[index, 0])]
        expected = world.reconstruction.points3D[ids[index]].color.astype(int)
        assert np.abs(found - expected).max() < 30, (name, found, expected)


def check_undistorted(
    world: Photographed, model: pycolmap.Reconstruction, images: Path, renamed: dict[str, str]
) -> None:
    """PINHOLE cameras, poses as before, and 3D points that project onto their 2D points and their discs."""
    assert {camera.model_name for camera in model.cameras.values()} == {"PINHOLE"}
    assert sorted(image.name for image in model.images.values()) == sorted(renamed.values())
    before = {image.name: image for image in world.reconstruction.images.values()}
    for old, new in renamed.items():
        image = next(image for image in model.images.values() if image.name == new)
        assert image.camera is not None
        np.testing.assert_allclose(image.cam_from_world().matrix(), before[old].cam_from_world().matrix(), atol=1e-9)
        observed = image.get_observation_points2D()
        ids = [point.point3D_id for point in observed]
        in_camera = image.cam_from_world() * np.array([world.reconstruction.points3D[key].xyz for key in ids])
        projected = np.asarray(image.camera.img_from_cam(in_camera))
        assert np.abs(projected - [point.xy for point in observed]).max() < 1e-3
        with Image.open(images / new) as picture:
            assert picture.size == (image.camera.width, image.camera.height)
        check_colours(world, old, images / new, projected, ids)


def test_gsplat(world: Photographed, tmp_path: Path) -> None:
    output = run(world, "gsplat", tmp_path / "gs")
    renamed = {name: name.replace("/", "__") for name in NAMES}
    assert {path.name for path in (output / "images").iterdir()} == set(renamed.values())  # one flat folder
    check_undistorted(world, read_model(output / "sparse/0"), output / "images", renamed)


def test_openmvs(world: Photographed, tmp_path: Path) -> None:
    output = run(world, "openmvs", tmp_path / "mvs")
    renamed = {name: name.replace(" ", "_") for name in NAMES}
    check_undistorted(world, read_model(output / "sparse"), output / "images", renamed)
    assert not list((output / "sparse").glob("*.bin"))
    lines = [line for line in (output / "sparse/cameras.txt").read_text().splitlines() if line[0] != "#"]
    assert all(line.split()[1] == "PINHOLE" and len(line.split()) == 8 for line in lines)
    lines = (output / "sparse/images.txt").read_text().splitlines()
    lines = [line for line in lines if line.endswith(".jpg")]
    assert all(len(line.split()) == 10 for line in lines) and len(lines) == len(NAMES)


def nerfstudio_projection(transforms: dict[str, Any], frame: dict[str, Any], xyz: np.ndarray) -> np.ndarray:
    """Pixels of (N, 3) points, from what nerfstudio documents: OpenGL cameras, OPENCV or OPENCV_FISHEYE distortion."""
    world_from_cam = np.array(frame["transform_matrix"])
    in_camera = (xyz - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
    x, y = in_camera[:, 0] / -in_camera[:, 2], -in_camera[:, 1] / -in_camera[:, 2]
    r = np.hypot(x, y)
    if transforms["camera_model"] == "OPENCV_FISHEYE":
        t = np.arctan(r)
        series = sum(frame[f"k{k}"] * t ** (2 * k) for k in range(1, 5))
        scale = t * (1 + series) / r
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2 = (frame[name] for name in ("k1", "k2", "p1", "p2"))
        radial = 1 + k1 * r**2 + k2 * r**4
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
            y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
        )
    return np.column_stack([frame["fl_x"] * x + frame["cx"], frame["fl_y"] * y + frame["cy"]])


@pytest.mark.parametrize("kinds", [DISTORTED, ("OPENCV_FISHEYE",), ("FOV", "PINHOLE"), ("OPENCV", "OPENCV_FISHEYE")])
def test_nerfstudio(kinds: tuple[str, ...], tmp_path: Path) -> None:
    world = make_photographed(tmp_path / "world", kinds)
    output = run(world, "nerfstudio", tmp_path / "ns")
    transforms = json.loads((output / "transforms.json").read_text())
    kept = kinds in (DISTORTED, ("OPENCV_FISHEYE",))
    assert transforms["camera_model"] == ("OPENCV_FISHEYE" if kinds == ("OPENCV_FISHEYE",) else "OPENCV")
    assert [frame["file_path"] for frame in transforms["frames"]] == sorted(f"images/{name}" for name in NAMES)
    for frame in transforms["frames"]:
        name = frame["file_path"].removeprefix("images/")
        image = next(image for image in world.reconstruction.images.values() if image.name == name)
        ids, truth = world.projections(image)
        xyz = np.array([world.reconstruction.points3D[int(key)].xyz for key in ids])
        projected = nerfstudio_projection(transforms, frame, xyz)
        if kept:
            assert np.abs(projected - truth).max() < 1e-3
            assert (output / frame["file_path"]).read_bytes() == (world.images / name).read_bytes()
        with Image.open(output / frame["file_path"]) as picture:
            assert picture.size == (frame["w"], frame["h"])
        check_colours(world, name, output / frame["file_path"], projected, ids.tolist())
    points = read_ply(output / transforms["ply_file_path"])
    ids = sorted(world.reconstruction.points3D)
    np.testing.assert_allclose(points.points, [world.reconstruction.points3D[key].xyz for key in ids], atol=1e-5)


def test_ply(world: Photographed, tmp_path: Path) -> None:
    export.main(world.model, "ply", tmp_path / "ply")
    points = read_ply(tmp_path / "ply/points.ply")
    ids = sorted(world.reconstruction.points3D)
    np.testing.assert_allclose(points.points, [world.reconstruction.points3D[key].xyz for key in ids], atol=1e-5)
    np.testing.assert_array_equal(points.colours, [world.reconstruction.points3D[key].color for key in ids])
    np.testing.assert_allclose(np.linalg.norm(points.normals, axis=1), 1, atol=1e-6)
    for image in world.reconstruction.images.values():
        seen = [ids.index(point.point3D_id) for point in image.get_observation_points2D()]
        towards = image.projection_center() - points.points[seen]
        assert ((towards * points.normals[seen]).sum(axis=1) > 0).all()
    cameras = read_ply(tmp_path / "ply/cameras.ply").points.reshape(-1, 5, 3)
    centres = [
        image.projection_center() for image in sorted(world.reconstruction.images.values(), key=lambda i: i.name)
    ]
    np.testing.assert_allclose(cameras[:, 0], centres, atol=1e-9)
    assert b"element edge 32" in (tmp_path / "ply/cameras.ply").read_bytes()
    export.main(world.model, "ply", tmp_path / "one.ply")
    assert (tmp_path / "one.ply").is_file() and (tmp_path / "one_cameras.ply").is_file()


def test_photographs_are_taken_as_stored_whatever_their_exif_says(tmp_path: Path) -> None:
    world = make_photographed(tmp_path / "world", ("PINHOLE", "SIMPLE_RADIAL"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in NAMES:
        with Image.open(world.images / name) as image:
            image.load()
            image.save(world.images / name, quality=97, subsampling=0, exif=exif)
    output = run(world, "gsplat", tmp_path / "gs")
    check_undistorted(
        world, read_model(output / "sparse/0"), output / "images", {name: name.replace("/", "__") for name in NAMES}
    )
    for path in (output / "images").iterdir():
        with Image.open(path) as image:
            assert 0x0112 not in image.getexif()


def test_smaller_photographs(world: Photographed, tmp_path: Path) -> None:
    output = run(world, "gsplat", tmp_path / "gs", max_image_size=160)
    model = read_model(output / "sparse/0")
    for image in model.images.values():
        assert image.camera is not None and max(image.camera.width, image.camera.height) == 160
        with Image.open(output / "images" / image.name) as picture:
            assert picture.size == (image.camera.width, image.camera.height)


def test_an_interrupted_export_goes_on_where_it_was(
    world: Photographed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samfeat_hloc.exporting import undistort

    original, calls = undistort.write_photograph, []

    def dies(source: Path, *rest: Any) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(source.name)
        original(source, *rest)

    monkeypatch.setattr(undistort, "write_photograph", dies)
    with pytest.raises(KeyboardInterrupt):
        run(world, "gsplat", tmp_path / "gs")
    assert len(list((tmp_path / "gs/images").iterdir())) == 2 and not (tmp_path / "gs/sparse").exists()
    again: list[str] = []
    monkeypatch.setattr(undistort, "write_photograph", lambda *a: (again.append(a[0].name), original(*a)))
    run(world, "gsplat", tmp_path / "gs")
    assert sorted(calls + again) == sorted(Path(name).name for name in NAMES)  # nothing twice
    run(world, "gsplat", tmp_path / "gs")
    assert len(again) == 2
    with pytest.raises(InputError, match="with other options"):
        run(world, "gsplat", tmp_path / "gs", max_image_size=100)
    run(world, "gsplat", tmp_path / "gs", max_image_size=100, overwrite=True)
    assert len(again) == 6


def test_bad_input_is_met_before_anything_is_written(world: Photographed, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of ply, nerfstudio, gsplat, openmvs"):
        run(world, "obj", tmp_path / "x")
    with pytest.raises(ConfigError, match="max_image_size is 3"):
        run(world, "gsplat", tmp_path / "x", max_image_size=3)
    with pytest.raises(InputError, match=r"needs the photographs.*--images"):
        export.main(world.model, "gsplat", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "few/left").mkdir(parents=True)
    (tmp_path / "few/left/a.jpg").write_bytes((world.images / "left/a.jpg").read_bytes())
    with pytest.raises(InputError, match="3 of the model's 4 photographs are not in"):
        export.main(world.model, "gsplat", tmp_path / "y", images=tmp_path / "few")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("keep me")
    with pytest.raises(InputError, match="holds files that are no export"):
        run(world, "gsplat", tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/letter.txt").read_text() == "keep me"


def test_photographs_of_another_size_and_panoramas_are_refused(tmp_path: Path) -> None:
    world = make_photographed(tmp_path / "world")
    Image.new("RGB", (100, 100)).save(world.images / NAMES[0])
    with pytest.raises(InputError, match="has 100x100 pixels and its camera 320x240"):
        run(world, "openmvs", tmp_path / "mvs")
    (world.images / NAMES[0]).write_bytes(b"no photograph")
    with pytest.raises(InputError, match="cannot be read as an image"):
        run(world, "openmvs", tmp_path / "mvs")
    panorama = pycolmap.Camera(model="EQUIRECTANGULAR", width=400, height=200, params=[400, 200], camera_id=1)
    with pytest.raises(InputError, match="panorama"):
        undistorted_camera(panorama)


@pytest.mark.parametrize("kind", sorted(CAMERA_MODELS))
def test_every_camera_becomes_a_pinhole_one(kind: str) -> None:
    camera = pycolmap.Camera(model=kind, width=320, height=240, params=list(CAMERA_MODELS[kind]), camera_id=5)
    found = undistorted_camera(camera)
    assert (found.model_name, found.camera_id) == ("PINHOLE", 5)


def test_the_command_line(world: Photographed, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samfeat_hloc.export", str(world.model), "--output", str(tmp_path / "o")]
    extra = ["--to", "openmvs", "--images", str(world.images)]
    done = subprocess.run([*command, *extra], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"InterfaceCOLMAP -i {tmp_path / 'o'}" in done.stderr
    done = subprocess.run([*command, "--to", "gsplat"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("error: gsplat needs the photographs")
