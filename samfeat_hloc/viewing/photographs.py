"""Small versions of photographs: thumbnails for people, and colours for points that have none."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import nearest_name
from samfeat_hloc.images import EXTENSIONS, ORIENTATION_TAG, _turn
from samfeat_hloc.progress import progress
from samfeat_hloc.viewing.scene import ColourArray, FloatArray, IntArray

SIDES = ((480, 82), (480, 68), (360, 68), (256, 62), (192, 55), (128, 50), (96, 40))
"""Long side in pixels and JPEG quality, tried in this order until a thumbnail is small enough."""
COLOUR_SIDE = 800
"""Long side that photographs are reduced to before colours are read from them."""


def photographs_of(image_dir: Path | str, names: tuple[str, ...]) -> dict[str, Path]:
    """Paths of the photographs that are there, by name.

    A name without a folder, as submissions to visuallocalization.net have them, also finds a photograph in a folder
    below, if it is the only one of its name.

    Raises:
        InputError: no such folder, or none of the photographs is in it.
    """
    root = Path(image_dir)
    found = {name: root / name for name in names if (root / name).is_file()}
    if len(found) == len(names):
        return found
    if not root.is_dir():
        raise InputError(f"the image folder {root} does not exist; check --images")
    # not `list_images`: models that other programs made may have names with spaces
    files = (path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    on_disk = sorted(path.relative_to(root).as_posix() for path in files)
    times = Counter(name.rpartition("/")[2] for name in on_disk)
    by_base = {name.rpartition("/")[2]: root / name for name in on_disk}
    found |= {name: by_base[name] for name in names if name not in found and times[name] == 1}
    if not found:
        near = nearest_name(names[0], set(on_disk)) or (on_disk[0] if on_disk else "no photograph at all")
        raise InputError(
            f"none of the model's {len(names)} photographs is in {root}, neither '{names[0]}'; there is {near}; "
            "give the folder that the names are relative to (--images)"
        )
    return found


def read_small(path: Path, long_side: int) -> tuple[ColourArray, int]:
    """Read a photograph at a reduced size.

    Returns:
        (H, W, 3) uint8 RGB of the stored pixels, not turned; EXIF orientation, 1 to 8.

    Raises:
        InputError: an unreadable file.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            orientation = int(image.getexif().get(ORIENTATION_TAG, 1))
            image.draft("RGB", (long_side, long_side))  # lets the JPEG decoder work at a fraction of the size
            if image.mode != "RGB":
                image = image.convert("RGB")  # type: ignore[assignment]
            scale = long_side / max(image.size)
            if scale < 1:
                width, height = (max(1, round(side * scale)) for side in image.size)
                image = image.resize((width, height), Image.Resampling.BILINEAR)  # type: ignore[assignment]
            return np.asarray(image), orientation if 1 <= orientation <= 8 else 1
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged files
        raise InputError(f"{path} cannot be read as an image ({error}); replace the file") from None


def thumbnail(path: Path, max_bytes: int) -> tuple[bytes, int]:
    """A JPEG of the upright photograph of at most `max_bytes`.

    Returns:
        the file's content, empty when the photograph is unreadable or does not get small enough; EXIF orientation of
        the photograph, which the thumbnail no longer needs.
    """
    from PIL import Image

    try:
        pixels, orientation = read_small(path, SIDES[0][0])
    except InputError:
        return b"", 1
    image = Image.fromarray(np.ascontiguousarray(_turn(pixels, orientation)))
    for side, quality in SIDES:
        scale = min(1.0, side / max(image.size))
        small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        content = io.BytesIO()
        small.save(content, "JPEG", quality=quality, optimize=True)
        if content.tell() <= max_bytes:
            return content.getvalue(), orientation
    return b"", orientation


def colours_from_photographs(
    count: int, observations: Mapping[str, tuple[IntArray, FloatArray]], photographs: Mapping[str, Path]
) -> ColourArray:
    """Mean colour of points in the photographs that show them.

    Args:
        count: number of points.
        observations: for each image (N,) indices of points, and where it shows them: (N, 2) as fractions of the
            width and height of the stored pixels.
        photographs: paths by name; others are left out.

    Returns:
        (count, 3) uint8; middle grey for points in no readable photograph.
    """
    total, seen = np.zeros((count, 3)), np.zeros(count)
    names = [name for name in observations if name in photographs]
    for name in progress(names, total=len(names), desc="colours", unit="image"):
        try:
            pixels, _ = read_small(photographs[name], COLOUR_SIDE)
        except InputError:
            continue
        indices, where = observations[name]
        height, width = pixels.shape[:2]
        columns = np.clip((where[:, 0] * width).astype(int), 0, width - 1)
        rows = np.clip((where[:, 1] * height).astype(int), 0, height - 1)
        np.add.at(total, indices, pixels[rows, columns].astype(np.float64))
        np.add.at(seen, indices, 1)
    mean = np.where(seen[:, None] > 0, total / np.maximum(seen, 1)[:, None], 128)
    return np.round(mean).astype(np.uint8)


def colours_by_height(xyz: FloatArray, up: npt.ArrayLike) -> ColourArray:
    """(P, 3) uint8: from blue over green and yellow to red with height, 2nd to 98th percentile."""
    if not len(xyz):
        return np.zeros((0, 3), np.uint8)
    height = xyz @ np.asarray(up, np.float64)
    low, high = np.percentile(height, [2, 98])
    t = np.clip((height - low) / max(high - low, 1e-12), 0, 1)
    stops = np.array([[70, 110, 220], [60, 180, 170], [150, 200, 90], [240, 200, 80], [230, 90, 70]], np.float64)
    at = np.linspace(0, 1, len(stops))
    return np.round(np.stack([np.interp(t, at, stops[:, k]) for k in range(3)], axis=1)).astype(np.uint8)
