"""Folders of photographs: what is found, what is counted, and what travels with a view when it is reduced."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from samfeat_hloc.errors import ConfigError, InputError
from training.records import SourceConfig, View
from training.sources import open_source
from training.sources.views import NO_ROW, Placement, reduce_image


def photo(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    return (128 + 300 * cv2.GaussianBlur(noise, (0, 0), 3)).clip(0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def read(folder: Path, **config: object) -> tuple[dict[str, View], dict[str, int]]:
    source = open_source(SourceConfig(kind="photos", path=str(folder), **config))  # type: ignore[arg-type]
    views = {view.name: view for view in source.views()}
    assert list(source.pairs()) == []
    return views, source.skipped


def test_photographs_are_found_in_every_folder_and_label_maps_are_not(tmp_path: Path) -> None:
    for index, name in enumerate(["a.png", "deep/er/b.WEBP", "deep/c.jpg"]):
        save(tmp_path / name, photo(index))
    for name in ("a_groups.png", "a_ucm.png", "a.depth.png", "a.instances.png", ".hidden.png", ".cache/d.png"):
        save(tmp_path / name, photo(9))
    (tmp_path / "notes.txt").write_text("no photograph")
    views, skipped = read(tmp_path)
    assert sorted(views) == ["a.png", "deep/c.jpg", "deep/er/b.WEBP"]
    assert (views["a.png"].image == photo(0)).all()
    assert skipped == {}


def test_corrupt_and_small_photographs_are_counted(tmp_path: Path) -> None:
    whole = save(tmp_path / "good.jpg", photo(0)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("hello")
    save(tmp_path / "small.png", photo(1, 90, 200))
    views, skipped = read(tmp_path)
    assert list(views) == ["good.jpg"]
    assert skipped == {"unreadable image": 2, "smaller than 96 px": 1}


def test_folders_without_a_usable_photograph_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} has no photograph"):
        read(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match=r"has no usable view \(1 unreadable image\)"):
        read(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        read(tmp_path / "absent")


def test_a_limit_takes_a_random_part_that_the_seed_decides(tmp_path: Path) -> None:
    for index in range(12):
        save(tmp_path / f"{index:02d}.png", photo(index))
    first = list(read(tmp_path, limit=4)[0])
    assert len(first) == 4
    assert first == sorted(first) == list(read(tmp_path, limit=4)[0])
    assert any(list(read(tmp_path, limit=4, seed=seed)[0]) != first for seed in range(4))
    assert len(read(tmp_path, limit=99)[0]) == 12


def test_bytes_are_kept_where_they_are_the_view(tmp_path: Path) -> None:
    exact = save(tmp_path / "exact.jpg", photo(0))
    save(tmp_path / "lossless.png", photo(0))
    save(tmp_path / "large.jpg", photo(0, 400, 600))
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / "turned.jpg", photo(0), exif=turned)
    views, _ = read(tmp_path, max_side=200)
    assert views["exact.jpg"].encoded == exact.read_bytes()  # type: ignore[attr-defined]
    assert [views[f"{name}"].encoded for name in ("lossless.png", "large.jpg", "turned.jpg")] == [None] * 3  # type: ignore[attr-defined]
    assert views["large.jpg"].image.shape == (133, 200, 3)
    assert views["turned.jpg"].image.shape == (160, 120, 3)


def test_reducing_moves_no_point() -> None:
    """A dot stays where Placement says it goes."""
    y, x = np.mgrid[:300, :400]
    blob = 255 * np.exp(-((x - 300) ** 2 + (y - 150) ** 2) / 50)
    image = np.repeat(blob.astype(np.uint8)[:, :, None], 3, axis=2)
    small = reduce_image(image, 200)
    rows, columns = np.nonzero(small[:, :, 0])
    weight = small[rows, columns, 0].astype(float)
    found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    assert np.allclose(Placement((400, 300), (200, 150)).to_view([[300, 150]])[0], found, atol=0.05)
    assert reduce_image(image, 400) is image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_turn_with_the_photograph(tmp_path: Path, orientation: int) -> None:
    image = np.zeros((100, 140, 3), np.uint8)
    image[20, 30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "dot.png", image, exif=exif)
    with h5py.File(tmp_path / "keypoints.h5", "w") as file:
        file.create_dataset("dot.png/keypoints", data=np.array([[30.0, 20.0]]))
    views, _ = read(tmp_path, keypoints=str(tmp_path / "keypoints.h5"))
    view = views["dot.png"]
    row, column = np.argwhere(view.image[:, :, 0])[0]
    assert view.keypoints is not None
    assert np.allclose(view.keypoints, [[column, row]])


def test_keypoints_are_reduced_with_the_photograph_and_must_be_there(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", photo(0, 200, 400))
    save(tmp_path / "in/b.png", photo(1))
    save(tmp_path / "in/none.png", photo(1))
    with h5py.File(tmp_path / "keypoints.h5", "w") as file:
        file.create_dataset("a.png/keypoints", data=np.array([[0.5, 0.5], [399.0, 199.0]]))
        file.create_dataset("none.png/keypoints", data=np.zeros((0, 2)))
    views, skipped = read(tmp_path / "in", keypoints=str(tmp_path / "keypoints.h5"), max_side=200)
    assert sorted(views) == ["a.png", "none.png"]
    assert skipped == {"no keypoints": 1}
    assert np.allclose(views["a.png"].keypoints, [[0, 0], [199.25, 99.25]])  # type: ignore[arg-type]
    assert views["none.png"].keypoints is not None and views["none.png"].keypoints.shape == (0, 2)
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "in", keypoints=str(tmp_path / "absent.h5"))


def test_teacher_rows_are_of_the_whole_photograph_and_another_images_are_counted(tmp_path: Path) -> None:
    groups = np.ones((240, 320), np.uint8)
    groups[:, 160:] = 2
    edges = np.zeros((240, 320), np.uint8)
    edges[:, 159] = 200
    for name in ("a", "wrong", "bare"):
        save(tmp_path / f"{name}.png", photo(0, 240, 320))
    for name, crop in (("a", 320), ("wrong", 300)):
        cv2.imwrite(str(tmp_path / f"{name}_groups.png"), groups[:, :crop])
        cv2.imwrite(str(tmp_path / f"{name}_ucm.png"), edges[:, :crop])
    views, skipped = read(tmp_path, teacher="segmentation", max_side=160)
    assert sorted(views) == ["a.png", "bare.png"]
    assert skipped == {"teacher row of another image": 1, NO_ROW: 1}
    row = views["a.png"].teacher
    assert views["a.png"].image.shape == (120, 160, 3)
    assert row.groups is not None and row.groups.shape == (240, 320)
    assert row.embedding is not None and row.edges is not None and row.edges[:, 159].max() == 200
    assert views["bare.png"].teacher.embedding is None
    with pytest.raises(ConfigError, match="there is no teacher"):
        read(tmp_path, teacher="nonesuch")
