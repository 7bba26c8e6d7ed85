"""One image's descriptors as the fast matcher holds them, and what rounding them can change.

The *cost* of two descriptors is half their squared distance, |a|^2/2 + |b|^2/2 - a.b, or, where the largest dot
product is wanted, a constant less a.b; it is never negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers.scratch import own_pages, scratch

Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]

BLOCK_ROWS = 1024
MOST = 127  # largest 8-bit integer used
EVEN = 0.01  # bytes have no room for halves: they may differ by this share of the largest
WORTH = 0.042  # largest uncertainty of a cost in bytes, relative to a mean cost (SAMFeat 0.03, RootSIFT 0.06)


@dataclass(frozen=True)
class Operand:
    """One image's descriptors, for a product and for exact costs.

    Attributes:
        descriptors: (N, D) float16 where that holds them exactly, as files do; else float32.
        halves: (N,) half the squared length; where dot products are compared, of the longest.
        lengths: (N,) length of each descriptor, rounded up to float32.
        dropped: (N,) length of what its rounded version lacks, rounded up.
        dtype: of the rounded version: int8, bfloat16 or float32.
        step: what one unit of the int8 version is worth.
    """

    descriptors: npt.NDArray[np.floating[Any]]
    halves: Floats64
    lengths: Floats32
    dropped: Floats32
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


def make_operand(descriptors: Floats32, metric: str, dtype: torch.dtype, wide: torch.dtype) -> Operand:
    """Measure an image's (N, D) descriptors and what rounding them to `dtype` loses.

    Args:
        descriptors: of the image.
        metric: see `nearest_neighbor.NearestNeighborConf`.
        dtype: of the rounded version.
        wide: instead of int8 where lengths differ, which bytes cannot say, or where most descriptors are much alike:
            bytes would then leave so many candidates open that nothing is gained.
    """
    squared = np.empty(len(descriptors))
    small = True
    for part, exact in _blocks(descriptors):
        half = scratch("half", exact.shape, torch.float16).copy_(exact)
        small = small and torch.equal(scratch("back", exact.shape, torch.float32).copy_(half), exact)
        np.einsum("ij,ij->i", descriptors[part], descriptors[part], dtype=np.float64, out=squared[part])
    halves = np.full_like(squared, 0.5 * squared.max(initial=0)) if metric == "dot" else 0.5 * squared
    if dtype == torch.int8 and not _even(halves):
        dtype = wide
    held = own_pages(descriptors.shape, np.float16 if small else np.float32)
    torch.from_numpy(held).copy_(torch.from_numpy(descriptors))
    operand = _rounded(held, descriptors, halves, _root(squared), dtype)
    if dtype == torch.int8 and len(operand):
        mean_cost = float(squared.mean()) - float(np.square(descriptors.mean(axis=0)).sum())
        if 2 * float(operand.dropped.max()) * float(operand.lengths.max()) > WORTH * mean_cost:
            return rounded_to(operand, wide)
    return operand


def rounded_to(operand: Operand, dtype: torch.dtype) -> Operand:
    """The operand in another format; itself where it has that one."""
    if operand.dtype == dtype:
        return operand
    return _rounded(operand.descriptors, operand.descriptors.astype(np.float32), operand.halves, operand.lengths, dtype)


def _rounded(
    held: npt.NDArray[np.floating[Any]], descriptors: Floats32, halves: Floats64, lengths: Floats32, dtype: torch.dtype
) -> Operand:
    largest = max(float(descriptors.max(initial=0)), -float(descriptors.min(initial=0)))
    step = max(largest, 1e-30) / MOST if dtype == torch.int8 else 1.0
    dropped = np.empty(len(descriptors))
    for part, exact in _blocks(descriptors):
        back = scratch("back", exact.shape, torch.float32)
        if dtype == torch.int8:
            torch.mul(exact, 1 / step, out=back).round_().mul_(step)
        else:
            back.copy_(scratch("rounded", exact.shape, dtype).copy_(exact))
        lost = torch.sub(exact, back, out=back).numpy()
        np.einsum("ij,ij->i", lost, lost, dtype=np.float64, out=dropped[part])
    return Operand(held, halves, lengths, _root(dropped), dtype, step)


def _root(squared: Floats64) -> Floats32:
    return (np.sqrt(squared) * (1 + 2.0**-23)).astype(np.float32)


def _blocks(descriptors: Floats32) -> Any:
    for start in range(0, len(descriptors), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        yield part, torch.from_numpy(descriptors[part])


def _even(halves: Floats64) -> bool:
    return bool(len(halves)) and bool(halves.max() > 0) and float(np.ptp(halves)) <= EVEN * float(halves.max())


@dataclass(frozen=True)
class Bounds:
    """How far computed costs can be from the true ones: `margin` + `step` * cost.

    Attributes:
        margin: (N,) of each descriptor, whatever the other.
        step: of rounding the result.
        top: a computed cost from which on the true one may be anything above.
    """

    margin: Floats64
    step: float
    top: float

    def low(self, values: Floats64, index: Ints | slice = slice(None)) -> Floats64:
        """Lowest true costs of computed ones, of the descriptors at `index`."""
        return np.maximum(values * (1 - self.step) - self.margin[index], 0)

    def high(self, values: Floats64, index: Ints | slice = slice(None)) -> Floats64:
        """Highest true costs of computed ones."""
        return np.where(values < self.top, np.maximum(values, 0) * (1 + self.step) + self.margin[index], np.inf)

    def largest(self, costs: Floats64, index: Ints | slice = slice(None)) -> Floats64:
        """Largest computed costs whose true one may be as low as the given ones."""
        return (costs + self.margin[index]) / (1 - self.step) * (1 + 1e-6)


def rounding_margin(first: Operand, other: Operand) -> Floats64:
    """(N of first,) by how far the sum of rounded products can be off, by Cauchy and Schwarz."""
    longest, most = float(other.lengths.max()), float(other.dropped.max())
    return first.dropped.astype(np.float64) * (longest + most) + first.lengths.astype(np.float64) * most


def wide_blocks(operand: Operand) -> Iterator[tuple[int, torch.Tensor]]:
    """Descriptors in float32, in `scratch`: torch converts float16 to nothing else quickly."""
    exact = torch.from_numpy(operand.descriptors)
    for start in range(0, len(operand), BLOCK_ROWS):
        part = exact[start : start + BLOCK_ROWS]
        yield start, scratch("tile", part.shape, torch.float32).copy_(part)
