"""COLMAP models, MegaDepth and the MTLDesc release, each from a small tree the test writes itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import ConfigError, InputError
from tests.training.scenes import EYES, Eye, eye, transfer_errors
from training.records import Pair, SourceConfig, View
from training.sources import open_source


def read(kind: str, path: Path, **config: object) -> tuple[dict[str, View], list[Pair], dict[str, int]]:
    settings = {"kind": kind, "path": str(path), "overlap": (0.1, 0.95), **config}
    source = open_source(SourceConfig(**settings))  # type: ignore[arg-type]
    views = {view.name: view for view in source.views()}
    return views, list(source.pairs()), source.skipped


def write_model(folder: Path, eyes: list[Eye], points: int = 400, lens: float | None = None) -> Path:
    """A COLMAP model of the cameras; the points that first and others see are tracks."""
    model = pycolmap.Reconstruction()
    rng = np.random.default_rng(0)
    world = eyes[0].world(rng.uniform([0, 0], [eyes[0].width - 1, eyes[0].height - 1], (points, 2)))
    tracks: list[list[tuple[int, int]]] = [[] for _ in world]
    for index, camera in enumerate(eyes):
        xy = camera.project(world)
        inside = ((xy >= 0) & (xy <= [camera.width - 1, camera.height - 1])).all(axis=1)
        seen = np.flatnonzero(inside & (np.linalg.norm(camera.world(xy) - world, axis=1) < 1e-6))
        for slot, point in enumerate(seen):
            tracks[point].append((index + 1, slot))
        params = [camera.focal, camera.width / 2, camera.height / 2] + ([] if lens is None else [lens])
        name = "SIMPLE_PINHOLE" if lens is None else "SIMPLE_RADIAL"
        made = pycolmap.Camera(model=name, width=camera.width, height=camera.height, params=params, camera_id=index + 1)
        model.add_camera_with_trivial_rig(made)
        rotation = camera.world_from_cam[:3, :3].T
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ camera.world_from_cam[:3, 3])
        image = pycolmap.Image(name=f"{index}.png", keypoints=xy[seen] + 0.5, camera_id=index + 1, image_id=index + 1)
        model.add_image_with_trivial_frame(image, pose)
    for point, track in enumerate(tracks):
        if len(track) > 1:
            elements = pycolmap.Track()
            for image_id, slot in track:
                elements.add_element(image_id, slot)
            model.add_point3D(world[point], elements, np.zeros(3, np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    model.write(folder)
    return folder


def write_images(folder: Path, eyes: list[Eye]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, camera in enumerate(eyes):
        cv2.imwrite(str(folder / f"{index}.png"), camera.photograph()[:, :, ::-1])
    return folder


def ends(pair: Pair, eyes: list[Eye] = EYES) -> tuple[Eye, Eye]:
    return eyes[int(Path(pair.first).stem)], eyes[int(Path(pair.second).stem)]


@pytest.mark.parametrize("max_side", [512, 160])
def test_colmap_tracks_correspond(tmp_path: Path, max_side: int) -> None:
    model, images = write_model(tmp_path / "model", EYES), write_images(tmp_path / "images", EYES)
    views, pairs, skipped = read("colmap", model, images=str(images), max_side=max_side)
    assert sorted(views) == ["0.png", "1.png", "2.png", "3.png"]
    assert skipped == {}
    assert len(pairs) >= 3
    for pair in pairs:
        errors, hidden = transfer_errors(pair.points, *ends(pair), min(1.0, max_side / 320))
        assert len(pair.points) >= 32
        assert errors.max() < 1e-3
        assert not hidden.any()


def test_colmap_overlap_and_limit_choose_pairs(tmp_path: Path) -> None:
    model, images = write_model(tmp_path / "model", EYES), write_images(tmp_path / "images", EYES)
    _, every, _ = read("colmap", model, images=str(images))
    assert len(read("colmap", model, images=str(images), limit=2)[1]) == 2
    assert len(read("colmap", model, images=str(images), overlap=(0.8, 1.0))[1]) < len(every)
    with pytest.raises(InputError, match="no usable pair"):
        read("colmap", model, images=str(images), overlap=(0.0, 0.01))


def test_colmap_images_that_are_missing_or_changed_are_counted(tmp_path: Path) -> None:
    model, images = write_model(tmp_path / "model", EYES), write_images(tmp_path / "images", EYES)
    (images / "3.png").unlink()
    cv2.imwrite(str(images / "2.png"), np.zeros((240, 300, 3), np.uint8))
    views, pairs, skipped = read("colmap", model, images=str(images))
    assert sorted(views) == ["0.png", "1.png"]
    assert skipped == {"unreadable image": 1, "image of another size than the model says": 1}
    assert [(pair.first, pair.second) for pair in pairs] == [("0.png", "1.png")]


def test_colmap_needs_a_model_and_images(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", EYES[:2])
    with pytest.raises(ConfigError, match="give the folder of its images"):
        read("colmap", model)
    with pytest.raises(InputError, match="is no folder"):
        read("colmap", model, images=str(tmp_path / "absent"))
    with pytest.raises(InputError, match="has no COLMAP model"):
        read("colmap", tmp_path, images=str(tmp_path))


def write_megadepth(
    root: Path, eyes: list[Eye], model: str, depth_scale: float = 1.0, lens: float | None = None
) -> Path:
    dense = root / "phoenix/S6/zl548/MegaDepth_v1/0001/dense0"
    write_images(dense / "imgs", eyes)
    write_model(root / model, eyes, lens=lens)
    (dense / "depths").mkdir(parents=True)
    for index, camera in enumerate(eyes):
        with h5py.File(dense / f"depths/{index}.h5", "w") as file:
            file["depth"] = camera.depth(depth_scale).astype(np.float32)
    return dense


@pytest.mark.parametrize(
    "model", ["phoenix/S6/zl548/MegaDepth_v1/0001/dense0/sparse", "MegaDepth_v1_SfM/0001/sparse/manhattan/0"]
)
@pytest.mark.parametrize("depth_scale", [1.0, 0.5])
def test_megadepth_pairs_by_depth(tmp_path: Path, model: str, depth_scale: float) -> None:
    write_megadepth(tmp_path, EYES, model, depth_scale)
    views, pairs, skipped = read("megadepth", tmp_path)
    assert sorted(views) == [f"0001/dense0/{index}.png" for index in range(4)]
    assert skipped == {}
    assert len(pairs) >= 3
    for pair in pairs:
        errors, hidden = transfer_errors(pair.points, *ends(pair))
        assert np.median(errors) < 1e-3
        assert np.quantile(errors, 0.99) < 0.05
        assert hidden.mean() < 0.005


def test_megadepth_undistorted_beside_the_download(tmp_path: Path) -> None:
    dense = write_megadepth(tmp_path, EYES, "Undistorted_SfM/0001/sparse")
    (dense / "imgs").rename(tmp_path / "Undistorted_SfM/0001/images")
    assert len(read("megadepth", tmp_path)[0]) == 4


def test_megadepth_photographs_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    eyes = [*EYES, *EYES]
    dense = write_megadepth(tmp_path, eyes, "phoenix/S6/zl548/MegaDepth_v1/0001/dense0/sparse")
    with h5py.File(dense / "depths/4.h5", "w") as file:
        file["depth"] = np.ones((200, 200), np.float32)
    (dense / "depths/5.h5").write_bytes(b"no h5")
    (dense / "depths/6.h5").unlink()  # never made: not registered densely
    (dense / "imgs/7.png").write_bytes(b"no image")
    views, _, skipped = read("megadepth", tmp_path)
    assert len(views) == 4
    assert skipped == {"depth map of another size": 1, "unusable depth map": 1, "unreadable image": 1}


def test_megadepth_cameras_with_a_lens_and_empty_trees_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no SCENE/denseN/depths"):
        read("megadepth", tmp_path)
    write_megadepth(tmp_path, EYES[:2], "MegaDepth_v1_SfM/0001/sparse/manhattan/0", lens=0.1)
    with pytest.raises(InputError, match=r"no usable view \(2 camera with a lens\)"):
        read("megadepth", tmp_path)


def test_megadepth_pairs_without_overlap_never_come(tmp_path: Path) -> None:
    eyes = [EYES[0], eye(12.0), EYES[1]]
    write_megadepth(tmp_path, eyes, "phoenix/S6/zl548/MegaDepth_v1/0001/dense0/sparse")
    pairs = read("megadepth", tmp_path)[1]
    assert [(Path(pair.first).stem, Path(pair.second).stem) for pair in pairs] == [("0", "2")]


def write_mtldesc(root: Path, names: str = "ab") -> Path:
    for folder in ("image", "keypoint", "despoint"):
        (root / folder).mkdir(parents=True)
    for name in names:
        both = np.concatenate([EYES[0].photograph(), EYES[1].photograph()], axis=1)
        cv2.imwrite(str(root / f"image/{name}.jpg"), both[:, :, ::-1])
        first = np.stack(np.meshgrid(np.arange(40, 280, 24), np.arange(40, 200, 24)), axis=-1).reshape(-1, 2)
        second = EYES[1].project(EYES[0].world(first.astype(float)))
        valid = np.arange(len(first)) % 5 > 0
        second[~valid] = -7
        np.savez(root / f"keypoint/{name}.npz", points_0=[[11.0, 22.0]], points_1=[[33.0, 44.0], [55.0, 66.0]])
        np.savez(
            root / f"despoint/{name}.npz",
            raw_desp_point1=first[:, ::-1],
            raw_desp_point2=second[:, ::-1],
            valid_mask=valid,
            not_search_mask=np.eye(len(first)),
        )
    return root


@pytest.mark.parametrize("max_side", [512, 160])
def test_mtldesc_gives_two_views_and_one_pair_a_file(tmp_path: Path, max_side: int) -> None:
    views, pairs, skipped = read("mtldesc", write_mtldesc(tmp_path), max_side=max_side)
    scale = min(1.0, max_side / 320)
    assert sorted(views) == ["a_0", "a_1", "b_0", "b_1"]
    assert skipped == {}
    assert views["a_1"].image.shape == (240 * scale, 320 * scale, 3)
    assert np.allclose(views["a_1"].keypoints, (np.array([[44, 33], [66, 55]]) + 0.5) * scale - 0.5)  # type: ignore[arg-type]
    assert [(pair.first, pair.second) for pair in pairs] == [("a_0", "a_1"), ("b_0", "b_1")]
    errors, _ = transfer_errors(pairs[0].points, EYES[0], EYES[1], scale)
    assert len(errors) > 40
    assert errors.max() < 1e-3
    difference = views["a_0"].image.astype(float) - views["a_1"].image
    assert np.abs(difference).mean() > 5  # the halves are two photographs


def test_mtldesc_files_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    root = write_mtldesc(tmp_path, "abcd")
    (root / "image/a.jpg").write_bytes(b"no image")
    (root / "despoint/b.npz").unlink()
    points = dict(np.load(root / "despoint/c.npz"))
    np.savez(root / "despoint/c.npz", **{**points, "valid_mask": np.zeros(len(points["valid_mask"]))})
    views, pairs, skipped = read("mtldesc", root)
    assert sorted(views) == ["d_0", "d_1"]
    assert len(pairs) == 1
    assert skipped == {"unreadable image, keypoints or points": 4, "pair without a correspondence": 2}
    (root / "keypoint/d.npz").write_bytes(b"")
    with pytest.raises(InputError, match="no usable view"):
        read("mtldesc", root)
    with pytest.raises(InputError, match=r"has no image/NAME\.jpg"):
        read("mtldesc", tmp_path / "image")


def test_mtldesc_views_become_files_for_a_teacher(tmp_path: Path) -> None:
    from datasets.mtldesc import write_halves

    root = write_mtldesc(tmp_path)
    with pytest.raises(ConfigError, match=r"python -m datasets\.mtldesc"):
        read("mtldesc", root, teacher="segmentation")
    assert write_halves(root) == 2
    groups = np.ones((240, 320), np.uint8)
    cv2.imwrite(str(root / "halves/a_1_groups.png"), groups)
    views, _, _ = read("mtldesc", root, teacher="segmentation")
    assert views["a_1"].teacher.groups is not None
    assert views["a_0"].teacher.groups is None
    assert (cv2.imread(str(root / "halves/a_1.png"))[:, :, ::-1] == views["a_1"].image).all()
