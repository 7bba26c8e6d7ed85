"""Reading photographs: EXIF orientation both ways, damaged files, unusual pixel formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from samfeat_hloc.errors import InputError
from samfeat_hloc.images import list_images, read_ahead, read_image, stored_size, to_stored_pixels

WIDTH, HEIGHT = 7, 5


def save_turned(path: Path, pixels: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    """Upright as Pillow turns it, and every upright pixel maps back to the stored pixel of the same colour."""
    stored = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    path = tmp_path / "x.png"
    save_turned(path, stored, orientation)
    upright, found = read_image(path)
    assert found == orientation
    np.testing.assert_array_equal(upright, np.asarray(ImageOps.exif_transpose(Image.open(path))))
    assert stored_size((upright.shape[1], upright.shape[0]), orientation) == (WIDTH, HEIGHT)
    ys, xs = np.mgrid[: upright.shape[0], : upright.shape[1]]
    points = np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float32)
    back = to_stored_pixels(points, orientation, WIDTH, HEIGHT)
    assert back.dtype == np.float32
    x, y = back.astype(int).T
    np.testing.assert_array_equal(stored[y, x], upright.reshape(-1, 3))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_pixel_formats(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
    image, _ = read_image(path)
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    assert image.min() >= 254


def test_16_bit_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)).save(tmp_path / "x.png")
    image, _ = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image, np.full((4, 4, 3), 100, np.uint8))


def test_truncated_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match=r"x.jpg cannot be read as an image \(.*truncated"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(path)
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "none.jpg")


def test_list_images(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "a/1.png", ".hidden/3.jpg", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list_images(tmp_path) == ["a/1.png", "b/2.JPG"]
    (tmp_path / "a" / "with space.jpg").touch()
    with pytest.raises(InputError, match=r"'a/with space.jpg' has white space"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="has no photograph"):
        list_images(_empty(tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        list_images(tmp_path / "nowhere")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_read_ahead_keeps_order_and_surfaces_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"junk")
    rows = list(read_ahead(tmp_path, [f"{n}.png" for n in range(6)], workers=3, ahead=4))
    assert [row[0] for row in rows] == [f"{n}.png" for n in range(6)]
    assert [row[1] is None for row in rows] == [False, False, True, False, False, False]
    assert "cannot be read" in rows[2][3]

    def broken(path: Path) -> None:
        raise RuntimeError("a defect in a worker")

    monkeypatch.setattr("samfeat_hloc.images.read_image", broken)
    with pytest.raises(RuntimeError, match="a defect in a worker"):
        list(read_ahead(tmp_path, ["0.png"]))
