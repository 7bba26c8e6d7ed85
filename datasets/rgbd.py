"""Folders of RGB-D frames, as the 7-Scenes and tsdf-fusion downloads have them.

    camera-intrinsics.txt      3x3: focal lengths and principal point of the colour images, in pixels
    NAME.color.EXT             the photograph (png, jpg or webp)
    NAME.depth.png             16-bit depth along the optical axis in mm, for the photograph's pixels; 0 and 65535: none
    NAME.pose.txt              4x4 world_from_cam in metres

The depth map may have another resolution than the photograph, of exactly its shape. Pixels: the centre of the top-left
pixel is (0, 0), in camera-intrinsics.txt too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError

COLOUR_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
INTRINSICS = "camera-intrinsics.txt"
NO_DEPTH = (0, 65535)
"""Depths in mm that stand for none; the second is 7-Scenes'."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """Paths of one frame; `name` is that of its photograph."""

    name: str
    colour: Path
    depth: Path
    pose: Path


def list_frames(folder: Path | str) -> list[Frame]:
    """Every frame of a folder, by name; its depth and pose may be missing on disk.

    Raises:
        InputError: no such folder, or no frame in it.
    """
    folder = Path(folder)
    found = [
        path
        for path in sorted(folder.glob("*.color.*"))
        if path.suffix.lower() in COLOUR_SUFFIXES and path.stem.endswith(".color")
    ]
    if not found:
        raise InputError(f"{folder} has no RGB-D frame; expected NAME.color.png, NAME.depth.png and NAME.pose.txt")
    frames = []
    for path in found:
        stem = path.stem.removesuffix(".color")
        frames.append(Frame(path.name, path, folder / f"{stem}.depth.png", folder / f"{stem}.pose.txt"))
    return frames


def read_intrinsics(folder: Path | str) -> Matrix:
    """(3, 3) intrinsics of the colour images.

    Raises:
        InputError: no such file, or no camera matrix in it.
    """
    path = Path(folder) / INTRINSICS
    matrix = _read_matrix(path, 3)
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or not np.allclose(matrix[2], [0, 0, 1]):
        raise InputError(f"{path} is no camera matrix; expected fx 0 cx, 0 fy cy, 0 0 1")
    return matrix


def read_pose(path: Path) -> Matrix:
    """(4, 4) world_from_cam in metres.

    Raises:
        InputError: no such file, numbers that are not finite, or no rigid transform.
    """
    matrix = _read_matrix(path, 4)
    rotation = matrix[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) and np.linalg.det(rotation) > 0
    if not rigid or not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise InputError(f"{path} is no rigid world_from_cam; expected a rotation, a translation in m, and 0 0 0 1")
    return matrix


def read_depth(path: Path, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(h, w) depth in metres, 0 for none.

    Args:
        path: 16-bit PNG.
        size: width and height of the photograph.

    Raises:
        InputError: no depth map, or one of another shape than the photograph.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            stored = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged files
        raise InputError(f"{path} cannot be read as a depth map ({error}); replace the file") from None
    if stored.ndim != 2 or stored.dtype not in (np.uint16, np.int32):
        raise InputError(f"{path} has {stored.dtype} values of shape {stored.shape}; expected 16-bit depth in mm")
    check_shape(path, (stored.shape[1], stored.shape[0]), size)
    depth: npt.NDArray[np.float32] = np.where(np.isin(stored, NO_DEPTH), 0, stored).astype(np.float32)
    return np.asarray(depth / 1000, np.float32)


class DepthSizeError(InputError):
    """A depth map of another shape than its photograph."""


def check_shape(path: Path, depth_size: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise DepthSizeError unless the depth map's width and height are in proportion to the photograph's."""
    if depth_size[0] * size[1] != depth_size[1] * size[0]:
        raise DepthSizeError(
            f"{path} is a depth map of another size: {depth_size[0]}x{depth_size[1]} for a photograph of "
            f"{size[0]}x{size[1]}; expected the same shape"
        )


def _read_matrix(path: Path, side: int) -> Matrix:
    try:
        matrix = np.array(path.read_text().split(), np.float64)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as {side}x{side} numbers ({error}); check the file") from None
    if matrix.shape != (side * side,) or not np.isfinite(matrix).all():
        raise InputError(f"{path} does not hold {side}x{side} finite numbers; check the file")
    return matrix.reshape(side, side)
