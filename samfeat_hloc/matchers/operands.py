"""All costs of two images' descriptors as one matrix product in a fast number format, with proven bounds.

The *cost* of two descriptors is half their squared distance, |a|^2/2 + |b|^2/2 - a.b, or, where the largest dot
product is wanted, a constant less a.b; it is never negative. `multiply` makes two factors whose product has all costs.

Where the CPU multiplies 8-bit integers in hardware (VNNI), each image's descriptors are rounded to 255 steps. It takes
half the time of bfloat16 and a quarter of float32 (measured, 4096 x 4096 x 128 on one core of an EPYC 9004: 12, 24 and
48 ms), and each cost is known up to `Bounds`: what rounding the descriptors and the result can have changed. On other
CPUs the product is in float32 and the bounds are its rounding's. (faiss's flat index needs 53 ms there for the rows'
nearest alone.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers.scratch import own_pages, scratch

Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]

MULTIPLE = 64  # rows are padded to it: the product is compiled once a shape, so few shapes are wanted
BLOCK_ROWS = 1024
MOST = 127  # largest 8-bit integer used
MAX_DIGITS = 64  # columns of integers that halves may take; images that need more are multiplied in float32
HALF_STEP = {torch.int8: 2.0**-9 * 1.01, torch.float32: 2.0**-24 * 1.01}  # of a result, rounded to bfloat16 or float32


@cache
def fast_format() -> torch.dtype:
    """int8 where torch and the CPU multiply it fast and right, else float32. The operator is private: it is tried."""
    try:
        if not torch.cpu._is_vnni_supported():
            return torch.float32
        factor = (torch.arange(MULTIPLE * MULTIPLE) % 255 - MOST).to(torch.int8).view(MULTIPLE, MULTIPLE)
        wide = torch.empty((MULTIPLE, MULTIPLE), dtype=torch.int32)
        torch._int_mm(factor, factor.T, out=wide)
        return torch.int8 if torch.equal(wide.double(), factor.double() @ factor.double().T) else torch.float32
    except (AttributeError, RuntimeError, TypeError):
        return torch.float32


@dataclass(frozen=True)
class Operand:
    """One image's descriptors, for the product and for exact costs.

    Attributes:
        descriptors: (N, D) float16 where that holds them exactly, as files do; else float32.
        halves: (N,) half the squared length; where dot products are compared, of the longest.
        lengths: (N,) length of each descriptor.
        dropped: (N,) length of what its rounded version lacks.
        dtype: of the product, int8 or float32.
        step: what one unit of the rounded version is worth.
    """

    descriptors: npt.NDArray[np.floating[Any]]
    halves: Floats64
    lengths: Floats64
    dropped: Floats64
    dtype: torch.dtype
    step: float

    def __len__(self) -> int:
        return len(self.descriptors)

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return int(self.descriptors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.descriptors.nbytes + self.halves.nbytes + self.lengths.nbytes + self.dropped.nbytes)


def make_operand(descriptors: Floats32, metric: str, dtype: torch.dtype) -> Operand:
    """Measure an image's (N, D) descriptors and what rounding them to `dtype` loses."""
    squared, dropped = np.empty(len(descriptors)), np.zeros(len(descriptors))
    largest = max(float(descriptors.max(initial=0)), -float(descriptors.min(initial=0)))
    step = max(largest, 1e-30) / MOST if dtype == torch.int8 else 1.0
    small = True
    for start in range(0, len(descriptors), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        exact = torch.from_numpy(descriptors[part])
        back = scratch("back", exact.shape, torch.float32)
        small = small and torch.equal(back.copy_(scratch("half", exact.shape, torch.float16).copy_(exact)), exact)
        np.einsum("ij,ij->i", descriptors[part], descriptors[part], dtype=np.float64, out=squared[part])
        if dtype == torch.int8:
            torch.mul(exact, 1 / step, out=back).round_().mul_(step)
            lost = torch.sub(exact, back, out=back).numpy()
            np.einsum("ij,ij->i", lost, lost, dtype=np.float64, out=dropped[part])
    held = own_pages(descriptors.shape, np.float16 if small else np.float32)
    held[...] = descriptors
    halves = np.full_like(squared, 0.5 * squared.max(initial=0)) if metric == "dot" else 0.5 * squared
    return Operand(held, halves, np.sqrt(squared), np.sqrt(dropped), dtype, step)


@dataclass(frozen=True)
class Bounds:
    """What the values of a product say about true costs: those are `unit` * value - `offset`, give or take.

    Attributes:
        margin: (N,) by how far they can be off in each row, whatever the column; besides
        step: relative error of a value, from rounding it.
        unit, offset: see above.
    """

    margin: Floats64
    step: float
    unit: float
    offset: float

    def low(self, values: Floats64, rows: Ints | slice = slice(None)) -> Floats64:
        """Lowest true costs of values."""
        return np.maximum(values * ((1 - self.step) * self.unit) - (self.offset + self.margin[rows]), 0)

    def high(self, values: Floats64, rows: Ints | slice = slice(None)) -> Floats64:
        """Highest true costs of values."""
        return np.maximum(np.maximum(values, 0) * ((1 + self.step) * self.unit) + (self.margin[rows] - self.offset), 0)

    def largest(self, costs: Floats64) -> Floats32:
        """(N,) largest value of each row whose true cost may be at most the given one."""
        return ((costs + self.offset + self.margin) / (self.unit * (1 - self.step)) * (1 + 1e-6)).astype(np.float32)

    def limits(self) -> tuple[float, Floats32]:
        """Factor and (N,) summand of the largest value whose true cost may be below that of a value."""
        factor = (1 + self.step) / (1 - self.step) * (1 + 1e-6)
        return factor, (2 * self.margin / (self.unit * (1 - self.step)) * (1 + 1e-6)).astype(np.float32)


@dataclass(frozen=True)
class Product:
    """Two images' factors and what their product is worth.

    Attributes:
        left, right: (N padded, K) of the first and of the other image; `left @ right.T` has all values.
        bounds0, bounds1: of the rows and of the columns of that.
    """

    left: torch.Tensor
    right: torch.Tensor
    bounds0: Bounds
    bounds1: Bounds


def multiply(first: Operand, other: Operand) -> Product:
    """Factors of two images, in `scratch`.

    They are made anew for every pair: that takes 2 % of its time, keeping them would double an image's memory. Each has
    the descriptors, its halves as a few numbers, and the numbers that the other's halves are multiplied with.
    """
    unit = first.step * other.step
    margin0, margin1 = _margin(first, other), _margin(other, first)
    offset = 0.0
    digits0: npt.NDArray[Any]
    digits1: npt.NDArray[Any]
    weights0: npt.NDArray[Any]
    weights1: npt.NDArray[Any]
    if first.dtype == torch.int8:  # no value may be negative, see `candidates.py`
        offset = 2 * unit + min(margin0.max(), margin1.max())
        digits0, weights0 = _digits((first.halves + offset) / unit)
        digits1, weights1 = _digits(other.halves / unit)
        if digits0.shape[1] + digits1.shape[1] > MAX_DIGITS:
            return multiply(_in_float32(first), _in_float32(other))
    else:
        (digits0, weights0), (digits1, weights1) = _summands(first.halves), _summands(other.halves)
    left = _factor("left", first, -1, [digits0, np.broadcast_to(weights1, (len(first), len(weights1)))])
    right = _factor("right", other, 1, [np.broadcast_to(weights0, (len(other), len(weights0))), digits1])
    step = HALF_STEP[first.dtype]
    return Product(left, right, Bounds(margin0, step, unit, offset), Bounds(margin1, step, unit, offset))


def _margin(first: Operand, other: Operand) -> Floats64:
    """(N,) by how far the rows' values can be off, before they are rounded; by Cauchy and Schwarz."""
    longest, most = other.lengths.max(), other.dropped.max()
    rounding = first.dropped * (longest + most) + first.lengths * most
    halves = first.halves + other.halves.max()
    adding = (first.dimension + 6) * 2.0**-23 * ((first.lengths + first.dropped) * (longest + most) + 1.01 * halves)
    whole = 1.01 * first.step * other.step if first.dtype == torch.int8 else 0.0
    margin: Floats64 = rounding + adding + 2.0**-24 * halves + whole
    return margin


def _digits(values: Floats64) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """(N, C) integers whose sum, each with its (C,) weight, is the non-negative value rounded; C even."""
    whole = np.rint(values).astype(np.int64)
    coarse = (whole + MOST // 2) // MOST
    columns = -(-int(coarse.max(initial=0)) // MOST)
    columns += 1 - columns % 2
    if columns > MAX_DIGITS:
        return np.empty((0, columns), np.int8), np.empty(columns, np.int8)
    digits = np.empty((len(values), columns + 1), np.int8)
    digits[:, -1] = whole - coarse * MOST
    for column in range(columns):
        digits[:, column] = taken = np.minimum(coarse, MOST)
        coarse = coarse - taken
    return digits, np.array([MOST] * columns + [1], np.int8)


def _summands(values: Floats64) -> tuple[Floats32, Floats32]:
    """(N, 2) numbers whose sum is the value, and their weights."""
    first = values.astype(np.float32)
    return np.stack([first, (values - first).astype(np.float32)], axis=1), np.ones(2, np.float32)


def _in_float32(operand: Operand) -> Operand:
    return replace(operand, dtype=torch.float32, dropped=np.zeros_like(operand.dropped), step=1.0)


def _factor(role: str, operand: Operand, sign: int, more: list[npt.NDArray[Any]]) -> torch.Tensor:
    """(N padded, K) rounded descriptors times `sign`, then the further columns; zeros in the padding."""
    count, size = len(operand), operand.dimension
    width = size + sum(part.shape[1] for part in more)
    factor = scratch(role, (-(-count // MULTIPLE) * MULTIPLE, -(-width // 4) * 4), operand.dtype)
    factor[count:] = 0
    factor[:, width:] = 0
    source = torch.from_numpy(operand.descriptors)
    for start in range(0, count, BLOCK_ROWS):
        block = source[start : start + BLOCK_ROWS]
        scaled = scratch("scaled", block.shape, torch.float32).copy_(block)
        if operand.dtype == torch.int8:
            scaled.mul_(1 / operand.step).round_()
        factor[start : start + len(block), :size] = scaled.mul_(sign)
    factor[:count, size:width] = torch.from_numpy(np.concatenate(more, axis=1))
    return factor
