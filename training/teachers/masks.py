"""From a list of overlapping masks to one map of groups and one of edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from training.teachers.labels import MAX_GROUPS, label_edges

Mask = npt.NDArray[np.bool_]


def paint_masks(
    count: int, areas: Sequence[int], mask: Callable[[int], Mask], height: int, width: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Paint masks over each other and draw their outlines; one mask is in memory at a time.

    Groups: masks are painted from the largest area to the smallest, so that small ones lie on top; masks of one area in
    the order they come. A mask's number is its place in that order, from 1; 0 is what no mask covers. A mask that
    smaller ones cover whole has a number that no pixel has.

    Edges: 255 at the pixels on both sides of the outline of each mask, also where another mask is painted over it, so
    that an object's outline and those of its parts are all there; else 0. The image's border is no outline.

    Args:
        count: number of masks.
        areas: pixels of each.
        mask: gives the mask of a number 0 ... count - 1, (H, W) bool.
        height: H.
        width: W.

    Returns:
        groups (H, W) int16 and edges (H, W) uint8.

    Raises:
        InputError: more masks than int16 has numbers.
    """
    if count > MAX_GROUPS:
        raise InputError(f"an image has {count} masks; expected at most {MAX_GROUPS}; lower --points-per-side")
    groups = np.zeros((height, width), dtype=np.int16)
    edges = np.zeros((height, width), dtype=np.uint8)
    for place, index in enumerate(sorted(range(count), key=lambda i: -areas[i]), start=1):
        covered = mask(index)
        groups[covered] = place
        edges[label_edges(covered)] = 255
    return groups, edges
