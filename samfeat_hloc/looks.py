"""Keypoint logits of images that a network is shown mirrored and in other sizes, and their mean.

A detector that is asked about one photograph several times errs each time otherwise, and the mean of what it says is
the better detector: homographic adaptation with heat maps (DeTone et al., SuperPoint, CVPRW 2018), of few and exact
views. At inference ``looks`` of the extractor's conf averages the first of `LOOKS`; in training a student learns the
mean of all (``losses.detector=distilled``). docs/speed.md has what it is worth and what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


LOOKS = (Look(), Look(left_right=True), Look(upside_down=True), Look(scale=0.75), Look(scale=1.3))
"""In the order in which they are taken."""


def logits_through(network: Callable[[Tensor], Tensor], images: Tensor, look: Look) -> Tensor:
    """What a detector says of images through a look.

    Args:
        network: (B, 3, h, w) to (B, 1, h, w) logits.
        images: (B, 3, H, W) float32.
        look: how they are shown.

    Returns:
        (B, 1, H, W), at the pixels of the images as they were given.
    """
    axes = [axis for axis, mirrored in ((3, look.left_right), (2, look.upside_down)) if mirrored]
    height, width = images.shape[2:]
    sides = [max(LEAST_SIDE, STRIDE * round(side * look.scale / STRIDE)) for side in (height, width)]
    if look.scale == 1.0 or sides == [height, width]:
        return network(images.flip(axes)).flip(axes)
    shown = F.interpolate(images, sides, mode="bilinear", align_corners=False, antialias=look.scale < 1)
    logits = network(shown.flip(axes)).flip(axes)
    return F.interpolate(logits, (height, width), mode="bicubic", align_corners=False)


def mean_logits(each: Sequence[Tensor]) -> Tensor:
    """The logits of the mean probability of several looks, each (B, 1, H, W); exact near 0 and 1, too."""
    yes, no = F.logsigmoid(each[0]), F.logsigmoid(-each[0])
    for logits in each[1:]:
        yes, no = torch.logaddexp(yes, F.logsigmoid(logits)), torch.logaddexp(no, F.logsigmoid(-logits))
    return yes - no
