"""Which descriptors of another image may be the nearest: one product in a fast number format, with proven bounds.

The *cost* of two descriptors is half their squared distance, |a|^2/2 + |b|^2/2 - a.b, or, where the largest dot
product is wanted, a constant less a.b; it is never negative. All costs of two images are one matrix product
(`Operand`). Where the CPU multiplies bfloat16 in hardware, that takes half the time of float32 (measured, 4096 x 4096
x 128 on one core of an EPYC 9004: 22 against 48 ms), and each cost is known up to `Bounds`: what rounding the
descriptors, adding up and rounding the result can have changed. A neighbour whose lowest possible cost is below the
highest possible cost of the seemingly nearest is a candidate; `screened.py` computes the few candidates exactly. On
other CPUs the product is in float32 and the bounds are its rounding's. (faiss's flat index needs 53 ms there for the
rows' nearest alone. Products of 8-bit integers take 11 ms by themselves, but leave four candidates a row instead of
one; two pairs at once were then no faster as a whole, with 32-bit and with 8-bit results.)

The product is made in tiles that stay in the cache, and each tile is searched at once. Non-negative bfloat16 numbers
are ordered as their bits are, so that the searches run on 16-bit integers, at 32 a step. Memory: one tile of about
2 MiB a thread, and lists of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers.scratch import own_pages, scratch

Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]

TILE_BYTES = 2 * 2**20
MULTIPLE = 64  # rows are padded to it: the product is compiled once a shape, so few shapes are wanted
FAR = 1e30  # cost of the padding
BLOCK_ROWS = 1024
CROWDED = 64  # a row with more candidates than this is not listed
SPLIT = {torch.bfloat16: 2.0**-17, torch.float32: 2.0**-24}  # relative error of a number stored as two of this type
HALF_STEP = {torch.bfloat16: 2.0**-9 * 1.01, torch.float32: 2.0**-24 * 1.01}  # relative error of a rounded result
ONE_BY_ONE = 3  # candidates beside the nearest that are looked for one at a time
MASKED_BITS = np.int16(0x7FFF)  # above all finite bfloat16


@dataclass(frozen=True)
class Operand:
    """One image's descriptors, for the product and for exact costs.

    Attributes:
        descriptors: (N, D) float16 where that holds them exactly, as files do; else float32.
        halves: (N,) half the squared length; where dot products are compared, of the longest.
        lengths: (N,) length of each descriptor.
        dropped: (N,) length of what its rounded version lacks.
        dtype: of the product.
    """

    descriptors: npt.NDArray[np.floating[Any]]
    halves: Floats64
    lengths: Floats64
    dropped: Floats64
    dtype: torch.dtype

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

    def rows(self, role: str) -> torch.Tensor:
        """(N padded, D + 4) rounded descriptors, two ones, and the half as the sum of two numbers.

        `flipped(rows)` of one image times the rows of another, transposed, are the costs. Made anew for every use, in
        `scratch` of the `role`: that takes little of a pair's time, keeping it would double an image's memory.
        """
        count = len(self)
        rows = scratch(role, (-(-count // MULTIPLE) * MULTIPLE, self.dimension + 4), self.dtype)
        halves = torch.from_numpy(self.halves)
        rows[count:] = 0
        exact = torch.from_numpy(self.descriptors)
        for start in range(0, count, BLOCK_ROWS):  # by way of float32: torch converts float16 to nothing else quickly
            part = exact[start : start + BLOCK_ROWS]
            rows[start : start + len(part), :-4] = scratch("wide", part.shape, torch.float32).copy_(part)
        rows[:, -4:-2] = 1
        rows[:count, -2] = halves
        rows[:count, -1] = halves - rows[:count, -2]
        rows[count:, -2] = FAR
        return rows


def make_operand(descriptors: Floats32, metric: str, dtype: torch.dtype) -> Operand:
    """Measure an image's (N, D) descriptors and what rounding them to `dtype` loses."""
    squared, dropped = np.empty(len(descriptors)), np.empty(len(descriptors))
    small = True
    for start in range(0, len(descriptors), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        exact = torch.from_numpy(descriptors[part])
        back = scratch("back", exact.shape, torch.float32)
        small = small and torch.equal(back.copy_(scratch("half", exact.shape, torch.float16).copy_(exact)), exact)
        lost = torch.sub(exact, back.copy_(scratch("rounded", exact.shape, dtype).copy_(exact)), out=back).numpy()
        np.einsum("ij,ij->i", descriptors[part], descriptors[part], dtype=np.float64, out=squared[part])
        np.einsum("ij,ij->i", lost, lost, dtype=np.float64, out=dropped[part])
    held = own_pages(descriptors.shape, np.float16 if small else np.float32)
    held[...] = descriptors
    halves = np.full_like(squared, 0.5 * squared.max(initial=0)) if metric == "dot" else 0.5 * squared
    return Operand(held, halves, np.sqrt(squared), np.sqrt(dropped), dtype)


def flipped(rows: torch.Tensor) -> torch.Tensor:
    """Rows of an operand as the left side of the product, in `scratch`."""
    left = scratch("left", rows.shape, rows.dtype)
    torch.neg(rows[:, :-4], out=left[:, :-4])
    left[:, -4:-2], left[:, -2:] = rows[:, -2:], rows[:, -4:-2]
    return left


@dataclass(frozen=True)
class Bounds:
    """How far a computed cost can be from the true one: `margin` + `step` * cost.

    Attributes:
        margin: (N,) of each row, whatever the column.
        step: of rounding the result.
    """

    margin: Floats64
    step: float

    def low(self, values: Floats64, rows: Ints | slice = slice(None)) -> Floats64:
        """Lowest true costs of computed ones."""
        return np.maximum(values * (1 - self.step) - self.margin[rows], 0)

    def high(self, values: Floats64, rows: Ints | slice = slice(None)) -> Floats64:
        """Highest true costs of computed ones."""
        return np.maximum(values, 0) * (1 + self.step) + self.margin[rows]

    def limits(self) -> tuple[float, Floats32]:
        """Factor and (N,) summand of the largest computed cost whose true one may be below the true one of a cost."""
        factor = (1 + self.step) / (1 - self.step) * (1 + 1e-6)
        return factor, (2 * self.margin / (1 - self.step) * (1 + 1e-6)).astype(np.float32)


def bounds(first: Operand, other: Operand) -> Bounds:
    """Bounds of the rows of `first` against all of `other`, by Cauchy and Schwarz."""
    longest, most = other.lengths.max(), other.dropped.max()
    rounding = first.dropped * (longest + most) + first.lengths * most
    halves = first.halves + other.halves.max()
    terms = first.dimension + 6
    adding = terms * 2.0**-23 * ((first.lengths + first.dropped) * (longest + most) + 1.01 * halves)
    return Bounds(rounding + adding + SPLIT[first.dtype] * halves, HALF_STEP[first.dtype])


@dataclass(frozen=True)
class Scan:
    """What one product shows of its rows and columns; costs are the computed ones.

    Attributes:
        rows, columns, costs: (M,) the candidates: every column that may be a row's nearest (or second nearest).
        rest0: (N0,) least cost of each row without its candidates.
        rest1: (N1,) least cost of each column without all candidates.
        crowded: rows with more candidates than were listed.
    """

    rows: Ints
    columns: Ints
    costs: Floats64
    rest0: Floats64
    rest1: Floats64
    crowded: Ints


def scan(left: torch.Tensor, right: torch.Tensor, bound: Bounds, num1: int, two: bool = False) -> Scan:
    """List the candidates of every row.

    Args:
        left: (N0 or more, K) `flipped` rows; those after the N0 of `bound` are padding.
        right: (N1 padded, K).
        bound: of the rows.
        num1: N1.
        two: list what may be nearest or second nearest, instead of nearest only.
    """
    num0 = len(bound.margin)
    factor, summand = bound.limits()
    height = max(MULTIPLE, TILE_BYTES // (len(right) * right.element_size()) // MULTIPLE * MULTIPLE)
    found: list[tuple[Ints, Ints, Any]] = []
    rests: list[Any] = []
    crowded = [np.empty(0, np.int64)]
    rest1: Any = None
    for start in range(0, num0, height):
        tile = _product(left[start : start + height], right)[: num0 - start]
        each = np.arange(len(tile))
        nearest = tile.argmin(axis=1)
        least = tile[each, nearest]
        tile[each, nearest] = _masked(tile)
        found.append((each + start, nearest, least))
        rest = tile.min(axis=1)
        limit = _decode(rest if two else least)
        limit *= factor
        limit += summand[start : start + len(tile)]
        bits = _floor(limit, tile)
        several = np.flatnonzero(rest <= bits)
        if len(several):
            listed = _list_others(tile, several, bits, rest)
            found += [(rows + start, columns, costs) for rows, columns, costs in listed.found]
            crowded.append(listed.crowded + start)
        rests.append(rest)
        columns = tile.min(axis=0)
        rest1 = columns if rest1 is None else np.minimum(rest1, columns)
    rows, others, costs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    rest0 = _costs(np.concatenate(rests))
    return Scan(rows, others, _costs(costs), rest0, _costs(rest1[:num1]), np.concatenate(crowded))


class _Others(NamedTuple):
    found: list[tuple[Ints, Ints, Any]]  # rows of the tile, columns, what the tile holds there
    crowded: Ints  # rows with more candidates than are listed


def _list_others(tile: Any, rows: Ints, bits: Any, rest: Any) -> _Others:
    """List and mask what else is at most `bits` in some rows of a tile; `rest` becomes the least of what is left.

    Most rows have one such candidate or two: these are taken one by one, what remains all at once.
    """
    found: list[tuple[Ints, Ints, Any]] = []
    chosen = tile[rows]
    for _ in range(ONE_BY_ONE):
        each = np.arange(len(rows))
        column = chosen.argmin(axis=1)
        found.append((rows, column, chosen[each, column]))
        chosen[each, column] = tile[rows, column] = _masked(tile)
        rest[rows] = chosen.min(axis=1)
        more = np.flatnonzero(rest[rows] <= bits[rows])
        if not len(more):
            return _Others(found, rows[:0])
        rows, chosen = rows[more], chosen[more]
    index = np.flatnonzero(chosen <= bits[rows, None])
    row, column = np.divmod(index, chosen.shape[1])
    full = np.bincount(row, minlength=len(rows)) > CROWDED
    index, row, column = (x[~full[row]] for x in (index, row, column))
    flat = chosen.ravel()
    found.append((rows[row], column, flat[index]))
    flat[index] = tile[rows[row], column] = _masked(tile)
    rest[rows] = chosen.min(axis=1)
    return _Others(found, rows[full])


def _product(left: torch.Tensor, right: torch.Tensor) -> Any:
    """(rows, columns) of the product as float32, or the bits of bfloat16, in `scratch`."""
    out = scratch("tile", (len(left), len(right)), left.dtype)
    torch.mm(left, right.T, out=out)
    return out.view(torch.int16).numpy() if out.dtype == torch.bfloat16 else out.numpy()


def _masked(tile: Any) -> Any:
    return MASKED_BITS if tile.dtype == np.int16 else np.float32(np.inf)


def _decode(values: Any) -> Floats32:
    """What a tile holds, as numbers; NaN where bfloat16 is masked."""
    return (values.astype(np.int32) << 16).view(np.float32) if values.dtype == np.int16 else values.copy()


def _costs(values: Any) -> Floats64:
    """What a tile holds, as costs; infinity where it is masked."""
    costs = _decode(values).astype(np.float64)
    costs[np.isnan(costs)] = np.inf
    return costs


def _floor(costs: Floats32, tile: Any) -> Any:
    """The largest number of the tile's format that is at most each (positive) cost."""
    return (costs.view(np.int32) >> 16).astype(np.int16) if tile.dtype == np.int16 else costs
