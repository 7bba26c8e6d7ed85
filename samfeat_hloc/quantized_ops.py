"""Operations on 8-bit maps, on CPUs that multiply them (AVX512-VNNI, AMX): four products where float32 has one.

Maps are uint8, channels last, with one scale and zero point each: value = (byte - zero) * scale. Weights are int8 with
a scale for each output channel. Sums are exact, in int32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samfeat_hloc.inference_ops import ThinHead

LEVELS, SIGNED_ZERO = 255, 128
MOST_PACKED = 8
"""Forms of a layer's weights that are kept, each for one size of its maps."""


@dataclass(frozen=True)
class Scale:
    """What the bytes of a map stand for."""

    scale: float
    zero: int = 0

    @classmethod
    def up_to(cls, largest: float, signed: bool = False) -> Scale:
        """For values in [0, largest], or [-largest, largest]."""
        return cls(2 * largest / LEVELS, SIGNED_ZERO) if signed else cls(largest / LEVELS)

    def values(self, maps: Tensor, dtype: torch.dtype) -> Tensor:
        """The values that a map of bytes stands for."""
        values = maps.to(torch.float32)
        if self.zero:
            values -= self.zero
        return (values * self.scale).to(dtype)


def cpu_multiplies_bytes() -> bool:
    """Whether this CPU, and this torch, have the products that 8-bit inference is for."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return supported is not None and bool(supported()) and hasattr(torch.ops.onednn, "qconv_pointwise")


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(D, ...) float -> int8 of the same shape, and the scale (D,) of each row."""
    scales = (weight.flatten(1).abs().amax(dim=1) / 127).clamp(min=1e-12)
    rows = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return rows.round().clamp(-127, 127).to(torch.int8), scales


class QuantizedConvolution:
    """A convolution of stride 1 of 8-bit maps, with a ReLU behind it or without.

    Args:
        layer: the convolution.
        source: what the bytes it gets stand for.
        target: what the bytes it gives stand for; None: it gives values of `dtype`.
        relu: whether negative results become 0.
        dtype: of the values.
        shift: added to all values it gets (not to the border's zeros).
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        source: Scale,
        target: Scale | None,
        relu: bool,
        dtype: torch.dtype,
        shift: float = 0.0,
    ) -> None:
        weight = layer.weight.detach().float()
        self.weight, self.scales = quantize_rows(weight)
        bias = layer.bias
        self.bias = torch.zeros(len(weight)) if bias is None else bias.detach().float()
        self.bias = self.bias + shift * weight.sum(dim=(1, 2, 3))
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.padding = [int(side) for side in layer.padding]
        self.source, self.target = source, target or Scale(1.0)
        self.dtype = dtype if target is None else torch.uint8
        self.relu = "relu" if relu else "none"
        self._packed: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, maps: Tensor, rows_padded: bool = True) -> Tensor:
        """(B, C, h, w) uint8 -> (B, D, h, w); without padding of rows there are two rows fewer of a 3x3 convolution."""
        padding = self.padding if rows_padded else [0, self.padding[1]]
        source = self.source
        result: Tensor = torch.ops.onednn.qconv_pointwise(
            maps, source.scale, source.zero, self._pack(maps, padding), self.scales, self.zeros, self.bias,
            [1, 1], padding, [1, 1], 1, self.target.scale, self.target.zero, self.dtype, self.relu, [], "",
        )  # fmt: skip
        return result

    def _pack(self, maps: Tensor, padding: list[int]) -> Tensor:
        key = (*maps.shape, *padding)
        packed = self._packed.get(key)
        if packed is None:
            packed = torch.ops.onednn.qconv_prepack(
                self.weight, self.scales, self.source.scale, self.source.zero,
                [1, 1], padding, [1, 1], 1, list(maps.shape),
            )  # fmt: skip
            kept = self._packed if len(self._packed) < MOST_PACKED else {}
            self._packed = {**kept, key: packed}  # another thread may be reading
        return packed


class QuantizedHead(ThinHead):
    """`ThinHead` on 8-bit maps: nine products a pixel in integers, shifted and added in float32.

    Args:
        layer: the convolution to one channel.
        source: what the bytes it gets stand for; its zero is 0.
        scale: a number that the result is multiplied by.
    """

    def __init__(self, layer: nn.Conv2d, source: Scale, scale: Tensor) -> None:
        super().__init__(layer, torch.float32, scale)
        self.unit = float(self.weight.abs().amax().clamp(min=1e-12)) / 127
        self.bytes = (self.weight / self.unit).round().to(torch.int8)
        self.unit *= source.scale
        self.offset = SIGNED_ZERO * self.bytes.int().sum(dim=1, keepdim=True, dtype=torch.int32)

    def taps(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) uint8, channels last -> (B, 9, h, w) float32."""
        pixels = signed(maps).permute(0, 2, 3, 1).flatten(1, 2)
        planes = [torch._int_mm(self.bytes, one.t()).add_(self.offset).float().mul_(self.unit) for one in pixels]
        return torch.stack(planes).unflatten(2, maps.shape[2:])


def signed(maps: Tensor) -> Tensor:
    """Bytes 0 .. 255 as int8 -128 .. 127: the integer products here take nothing else."""
    return maps.bitwise_xor(SIGNED_ZERO).view(torch.int8)


def halve_by_maximum(maps: Tensor) -> Tensor:
    """2x2 max-pooling of (B, C, h, w), channels last, a vector at a time; torch's own goes by pixel."""
    height, width = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
    rows = torch.maximum(maps[:, :, 0:height:2], maps[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])
