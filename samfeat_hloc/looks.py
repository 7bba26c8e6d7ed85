"""Images that a network is shown mirrored and in other sizes, and the mean of the keypoint logits it then gives.

A detector that is asked about one photograph several times errs each time otherwise, and the mean of what it says is
the better detector: homographic adaptation with heat maps (DeTone et al., SuperPoint, CVPRW 2018), of few and exact
views. So do descriptors, in other sizes alone: mirrored they are another place's. At inference ``looks`` of the
extractor's conf averages the first of `LOOKS`; in training a student learns the mean of all
(``losses.detector=distilled``, ``losses.imitation=labeller``). docs/speed.md has what it is worth and what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 8
"""Sides of a resized image are multiples of it."""
LEAST_SIDE = 32
"""Of a resized image."""


class Look(NamedTuple):
    """How an image is shown."""

    left_right: bool = False
    upside_down: bool = False
    scale: float = 1.0

    @property
    def mirrored(self) -> bool:
        """Whether left and right, or up and down, are exchanged."""
        return self.left_right or self.upside_down


LOOKS = (Look(), Look(left_right=True), Look(upside_down=True), Look(scale=0.75), Look(scale=1.3))
"""In the order in which they are taken."""


def show(images: Tensor, look: Look) -> Tensor:
    """Images (B, 3, H, W) float32 as they are shown through a look, (B, 3, h, w)."""
    height, width = sides = _sides(images.shape[2:], look)
    if sides != list(images.shape[2:]):
        antialias = look.scale < 1
        images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=antialias)
    return images.flip(_axes(look)) if look.mirrored else images


def as_given(logits: Tensor, look: Look, sides: Sequence[int]) -> Tensor:
    """What a detector says of the images that it was shown, (B, 1, h, w), at the pixels of those given.

    Args:
        logits: float32.
        look: how they were shown.
        sides: (H, W) of the images that were given.

    Returns:
        (B, 1, H, W).
    """
    logits = logits.flip(_axes(look)) if look.mirrored else logits
    if logits.shape[2:] == tuple(sides):
        return logits
    return F.interpolate(logits, tuple(sides), mode="bicubic", align_corners=False)


def _axes(look: Look) -> list[int]:
    return [axis for axis, mirrored in ((3, look.left_right), (2, look.upside_down)) if mirrored]


def _sides(sides: Sequence[int], look: Look) -> list[int]:
    if look.scale == 1.0:
        return list(sides)
    return [max(LEAST_SIDE, STRIDE * round(side * look.scale / STRIDE)) for side in sides]


def mean_logits(each: Sequence[Tensor]) -> Tensor:
    """The logits of the mean probability of several looks, each (B, 1, H, W); exact near 0 and 1, too."""
    yes, no = F.logsigmoid(each[0]), F.logsigmoid(-each[0])
    for logits in each[1:]:
        yes, no = torch.logaddexp(yes, F.logsigmoid(logits)), torch.logaddexp(no, F.logsigmoid(-logits))
    return yes - no
