"""The network's parts with their weights in one dtype, on one device, as `samfeat_hloc.inference` runs them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samfeat_hloc.inference_guidance import Guidance
from samfeat_hloc.inference_ops import Convolution, ThinHead, onednn_fuses
from samfeat_hloc.model import SAMFeat, resize
from samfeat_hloc.phases import PHASES, Phase, enlarge, halve, moved
from samfeat_hloc.sampling import bilinear_taps

STRIP_PIXELS = 20_480
"""Pixels of the full-resolution strips: 64 channels of them in bfloat16 are 2.5 MiB."""


class InferenceMaps(NamedTuple):
    """What is computed of (B, 3, H, W) images before any keypoint is known."""

    logits: Tensor  # (B, 1, H, W) float32 keypoint logits
    edges: Tensor  # (B, 1, H/4, W/4) float32 in [0, 1]
    attention: Tensor  # (B, 1, H/4, W/4) float32 > 0
    features: Tensor  # (B, 384, H/4, W/4) channels last, what descriptors are made of


class Levels(NamedTuple):
    """What the convolutions give; h and w are H/4 and W/4."""

    taps: Tensor  # `ThinHead.taps` of the finest heat map
    half: Tensor  # (B, 1, H, W) float32, the second heat map, the mean of its phases
    c1: Tensor  # (B, 64, h, w)
    c2: Tensor  # (B, 64, h, w)
    c3: Tensor  # (B, 128, h, w)
    c4: Tensor  # (B, 128, H/8, W/8)
    others: list[tuple[Phase, Tensor]]  # (B, 128, h or h + 1, w or w + 1), c3 of the other phases


class Stages:
    """The network's parts with their weights in one dtype, on one device."""

    def __init__(self, model: SAMFeat, dtype: torch.dtype, plain: bool = False) -> None:
        self.architecture = model.architecture
        self.dtype = dtype
        device = model.conv1a.weight.device
        self.plain = plain or device.type != "cpu"
        self.phases = PHASES[1 : model.architecture.phases]
        fused = not self.plain and onednn_fuses(device, dtype)

        def convolution(layer: nn.Conv2d, relu: bool = True) -> Convolution:
            return Convolution(layer, dtype, relu, fused)

        self.conv1a, self.conv1b = convolution(model.conv1a), convolution(model.conv1b)
        self.middle = [
            [convolution(model.conv2a), convolution(model.conv2b)],
            [convolution(model.conv3a), convolution(model.conv3b)],
            [convolution(model.conv4a), convolution(model.conv4b)],
        ]
        self.student = [convolution(model.dist_conv_feat, False), convolution(model.dist_conv_fushion, False)]
        heads = (model.heatmap1, model.heatmap2, model.heatmap3, model.heatmap4)
        fuse = (model.fuse_weight_1, model.fuse_weight_2, model.fuse_weight_3, model.fuse_weight_4)
        self.heads = [
            ThinHead(head, dtype, weight.detach(), self.plain) for head, weight in zip(heads, fuse, strict=True)
        ]
        self.edge = convolution(model.conv_edg, False)
        self.guide = Guidance(model.egde_module, dtype)
        self.conv_des = convolution(model.conv_des, False)
        weight = model.conv_des.weight.detach().to(dtype)
        self.described = weight.permute(0, 2, 3, 1).reshape(len(weight), -1).t().contiguous()
        self.scalemap = (model.scalemap.weight.detach(), model.scalemap.bias.detach())  # type: ignore[union-attr]

    def run(self, images: Tensor) -> InferenceMaps:
        """See `InferenceNetwork.forward`."""
        logits, edges, features = self._detect(images)
        if self.architecture.attention != "off":
            features = self.guide(features, edges.to(self.dtype))
        mean = features.mean(dim=1, keepdim=True, dtype=torch.float32)
        attention = F.softplus(F.conv2d(mean, *self.scalemap, padding=1))
        return InferenceMaps(logits, edges, attention, features)

    def keypoint_logits(self, images: Tensor) -> Tensor:
        """See `InferenceNetwork.keypoint_logits`."""
        return self._detect(images)[0]

    def _detect(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits, the edges, and the features before they attend; the layers' memory is given back."""
        height, width = images.shape[2:]
        quarter = (height // 2 // 2, width // 2 // 2)
        taps, half, c1, c2, c3, c4, others = self._levels(images, quarter)
        features = torch.cat([c1, c2, c3, resize(c4, quarter)], dim=1)
        edges = torch.sigmoid(self.edge(features).float())
        logits = self.heads[0].assemble(taps)
        logits += half
        third = resize(self.heads[2](self._weigh(c3, edges)), (height, width))
        for phase, maps in others:
            heat = self.heads[2](self._weigh(maps, moved(edges, phase, (maps.shape[2], maps.shape[3]))))
            third += enlarge(heat, 4, phase.pixels, (height, width))
        logits += third / (1 + len(others)) if others else third
        logits += resize(self.heads[3](c4), (height, width))
        return logits, edges, features

    def _weigh(self, maps: Tensor, edges: Tensor) -> Tensor:
        return maps if self.architecture.attention == "off" else maps * edges.to(self.dtype) + maps

    def _levels(self, images: Tensor, quarter: tuple[int, int]) -> Levels:
        size = (images.shape[2], images.shape[3])
        taps, c1, *pooled = self._full_resolution(images)
        c2 = self._block(0, pooled.pop(0))
        c3 = self._block(1, self._halve(c2))
        half = resize(self.heads[1](c2), size)
        others = self._others(c2, 0)
        c2 = self._resized(c2, "conv2b", quarter)
        if pooled:
            moved_c2 = self._block(0, pooled.pop(0))
            half = (half + enlarge(self.heads[1](moved_c2), 2, 1, size)) / 2
            others += self._others(moved_c2, 1)
            del moved_c2
        c4 = self._block(2, self._halve(c3))
        top = self._values(c4, "conv4b") + self.student[1](self.student[0](c4))
        return Levels(taps, half, c1, c2, self._values(c3, "conv3b"), top, others)

    def _others(self, c2: Tensor, first: int) -> list[tuple[Phase, Tensor]]:
        """c3 of the phases, but for the first of all, that begin with this grid of halves."""
        phases = [phase for phase in self.phases if phase.first == first]
        maps = (self._block(1, self._halve_moved(c2, phase.second)) for phase in phases)
        return [(phase, self._values(c3, "conv3b")) for phase, c3 in zip(phases, maps, strict=True)]

    def _block(self, index: int, maps: Tensor) -> Tensor:
        first, second = self.middle[index]
        return second(first(maps))

    def _values(self, maps: Tensor, layer: str) -> Tensor:
        """What maps of a layer stand for: themselves here."""
        return maps

    def _resized(self, maps: Tensor, layer: str, target: tuple[int, int]) -> Tensor:
        """The same at another size."""
        return resize(maps, target)

    def _full_resolution(self, images: Tensor) -> tuple[Tensor, ...]:
        """The first two layers: what the heat map, the next layers and the descriptor take of them.

        Returns:
            `ThinHead.taps` of the finest heat map (B, _, H, W), (B, 64, H/4, W/4) resized, (B, 64, H/2, W/2) halved,
            and with more phases than one the same on the moved grid, a row and a column larger.
        """
        batch, _, height, width = images.shape
        rows = max(4, STRIP_PIXELS // (batch * width) // 4 * 4)
        if self.plain or height % 4 or width % 4:
            rows = height
        parts = [self._strip(images, top, min(top + rows, height)) for top in range(0, height, rows)]
        if len(parts) == 1:
            return parts[0]
        strips = [list(part) for part in zip(*parts, strict=True)]
        del parts  # each is given back once it is joined
        return tuple(torch.cat(strips.pop(0), dim=2) for _ in range(len(strips)))

    def _strip(self, images: Tensor, top: int, bottom: int) -> tuple[Tensor, ...]:
        height = images.shape[2]
        before = int(bool(self.phases) and top > 0)  # the moved grid's first cells begin a row higher
        first = top - before
        start, end = max(first - 2, 0), min(bottom + 2, height)  # a 3x3 layer takes one more row at either side
        hidden = self.conv1a(images[:, :, start:end])
        hidden = hidden[:, :, max(first - 1, 0) - start : min(bottom + 1, height) - start]
        if first == 0 or bottom == height:
            hidden = F.pad(hidden, (0, 0, int(first == 0), int(bottom == height)))
        c1 = self.conv1b(hidden, rows_padded=False)
        strip = c1[:, :, before:]
        results = self.heads[0].taps(strip), self._shrink(strip), self._halve(strip)
        if not self.phases:
            return results
        halved = self._halve_moved(c1, 1, above=first == 0)
        return *results, halved if bottom == height else halved[:, :, : (bottom - top) // 2]

    def _halve(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, 2)

    def _halve_moved(self, maps: Tensor, shift: int, above: bool = True) -> Tensor:
        return halve(maps, shift, above)

    def _shrink(self, c1: Tensor) -> Tensor:
        height, width = c1.shape[2:]
        if height % 4 or width % 4:
            return resize(c1, (height // 4, width // 4))
        pairs = c1[:, :, 1::4] + c1[:, :, 2::4]  # the mean of the middle 2x2 pixels
        return (pairs[..., 1::4] + pairs[..., 2::4]) * 0.25

    def describe_everywhere(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> descriptors (B, D, h, w)."""
        return self.conv_des(features)

    def describe_at(self, features: Tensor, positions: Tensor) -> Tensor:
        """(1, C, h, w), (N, 2) cell positions -> (N, D) float32: what `describe_everywhere` has there."""
        height, width = features.shape[2:]
        corner = positions.floor()
        fractions = positions - corner
        around = torch.arange(-1, 3, device=positions.device)
        columns, rows = (corner.long()[:, i, None] + around for i in (0, 1))  # (N, 4)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
        cells = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
        flat = features[0].permute(1, 2, 0).reshape(height * width, -1)
        patches = flat.index_select(0, cells.flatten()).unflatten(0, (len(positions), 16))
        along_x, along_y = bilinear_taps(fractions[:, 0], 3), bilinear_taps(fractions[:, 1], 3)
        weights = along_y[:, :, None, :, None] * along_x[:, None, :, None, :] * inside[:, None, None]
        read = torch.bmm(weights.reshape(-1, 9, 16).to(self.dtype), patches)
        return torch.addmm(self.conv_des.bias, read.flatten(1), self.described).float()  # type: ignore[arg-type]
