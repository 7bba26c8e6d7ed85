"""How large a network's activations get, for 8-bit inference: measured on a picture that is made here.

The picture is of dead leaves: opaque shapes of all sizes, one over the other. Its edges and corners have the statistics
of photographs (Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001), so that no data are needed and
weights have one range each, whatever is extracted with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.model import SAMFeat, resize

PICTURES, SIDE, LEAVES = 2, 256, 400
HEADROOM = 1.25
"""What is larger than so many times the picture's largest value is cut off."""
LEAST = 0.25
"""Least range of a channel of the joined features, as a part of the middle one: some channels are for what it lacks."""
LAYERS = ("conv1a", "conv1b", "conv2a", "conv2b", "conv3a", "conv3b", "conv4a", "conv4b")


@dataclass(frozen=True)
class Ranges:
    """Largest magnitudes expected.

    Attributes:
        layers: of what each convolution with a ReLU gives, and ``dist_conv_feat``.
        features: (384,) float32, of each channel of the joined features weighted by the edges, the attention's input.
    """

    layers: dict[str, float]
    features: Tensor


def dead_leaves(count: int = PICTURES, side: int = SIDE, leaves: int = LEAVES, seed: int = 0) -> Tensor:
    """(count, 3, side, side) RGB in [0, 1]: boxes and ellipses of random colours, their sizes by a power law."""
    draw = torch.Generator().manual_seed(seed)
    along = torch.arange(side, dtype=torch.float32)
    x, y = along[None], along[:, None]
    pictures = torch.rand(count, 3, 1, 1, generator=draw).repeat(1, 1, side, side)
    for picture in pictures:
        for _ in range(leaves):
            place, random = torch.rand(2, generator=draw) * side, torch.rand(3, generator=draw)
            radius = 3 / (0.02 + 0.98 * float(random[0])) ** 0.7
            angle, box = math.pi * float(random[1]), bool(random[2] < 0.6)
            stretch = math.exp(0.4 * float(torch.randn(1, generator=draw)))
            right, down = x - place[0], y - place[1]
            u = (right * math.cos(angle) + down * math.sin(angle)) * stretch
            v = (down * math.cos(angle) - right * math.sin(angle)) / stretch
            distance = torch.maximum(u.abs(), v.abs()) if box else torch.hypot(u, v)
            colour = torch.rand(3, 1, 1, generator=draw)
            picture.copy_(torch.where(distance < radius, colour, picture))
    return pictures


@torch.inference_mode()
def measure_ranges(model: SAMFeat, pictures: Tensor | None = None) -> Ranges:
    """The ranges of a network's activations on pictures (B, 3, H, W) in [0, 1]; those made here by default."""
    largest: dict[str, float] = {}

    def seen(name: str, maps: Tensor) -> Tensor:
        largest[name] = max(HEADROOM * float(maps.abs().amax()), 1e-6)
        return maps

    maps = (dead_leaves() if pictures is None else pictures).to(model.conv1a.weight.device) * 2 - 1
    scales = []
    for name in LAYERS:
        maps = seen(name, F.relu(getattr(model, name)(maps)))
        if name.endswith("b"):
            scales.append(maps)
            maps = F.max_pool2d(maps, 2)
    c1, c2, c3, c4 = scales
    c4 = c4 + model.dist_conv_fushion(seen("dist_conv_feat", model.dist_conv_feat(c4)))
    quarter = (c3.shape[2], c3.shape[3])
    features = torch.cat([resize(c1, quarter), resize(c2, quarter), c3, resize(c4, quarter)], dim=1)
    weighted = features * torch.sigmoid(model.conv_edg(features))
    channels = HEADROOM * weighted.abs().amax(dim=(0, 2, 3))
    return Ranges(largest, channels.clamp(min=max(LEAST * float(channels.median()), 1e-6)).cpu())
