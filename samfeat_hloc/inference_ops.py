"""The network's operations as inference uses them: weights converted once, ReLU within convolutions, cheap thin heads.

Each is the plain operation to rounding; tests/test_inference.py holds them equal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def onednn_fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's CPU build has oneDNN's convolution with a ReLU inside, which saves one pass over the output."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        operator = torch.ops.mkldnn._convolution_pointwise
        image = torch.zeros(1, 8, 3, 3, dtype=dtype)
        operator(image, image, None, [1, 1], [1, 1], [1, 1], 1, "relu", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


class Convolution:
    """A convolution of stride 1 in one dtype, with a ReLU behind it or without."""

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype, relu: bool, fused: bool) -> None:
        self.weight = layer.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        bias = layer.bias
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.padding = [int(side) for side in layer.padding]
        self.relu, self.fused = relu, fused

    def __call__(self, maps: Tensor, rows_padded: bool = True) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w); without padding of rows there are two rows fewer of a 3x3 convolution."""
        padding = self.padding if rows_padded else [0, self.padding[1]]
        if self.fused:
            result: Tensor = torch.ops.mkldnn._convolution_pointwise(
                maps, self.weight, self.bias, padding, [1, 1], [1, 1], 1, "relu" if self.relu else "none", [], ""
            )
            return result
        result = F.conv2d(maps, self.weight, self.bias, padding=padding)
        return result.relu_() if self.relu else result


class ThinHead:
    """A 3x3 convolution to one channel, as nine products per pixel that are shifted and added in float32.

    oneDNN computes at least 16 output channels, for one as for sixteen; the nine taps of the kernel as nine outputs of
    a 1x1 convolution waste less, need no neighbours, and so can be taken strip by strip.

    Args:
        layer: the convolution.
        dtype: of its products.
        scale: a number that the result is multiplied by.
        plain: convolve all the same, where that is the faster: on a GPU, or where a compiler would repeat the sums.
    """

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype, scale: Tensor, plain: bool = False) -> None:
        self.plain = plain
        weight = (layer.weight.detach() * scale).to(dtype)
        self.kernel = weight.contiguous(memory_format=torch.channels_last)
        self.weight = weight[0].permute(1, 2, 0).reshape(9, -1).contiguous()
        assert layer.bias is not None
        self.bias = layer.bias.detach() * scale

    def taps(self, maps: Tensor) -> Tensor:
        """(B, C, h, w), channels last -> (B, 9, h, w); (B, 1, h, w) when plain."""
        if self.plain:
            return F.conv2d(maps, self.kernel, padding=1)
        height, width = maps.shape[2:]
        return times_pixels(self.weight, maps).unflatten(2, (height, width))

    def assemble(self, taps: Tensor) -> Tensor:
        """What `taps` gave -> (B, 1, h, w) float32: what the convolution gives."""
        if self.plain:
            return taps.float() + self.bias[:, None, None]
        height, width = taps.shape[2:]
        result = taps[:, 4:5].float() + self.bias[:, None, None]
        for tap in (0, 1, 2, 3, 5, 6, 7, 8):
            down, right = tap // 3 - 1, tap % 3 - 1
            to_rows, to_columns = _overlap(height, -down), _overlap(width, -right)
            from_rows, from_columns = _overlap(height, down), _overlap(width, right)
            result[:, :, to_rows, to_columns] += taps[:, tap : tap + 1, from_rows, from_columns]
        return result

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, C, h, w), channels last -> (B, 1, h, w) float32."""
        return self.assemble(self.taps(maps))


def times_pixels(weight: Tensor, maps: Tensor) -> Tensor:
    """A 1x1 convolution of channels-last maps to planes: (D, C), (B, C, h, w) -> (B, D, h * w)."""
    pixels = maps.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
    if len(maps) == 1:  # two plain matrices multiply faster than a batch of one on a CPU
        return torch.mm(weight, pixels[0])[None]
    return torch.matmul(weight, pixels)


def _overlap(size: int, shift: int) -> slice:
    """The part of a side that is still inside after it moved by `shift`."""
    return slice(max(shift, 0), size + min(shift, 0))
