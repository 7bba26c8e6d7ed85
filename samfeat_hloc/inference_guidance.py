"""Edge attention guidance as inference runs it."""

from __future__ import annotations

import torch
from torch import Tensor

from samfeat_hloc.inference_ops import times_pixels
from samfeat_hloc.model import EdgeAttention

PART_BYTES = 8 * 2**20
"""Of queries, of keys and of values that attend at once on a CPU."""

LANES = 16
"""Rows of a matrix that a CPU multiplies together."""


class Guidance:
    """Edge attention guidance over rows, with matrix products in place of 1x1 convolutions.

    Rows attend in each channel by itself, so that a CPU takes the channels in parts, which need less memory at once.
    """

    def __init__(self, module: EdgeAttention, dtype: torch.dtype) -> None:
        self.module = module
        self.attention = module.attention
        self.dtype = dtype
        layers = (module.query_conv, module.key_conv, module.value_conv)
        self.weights = [layer.weight.detach().flatten(1).to(dtype) for layer in layers]
        self.query_bias, self.value_bias = (
            layer.bias.detach().to(dtype)[:, None, None]  # type: ignore[union-attr]
            for layer in (module.query_conv, module.value_conv)
        )

    def __call__(self, features: Tensor, edges: Tensor) -> Tensor:
        """(B, C, h, w), (B, 1, h, w) -> (B, C, h, w), channels last; the features given are overwritten."""
        if self.attention == "pixels":
            with torch.autocast(features.device.type, self.dtype, enabled=self.dtype != torch.float32):
                guided: Tensor = self.module(features * edges, features)
            return guided.to(self.dtype, memory_format=torch.channels_last)
        scale = EdgeAttention.RELEASED_SCALE if self.attention == "released" else 1.0 / features.shape[3]
        weighted = self._weigh(features, edges)
        for part in self._parts(features):
            attended = self._attend(weighted, part, scale)
            features[:, part].add_(attended.contiguous(memory_format=torch.channels_last))
        return features

    @staticmethod
    def _parts(features: Tensor) -> list[slice]:
        channels = features.shape[1]
        if features.device.type != "cpu":
            return [slice(0, channels)]
        count = -(-features.numel() * features.element_size() // PART_BYTES)
        step = -(-channels // (count * LANES)) * LANES
        return [slice(first, min(first + step, channels)) for first in range(0, channels, step)]

    def _weigh(self, features: Tensor, edges: Tensor) -> Tensor:
        return features * edges

    def _attend(self, weighted: Tensor, part: slice, scale: float) -> Tensor:
        """What some channels of the features get: (B, C, h, w) -> (B, D, h, w)."""
        batch, _, height, width = weighted.shape
        query, key, value = (times_pixels(weight[part], weighted).reshape(-1, height, width) for weight in self.weights)
        query_bias, value_bias = (bias[part].repeat(batch, 1, 1) for bias in (self.query_bias, self.value_bias))
        bias = key.sum(dim=2)[:, None] * (query_bias * scale)  # (B * D, 1, h); the rest is equal for all keys
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=scale)
        del query, key
        weights = torch.softmax(scores, dim=2)  # in float32 inside, whatever the dtype
        return torch.baddbmm(value_bias, weights, value).unflatten(0, (batch, -1))
