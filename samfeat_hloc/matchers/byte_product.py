"""Costs of two images' descriptors by products of bytes, on CPUs that multiply them (AVX512-VNNI, AMX)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from samfeat_hloc.matchers.operands import Bounds, Floats64, Operand, rounding_margin, wide_blocks
from samfeat_hloc.matchers.scratch import scratch
from samfeat_hloc.matchers.tiles import padded, tile_height
from samfeat_hloc.quantized_ops import SIGNED_ZERO, cpu_multiplies_bytes

LEVELS = 255
ZERO = torch.zeros(1, dtype=torch.int32)


class ByteProduct:
    """Costs up to the sum of both images' halves, in 255 steps; larger ones are the last. Halves are taken as equal."""

    def __init__(self, first: Operand) -> None:
        self.first = first
        self._packed = _pack(_bytes(first, -1, 0, torch.int8))
        self._scales = torch.tensor([first.step])
        self._half = float(first.halves.max())

    def _scale(self, other: Operand) -> tuple[float, float]:
        """The largest cost told from others, and what one step is worth."""
        largest = self._half + float(other.halves.max())
        return largest, largest / LEVELS

    def bounds(self, other: Operand) -> tuple[Bounds, Bounds]:
        """Of each row, whatever the column; of each column, whatever the row."""
        largest, unit = self._scale(other)
        uneven = float(np.ptp(self.first.halves) + np.ptp(other.halves))
        more = 0.5 * unit + uneven + 2.0**-20 * largest
        top = (LEVELS - 0.25) * unit
        rows, columns = rounding_margin(other, self.first), rounding_margin(self.first, other)
        return Bounds(rows + more, 0.0, top), Bounds(columns + more, 0.0, top)

    def tiles(self, other: Operand) -> Iterator[tuple[int, torch.Tensor]]:
        """First row and codes (rows, columns) of each tile."""
        rows = _bytes(other, 1, SIGNED_ZERO, torch.uint8)
        largest, unit = self._scale(other)
        summands = torch.full((self._packed.shape[1],), largest)
        height = tile_height(len(summands), 1)
        for start in range(0, len(rows), height):
            part = rows[start : start + height]
            out = scratch("tile", (len(part), len(summands)), torch.uint8)
            yield start, _multiply(part, other.step, self._packed, self._scales, summands, unit, out)

    def values(self, codes: Any, other: Operand) -> Floats64:
        """The computed costs that codes stand for."""
        values: Floats64 = codes * self._scale(other)[1]
        return values

    def codes(self, values: Floats64, other: Operand) -> Any:
        """The largest codes that stand for at most these computed costs."""
        return np.clip(np.floor(values / self._scale(other)[1] + 1e-9), 0, LEVELS).astype(np.uint8)

    def near(self, least: Any, bound: Bounds, index: slice, other: Operand) -> Any:
        """The largest codes whose true cost may be below that of the least code, of the descriptors at `index`."""
        steps = self.codes(2 * bound.margin[index], other)
        return np.where(least > LEVELS - steps, LEVELS, least + steps)


@cache
def bytes_are_right() -> bool:
    """Whether this torch multiplies bytes as needed: its operator is private, so it is tried."""
    if not cpu_multiplies_bytes():
        return False
    left = (torch.arange(64 * 128) % 255).to(torch.uint8).view(64, 128)
    right = (torch.arange(128 * 128) * 7 % 255 - 127).to(torch.int8).view(128, 128)
    true = (1000 + 2.0**-6 * (left.double() - SIGNED_ZERO) @ right.double().T).div(8).round().clamp(0, LEVELS)
    try:
        scales, summands, used = torch.tensor([2.0**-3]), torch.full((128,), 1000.0), true.flip(0).to(torch.uint8)
        found = _multiply(left, 2.0**-3, _pack(right), scales, summands, 8.0, used)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool((found.double() - true).abs().max() == 0)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def _multiply(
    rows: torch.Tensor,
    step: float,
    packed: torch.Tensor,
    scales: torch.Tensor,
    summands: torch.Tensor,
    unit: float,
    out: torch.Tensor,
) -> torch.Tensor:
    """(N0, N1) uint8: (summands + scaled products of signed and packed rows) / unit, rounded and clamped to a byte.

    It is written to `out`, to which the operator adds: here, to none of what was there. New memory for every tile
    would cost a tenth of the time in page faults.
    """
    result: torch.Tensor = torch.ops.onednn.qlinear_pointwise.binary(
        rows, step, SIGNED_ZERO, packed, scales, ZERO, out, summands, unit, 0, torch.uint8,
        0.0, 0, "sum", 1.0, "none", [], "",
    )  # fmt: skip
    return result


def _bytes(operand: Operand, sign: int, zero: int, dtype: torch.dtype) -> torch.Tensor:
    """(N padded, D) rounded descriptors times `sign`, plus `zero`, which the padding has."""
    rows = scratch("rows", (padded(len(operand)), operand.dimension), dtype)
    rows[len(operand) :] = zero
    for start, exact in wide_blocks(operand):
        rows[start : start + len(exact)] = exact.mul_(sign / operand.step).round_().add_(zero)
    return rows
