"""Label maps that lie beside a photograph, and what every teacher does with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError

MAP_SUFFIXES = ("_groups.png", "_ucm.png", ".instances.png", ".depth.png")
"""Files with these endings belong to a photograph and are none."""
MAX_GROUPS = int(np.iinfo(np.int16).max)
LONG_SIDE = 64
"""Cells along the long side of a teacher's embedding, as SAM has them."""

Labels = npt.NDArray[np.integer[Any]]


def is_photograph(name: str) -> bool:
    """Whether an image file is a photograph, and not a map that belongs to one."""
    return not name.endswith(MAP_SUFFIXES)


def read_map(path: Path, width: int, height: int) -> Labels:
    """Read a map of one number per pixel, of a photograph of (width, height) pixels.

    Returns:
        (height, width) integers as they are in the file; a palette file gives its indices.

    Raises:
        InputError: the file is damaged, has several channels, or another size than the photograph.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged files
        raise InputError(f"{path} cannot be read as an image ({error}); write the map again or remove it") from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        shape = "x".join(map(str, values.shape))
        raise InputError(f"{path} is a {shape} array of {values.dtype}; expected one integer per pixel; write it again")
    if values.shape != (height, width):
        raise InputError(
            f"{path} has {values.shape[1]}x{values.shape[0]} pixels and its photograph {width}x{height}; expected the "
            "same size; give the photograph at its full size, write the map again, or remove it"
        )
    return values


def number_groups(labels: Labels, source: Path) -> npt.NDArray[np.int16]:
    """Groups 1, 2, ... in the order of the labels' values, so that no label means "uncovered".

    Args:
        labels: (H, W) integers.
        source: the map's file, for messages.

    Raises:
        InputError: more labels than int16 has.
    """
    values, groups = np.unique(labels, return_inverse=True)
    if len(values) > MAX_GROUPS:
        raise InputError(f"{source} has {len(values)} labels; expected at most {MAX_GROUPS}; is it a label map?")
    return (groups.reshape(labels.shape) + 1).astype(np.int16)


def label_edges(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """The pixels of which one of the four neighbours in the image has another label.

    Both sides of a boundary count, so that the line's middle is where the labels change. The image's border is none.

    Args:
        labels: (H, W), integers or a mask.
    """
    edges = np.zeros(labels.shape, dtype=bool)
    across = labels[:, 1:] != labels[:, :-1]
    down = labels[1:] != labels[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def cell_grid(height: int, width: int, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Rows and columns of a grid of nearly square cells over an image, `long_side` of them along its long side."""
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def at_cell_centres(values: Labels, rows: int, columns: int) -> Labels:
    """The values (H, W) at the pixel in the middle of each cell, (rows, columns)."""
    height, width = values.shape
    y = ((np.arange(rows) + 0.5) * height / rows).astype(np.intp)
    x = ((np.arange(columns) + 0.5) * width / columns).astype(np.intp)
    return values[y[:, None], x[None, :]]
