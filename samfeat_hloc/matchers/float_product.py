"""Costs of two images' descriptors by products in bfloat16 or float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from samfeat_hloc.matchers.operands import Bounds, Floats64, Operand, rounding_margin, wide_blocks
from samfeat_hloc.matchers.scratch import scratch
from samfeat_hloc.matchers.tiles import padded, tile_height

FAR = 1e30  # cost of the padding
SPLIT = {torch.bfloat16: 2.0**-17, torch.float32: 2.0**-24}  # relative error of a number stored as two of this type
HALF_STEP = {torch.bfloat16: 2.0**-9 * 1.01, torch.float32: 2.0**-24 * 1.01}  # relative error of a rounded result


class FloatProduct:
    """Costs in bfloat16 or float32; the halves are further columns of both factors."""

    def __init__(self, first: Operand) -> None:
        self.first = first
        self._right = _with_halves("right", first)

    def bounds(self, other: Operand) -> tuple[Bounds, Bounds]:
        """Of each row, whatever the column; of each column, whatever the row."""
        return _float_bounds(other, self.first), _float_bounds(self.first, other)

    def tiles(self, other: Operand) -> Iterator[tuple[int, torch.Tensor]]:
        """First row and codes (rows, columns) of each tile."""
        rows = _with_halves("left", other, flipped=True)
        height = tile_height(len(self._right), rows.element_size())
        for start in range(0, len(rows), height):
            part = rows[start : start + height]
            out = scratch("tile", (len(part), len(self._right)), part.dtype)
            torch.mm(part, self._right.T, out=out)
            yield start, out.view(torch.int16) if out.dtype == torch.bfloat16 else out

    def values(self, codes: Any, other: Operand) -> Floats64:
        """The computed costs that codes stand for."""
        numbers = (codes.astype(np.int32) << 16).view(np.float32) if codes.dtype == np.int16 else codes
        values: Floats64 = numbers.astype(np.float64)
        return values

    def codes(self, values: Floats64, other: Operand) -> Any:
        """The largest codes that stand for at most these (non-negative) computed costs."""
        numbers = values.astype(np.float32)
        return (numbers.view(np.int32) >> 16).astype(np.int16) if self._right.dtype == torch.bfloat16 else numbers

    def near(self, least: Any, bound: Bounds, index: slice, other: Operand) -> Any:
        """The largest codes whose true cost may be below that of the least code, of the descriptors at `index`."""
        return self.codes(bound.largest(bound.high(self.values(least, other), index), index), other)


def _float_bounds(first: Operand, other: Operand) -> Bounds:
    longest = float(other.lengths.max()) + float(other.dropped.max())
    halves = first.halves + other.halves.max()
    lengths = first.lengths.astype(np.float64) + first.dropped
    adding = (first.dimension + 6) * 2.0**-23 * (lengths * longest + 1.01 * halves)
    return Bounds(rounding_margin(first, other) + adding + SPLIT[first.dtype] * halves, HALF_STEP[first.dtype], np.inf)


def _with_halves(role: str, operand: Operand, flipped: bool = False) -> torch.Tensor:
    """(N padded, D + 4) rounded descriptors, two ones, and the half as the sum of two numbers.

    Flipped rows of one image times the rows of another, transposed, are the costs. Made anew for every use, in
    `scratch`: that takes little of a pair's time, keeping it would double an image's memory.
    """
    count = len(operand)
    rows = scratch(role, (padded(count), operand.dimension + 4), operand.dtype)
    halves = torch.from_numpy(operand.halves)
    ones, parts = ((-2, None), (-4, -2)) if flipped else ((-4, -2), (-2, None))
    rows[count:] = 0
    for start, exact in wide_blocks(operand):
        rows[start : start + len(exact), :-4] = exact.neg_() if flipped else exact
    rows[:, slice(*ones)] = 1
    split = rows[:, slice(*parts)]
    split[:count, 0] = halves
    split[:count, 1] = halves - split[:count, 0]
    split[count:, 0], split[count:, 1] = FAR, 0
    return rows
