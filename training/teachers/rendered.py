"""A teacher for rendered images, which know exactly what each pixel shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.records import Image, TeacherRow
from training.teachers.labels import LONG_SIDE, Labels, at_cell_centres, cell_grid, label_edges, number_groups, read_map

CHANNELS = 256
RULE = 1
"""Goes up when the same masks give other rows."""


class RenderedTeacher:
    """Rows from `NAME.instances.png` beside `NAME.color.*` (or `NAME.*`): the object at each pixel, 0 the sky.

    groups: the objects, numbered 1, 2, ... in ascending order of their numbers in the file. The sky is a group like the
        others (1 where there is sky), so that everything is covered.
    edges: 255 at the pixels on both sides of a boundary between two objects, else 0.
    embedding: (256, h, w) with 64 cells along the long side, one coordinate per object: the cosine of two cells is 1 on
        one object and 0 on two, as the mask says nothing about how objects belong together. A cell stands for the pixel
        in its middle. Of more than 256 objects with a cell, the 255 with most pixels keep a coordinate of their
        own and all others share the last one; groups and edges keep them apart.
    """

    @property
    def signature(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"kind": "rendered", "rule": RULE, "channels": CHANNELS, "long_side": LONG_SIDE}

    def row(self, path: Path, image: Image) -> TeacherRow | None:
        """The row of a rendered image (H, W, 3); None when it has no mask.

        Raises:
            InputError: a damaged mask, or one of another size.
        """
        mask_path = path.with_name(f"{path.stem.removesuffix('.color')}.instances.png")
        if not mask_path.is_file():
            return None
        height, width = image.shape[:2]
        groups = number_groups(read_map(mask_path, width, height), mask_path)
        edges = np.where(label_edges(groups), np.uint8(255), np.uint8(0))
        return TeacherRow(embedding=instance_embedding(groups), groups=groups, edges=edges)


def instance_embedding(groups: Labels) -> npt.NDArray[np.float16]:
    """The embedding (256, h, w) of a label map (H, W) of groups 1, 2, ..."""
    centres = at_cell_centres(groups, *cell_grid(*groups.shape))
    pixels = np.bincount(groups.ravel())
    present = np.unique(centres)
    largest_first = present[np.argsort(-pixels[present], kind="stable")]
    channel = np.zeros(len(pixels), dtype=np.intp)
    channel[largest_first] = np.minimum(np.arange(len(present)), CHANNELS - 1)
    return (np.arange(CHANNELS)[:, None, None] == channel[centres]).astype(np.float16)
