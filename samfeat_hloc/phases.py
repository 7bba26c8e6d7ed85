"""Pixel phases: the grids of halves and quarters that the network's halving leaves out.

A 2x2 maximum lays one of four grids over the pixels, and what is found depends on which: an image moved by one pixel
gives other heat maps (Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019). Keypoint logits of a
half and of a quarter of the pixels are therefore computed on further grids, moved along the diagonal, and averaged at
full size, with the same weights. Descriptors, edges and the coarsest heat map are of the first grid alone.
docs/speed.md has what it is worth and what it costs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Phase(NamedTuple):
    """How the grids of the first and of the second halving are moved up and left, in cells of what they halve."""

    first: int
    second: int

    @property
    def pixels(self) -> int:
        """By how many pixels the grid of quarters is moved."""
        return self.first + 2 * self.second


PHASES = (Phase(0, 0), Phase(1, 0), Phase(0, 1), Phase(1, 1))
"""In the order in which they are taken; the first is the released network's."""
CHOICES = (1, 2, 4)
"""Numbers of phases that treat the grids alike."""


def halve(maps: Tensor, shift: int, above: bool = True) -> Tensor:
    """2x2 maxima of (B, C, h, w) on a grid moved up and left by `shift`, 0 or 1; cells at the border are cut.

    Nothing is left out: odd sides, too, are covered whole. Where nothing is `above`, rows are halved from the first on.
    """
    return F.max_pool2d(maps, 2, padding=(shift if above else 0, shift), ceil_mode=True)


def enlarge(heat: Tensor, factor: int, shift: int, size: tuple[int, int]) -> Tensor:
    """Bilinear values (B, 1, H, W) at the pixels of (B, 1, h, w) cells on a moved grid.

    Args:
        heat: one value a cell.
        factor: pixels along a cell's side.
        shift: pixels that the grid is moved up and left.
        size: (H, W).
    """
    heat = F.pad(heat, (0, 1, 0, 1), mode="replicate")  # the border is repeated as far as the pixels go
    pixels = F.interpolate(heat, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return pixels[:, :, shift : shift + size[0], shift : shift + size[1]]


def moved(edges: Tensor, phase: Phase, size: tuple[int, int]) -> Tensor:
    """Edges (B, 1, h, w) of the first grid of quarters at the (h', w') cells of another's, bilinear."""
    fraction = phase.pixels / 4
    edges = F.pad(edges, (1, 2, 1, 2), mode="replicate")
    rows = edges[:, :, 1 : 1 + size[0]] * (1 - fraction) + edges[:, :, : size[0]] * fraction
    return rows[..., 1 : 1 + size[1]] * (1 - fraction) + rows[..., : size[1]] * fraction
