"""Which descriptors of another image may be the nearest, from a product whose values have proven bounds.

A neighbour whose lowest possible cost (see `operands.py`) is at most the highest possible cost of the seemingly nearest
is a candidate; `screened.py` computes exactly those that matter.

The product is made in tiles that stay in the cache, and each tile is searched at once. Integers are rounded to
bfloat16: non-negative ones are ordered as their bits are, so that the searches run on 16-bit integers, at 32 a step.
Memory: tiles of about 5 MiB a thread, and lists of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from samfeat_hloc.matchers.operands import MULTIPLE, Bounds, Floats32, Floats64, Ints
from samfeat_hloc.matchers.scratch import scratch

TILE_BYTES = 2 * 2**20
WIDE_COLUMNS = 2048  # of a tile, made at once: their 32-bit integers stay in the cache until they are rounded
CROWDED = 256  # a row with more candidates than this is not listed
MASKED_BITS = np.int16(0x7FFF)  # above all finite bfloat16


@dataclass(frozen=True)
class Scan:
    """What one product shows of its rows and columns; all are its values.

    Attributes:
        rows, columns, values: (M,) the candidates.
        rest0: (N0,) least of each row without its candidates.
        rest1: (N1,) least of each column without all candidates.
        crowded: rows with more candidates than were listed.
    """

    rows: Ints
    columns: Ints
    values: Floats64
    rest0: Floats64
    rest1: Floats64
    crowded: Ints


def scan(left: torch.Tensor, right: torch.Tensor, bound: Bounds, num1: int, within: Floats64 | None = None) -> Scan:
    """List the candidates of every row: columns that may be its nearest or, with `within`, whose cost may be that low.

    Args:
        left: (N0 or more, K) factor; the rows after the N0 of `bound` are padding.
        right: (N1 or more, K) factor.
        bound: of the rows.
        num1: N1.
        within: (N0,) costs.
    """
    num0 = len(bound.margin)
    factor, summand = bound.limits()
    largest = None if within is None else bound.largest(within)
    cell = 2 if left.dtype == torch.int8 else left.element_size()
    height = max(MULTIPLE, TILE_BYTES // (len(right) * cell) // MULTIPLE * MULTIPLE)
    chosen = scratch("chosen", (height, num1), torch.bool).numpy()
    found: list[tuple[Ints, Ints, Any]] = []
    rests: list[Any] = []
    crowded = [np.empty(0, np.int64)]
    rest1: Any = None
    for start in range(0, num0, height):
        tile = product(left[start : start + height], right)[: num0 - start, :num1]
        part = slice(start, start + len(tile))
        limit = _decode(tile.min(axis=1)) * factor + summand[part] if largest is None else largest[part]
        index = np.flatnonzero(np.less_equal(tile, _floor(limit, tile)[:, None], out=chosen[: len(tile)]))
        row, column = np.divmod(index, num1)
        full = np.bincount(row, minlength=len(tile)) > CROWDED
        if full.any():
            crowded.append(np.flatnonzero(full) + start)
            row, column = row[~full[row]], column[~full[row]]
        found.append((row + start, column, tile[row, column]))
        tile[row, column] = _masked(tile)
        rests.append(tile.min(axis=1))
        columns = tile.min(axis=0)
        rest1 = columns if rest1 is None else np.minimum(rest1, columns)
    rows, others, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Scan(rows, others, _values(values), _values(np.concatenate(rests)), _values(rest1), np.concatenate(crowded))


def product(left: torch.Tensor, right: torch.Tensor) -> Any:
    """(rows, columns) of the product as float32, or of integers the bits of bfloat16, in `scratch`."""
    shape = len(left), len(right)
    if left.dtype != torch.int8:
        out = scratch("tile", shape, left.dtype)
        return torch.mm(left, right.T, out=out).numpy()
    out = scratch("tile", shape, torch.bfloat16)
    for start in range(0, len(right), WIDE_COLUMNS):
        some = right[start : start + WIDE_COLUMNS]
        wide = scratch("wide", (len(left), len(some)), torch.int32)
        out[:, start : start + len(some)] = torch._int_mm(left, some.T, out=wide)
    return out.view(torch.int16).numpy()


def _masked(tile: Any) -> Any:
    return MASKED_BITS if tile.dtype == np.int16 else np.float32(np.inf)


def _decode(values: Any) -> Floats32:
    """What a tile holds, as numbers; NaN where bfloat16 is masked."""
    return (values.astype(np.int32) << 16).view(np.float32) if values.dtype == np.int16 else values.copy()


def _values(values: Any) -> Floats64:
    """What a tile holds, as numbers; infinity where it is masked."""
    numbers = _decode(values).astype(np.float64)
    numbers[np.isnan(numbers)] = np.inf
    return numbers


def _floor(values: Floats32, tile: Any) -> Any:
    """The largest number of the tile's format that is at most each (positive) value."""
    return (values.view(np.int32) >> 16).astype(np.int16) if tile.dtype == np.int16 else values
