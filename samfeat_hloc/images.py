"""Photographs: finding them, reading them upright, and mapping keypoints back to the file's stored pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
ORIENTATION_TAG = 0x0112
SWAPPED = (5, 6, 7, 8)
"""EXIF orientations whose upright width is the stored height."""

RGBImage = npt.NDArray[np.uint8]


def list_images(image_dir: Path | str) -> list[str]:
    """Names of all photographs below `image_dir`, relative to it, sorted; hidden files and folders are left
    out.

    Raises:
        InputError: no such folder, no photograph in it, or a name that pair lists cannot hold.
    """
    root = Path(image_dir)
    if not root.is_dir():
        raise InputError(f"the image folder {root} does not exist; check the path")
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    if not names:
        raise InputError(f"{root} has no photograph ({', '.join(sorted(EXTENSIONS))}); check the folder")
    check_names(names, str(root))
    return names


def read_image(path: Path | str) -> tuple[RGBImage, int]:
    """Read a photograph and turn it upright.

    Returns:
        (H, W, 3) uint8 RGB, turned as its EXIF says; and the EXIF orientation, 1 to 8.

    Raises:
        InputError: no such file, no image, or a truncated one (decoders that fill the rest with grey hide that).
    """
    from PIL import Image

    path = Path(path)
    if not path.is_file():
        raise InputError(f"the image {path} does not exist; check the image folder and the name")
    try:
        with Image.open(path) as image:
            orientation = int(image.getexif().get(ORIENTATION_TAG, 1))
            pixels = np.asarray(image)
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or image.mode != "RGB":
                pixels = _to_rgb(image, pixels)
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged files
        raise InputError(f"{path} cannot be read as an image ({error}); replace the file") from None
    if not 1 <= orientation <= 8:
        orientation = 1
    return np.ascontiguousarray(_turn(pixels, orientation)), orientation


def _to_rgb(image: object, pixels: npt.NDArray[np.generic]) -> RGBImage:
    """Grey, palette, alpha, CMYK and 16-bit images as 8-bit RGB."""
    from PIL import Image

    if pixels.ndim == 2 and pixels.dtype in (np.uint16, np.int32):  # Pillow's own conversion clips these
        grey = np.clip(pixels.astype(np.int64) // 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if not isinstance(image, Image.Image):
        raise TypeError(type(image))
    return np.asarray(image.convert("RGB"))


def _turn(pixels: RGBImage, orientation: int) -> RGBImage:
    """Stored pixels to upright pixels, by EXIF orientation (Exif 2.3, tag 0x0112)."""
    if orientation in SWAPPED:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def stored_size(upright_size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height of the stored image from those of the upright one."""
    width, height = upright_size
    return (height, width) if orientation in SWAPPED else (width, height)


def to_stored_pixels(
    keypoints: npt.NDArray[np.float32], orientation: int, width: int, height: int
) -> npt.NDArray[np.float32]:
    """Map (N, 2) keypoints of the upright image to the stored image.

    Args:
        keypoints: x, y in the upright image; the centre of the top-left pixel is (0, 0), here and in the result.
        orientation: EXIF orientation, 1 to 8.
        width: of the stored image, in pixels.
        height: of the stored image, in pixels.
    """
    turned = keypoints.copy()
    upright_width, upright_height = (height, width) if orientation in SWAPPED else (width, height)
    if orientation in (2, 3, 6, 7):
        turned[:, 0] = upright_width - 1 - turned[:, 0]
    if orientation in (3, 4, 7, 8):
        turned[:, 1] = upright_height - 1 - turned[:, 1]
    return np.ascontiguousarray(turned[:, ::-1]) if orientation in SWAPPED else turned


def read_ahead(
    root: Path, names: Sequence[str], workers: int = 2, ahead: int = 4
) -> Iterator[tuple[str, RGBImage | None, int, str]]:
    """Read photographs in the order of `names`, some of them ahead in threads.

    Yields:
        name, (H, W, 3) uint8 RGB upright or None when unreadable, EXIF orientation, and why it is unreadable.
        Any error other than an unreadable image is raised here.
    """
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read") as pool:
        waiting: deque[tuple[str, Future[tuple[RGBImage, int]]]] = deque()
        rest = iter(names)
        try:
            while True:
                while len(waiting) < ahead and (name := next(rest, None)) is not None:
                    waiting.append((name, pool.submit(read_image, root / name)))
                if not waiting:
                    return
                name, future = waiting.popleft()
                try:
                    image, orientation = future.result()
                except InputError as error:
                    yield name, None, 1, str(error)
                else:
                    yield name, image, orientation, ""
        finally:
            for _, future in waiting:
                future.cancel()
