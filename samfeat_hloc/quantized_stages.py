"""The network in 8 bits: `samfeat_hloc.inference_stages` with convolutions and the attention's inputs in bytes.

Ranges are one number a layer, known before any photograph (`samfeat_hloc.calibration`). Descriptors, the softmax of the
attention and all sums are in floating point; docs/speed.md has what is gained and lost.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.calibration import LAYERS, Ranges
from samfeat_hloc.inference_guidance import Guidance
from samfeat_hloc.inference_stages import Levels, Stages
from samfeat_hloc.model import EdgeAttention, SAMFeat, resize
from samfeat_hloc.quantized_ops import (
    QuantizedConvolution,
    QuantizedHead,
    Scale,
    halve_by_maximum,
    quantize_rows,
)

PIXELS = Scale(1 / 127.5, 128)
"""Of images in [-1, 1]: their own bytes. The zero is half a grey level off, which `SHIFT` makes good."""
SHIFT = 0.5 / 127.5


class QuantizedStages(Stages):
    """`Stages` in bytes, on a CPU; `dtype` is what remains in floating point."""

    def __init__(self, model: SAMFeat, dtype: torch.dtype, ranges: Ranges) -> None:
        super().__init__(model, dtype)
        scales = {name: Scale.up_to(ranges.layers[name]) for name in LAYERS}
        student = Scale.up_to(ranges.layers["dist_conv_feat"], signed=True)
        self.scales = scales

        def convolution(name: str, source: Scale, shift: float = 0.0) -> QuantizedConvolution:
            return QuantizedConvolution(getattr(model, name), source, scales[name], True, dtype, shift)

        layers = [convolution(LAYERS[0], PIXELS, SHIFT)]
        layers += [convolution(name, scales[before]) for before, name in pairwise(LAYERS)]
        self.conv1a, self.conv1b = layers[:2]  # type: ignore[assignment]
        self.middle = [layers[2:4], layers[4:6], layers[6:8]]  # type: ignore[list-item]
        into = QuantizedConvolution(model.dist_conv_feat, scales["conv4b"], student, False, dtype)
        back = QuantizedConvolution(model.dist_conv_fushion, student, None, False, dtype)
        self.student = [into, back]  # type: ignore[list-item]
        self.heads[0] = QuantizedHead(model.heatmap1, scales["conv1b"], model.fuse_weight_1.detach())
        self.heads[1] = QuantizedHead(model.heatmap2, scales["conv2b"], model.fuse_weight_2.detach())
        if self.architecture.attention not in ("off", "pixels"):
            self.guide = QuantizedGuidance(model.egde_module, dtype, ranges.features)

    def _levels(self, images: Tensor, quarter: tuple[int, int]) -> Levels:
        pixels = images.float().mul_(127.5).add_(128).to(torch.uint8)  # cut off, so that it is rounded
        return super()._levels(pixels, quarter)

    def _halve(self, maps: Tensor) -> Tensor:
        return halve_by_maximum(maps)

    def _halve_moved(self, maps: Tensor, shift: int, above: bool = True) -> Tensor:
        height, width = maps.shape[2:]
        top = shift if above else 0
        return halve_by_maximum(F.pad(maps, (shift, (width + shift) % 2, top, (height + top) % 2)))  # 0 is the least

    def _shrink(self, c1: Tensor) -> Tensor:
        height, width = c1.shape[2:]
        return self._resized(c1, "conv1b", (height // 4, width // 4))

    def _resized(self, maps: Tensor, layer: str, target: tuple[int, int]) -> Tensor:
        """Values at another size; of whole halves and quarters, from the bytes that make the mean."""
        height, width = maps.shape[2:]
        step = height // target[0]
        if step not in (2, 4) or (height, width) != (step * target[0], step * target[1]):
            return resize(self._values(maps, layer), target)
        first = step // 2 - 1
        four = [
            maps[:, :, row::step, column::step].float() for row in (first, first + 1) for column in (first, first + 1)
        ]
        return (four[0].add_(four[1]).add_(four[2]).add_(four[3]) * (self.scales[layer].scale / 4)).to(self.dtype)

    def _values(self, maps: Tensor, layer: str) -> Tensor:
        return self.scales[layer].values(maps, self.dtype)


class QuantizedGuidance(Guidance):
    """Edge attention guidance over rows, with queries, keys and values multiplied in bytes.

    Each channel of the input has its own range, which its weights take over. What scales a whole row of queries, keys
    or values is left until the scores and the result.

    Args:
        module: the layer.
        dtype: of the attention itself.
        ranges: (C,) of the weighted features.
    """

    def __init__(self, module: EdgeAttention, dtype: torch.dtype, ranges: Tensor) -> None:
        super().__init__(module, dtype)
        units = ranges / 127
        self.to_bytes = (1 / units).to(dtype)[:, None, None]
        layers = (module.query_conv, module.key_conv, module.value_conv)
        self.products = [quantize_rows(layer.weight.detach().float().flatten(1) * units) for layer in layers]

    def _weigh(self, features: Tensor, edges: Tensor) -> Tensor:
        return (features * edges).mul_(self.to_bytes).round_().clamp_(-127, 127).to(torch.int8)

    def _attend(self, weighted: Tensor, part: slice, scale: float) -> Tensor:
        batch = len(weighted)
        query, key, value = (self._times(rows[part], weighted) for rows, _ in self.products)
        of_query, of_key, of_value = (units[part].repeat(batch)[:, None, None] for _, units in self.products)
        query_bias, value_bias = (bias[part].repeat(batch, 1, 1) for bias in (self.query_bias, self.value_bias))
        bias = key.sum(dim=2, dtype=torch.float32)[:, None] * (query_bias / of_query)
        scores = torch.baddbmm(bias.to(self.dtype), query, key.transpose(1, 2))
        del query, key
        weights = torch.softmax(scores.mul_((of_query * of_key * scale).to(self.dtype)), dim=2)
        attended = torch.bmm(weights, value).mul_(of_value.to(self.dtype)).add_(value_bias)
        return attended.unflatten(0, (batch, -1))

    def _times(self, rows: Tensor, weighted: Tensor) -> Tensor:
        """Integer products (D, C), (B, C, h, w) -> (B * D, h, w)."""
        images = weighted.permute(0, 2, 3, 1).flatten(1, 2)
        planes = [torch._int_mm(rows, pixels.t()).to(self.dtype) for pixels in images]
        return (planes[0] if len(planes) == 1 else torch.cat(planes)).unflatten(1, weighted.shape[2:])
