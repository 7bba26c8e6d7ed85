"""Which descriptors of another image may be the nearest, or near enough to matter, from a product with proven bounds.

What may be as near as a multiple (`reach`) of the nearest's highest possible cost is a candidate; everything else is
certainly not. Tiles are searched by the least codes of groups, so that all of a tile is read once for its rows and once
for its columns. A tile has whole rows: their candidates are listed at once. Of the columns the least codes of every
four rows are kept, until it is known which columns matter (`Columns.within`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch

from samfeat_hloc.matchers.operands import Bounds, Floats64, Ints, Operand
from samfeat_hloc.matchers.products import Product
from samfeat_hloc.matchers.scratch import scratch

ROW_GROUP = 16  # columns of a row
COLUMN_GROUP = 4  # rows of a column
SOME = 256  # groups searched at once
PARTS = 16  # in each of which the least is looked for
CROWDED = 100  # a descriptor with candidates in more groups than this has none listed


@dataclass(frozen=True)
class Listed:
    """Candidates of the rows.

    Attributes:
        rows, columns: (M,) whose candidate, and which.
        values: (M,) computed costs.
        least: (N,) least computed cost of each row.
        second: (N,) a computed cost of another candidate of each row; infinity without a ratio test.
        crowded: rows whose candidates are too many.
    """

    rows: Ints
    columns: Ints
    values: Floats64
    least: Floats64
    second: Floats64
    crowded: Ints


def scan(product: Product, other: Operand, reach: float, rows_too: bool) -> tuple[Columns, Listed | None]:
    """Search the product's first image, the columns, and with `rows_too` list the candidates of the other, the rows.

    With a ratio test (a reach above 1), rows that fail it in any case have no candidates.
    """
    of_rows, of_columns = product.bounds(other)
    columns, rows = Columns(product, other, of_columns), _Rows(product, other, of_rows, reach)
    for start, tile in product.tiles(other):
        columns.add(start, tile)
        if rows_too:
            rows.add(start, tile)
    return columns, rows.listed() if rows_too else None


class Columns:
    """What tiles have shown of the columns, in this thread's `scratch` until the next is made."""

    def __init__(self, product: Product, other: Operand, bound: Bounds) -> None:
        self._product, self._other, self._bound = product, other, bound
        self._parts: list[tuple[int, int, int]] = []  # of each tile: its first group, its first row, its groups
        self._groups: torch.Tensor
        self._used = 0

    def add(self, start: int, tile: torch.Tensor) -> None:
        """Search a tile whose first row is `start`."""
        height, width = tile.shape
        count = height // COLUMN_GROUP
        if not self._parts:
            shape = (-(-len(self._other) // height) * count, width)
            self._groups = scratch("groups", shape, tile.dtype)
        part = self._groups[self._used : self._used + count]
        torch.amin(tile.view(COLUMN_GROUP, count, width), 0, out=part)
        self._parts.append((self._used, start, count))
        self._used += count

    def least(self) -> Floats64:
        """(N,) least computed cost of each column."""
        codes = self._groups[: self._used].amin(0)[: len(self._bound.margin)]
        return self._product.values(codes.numpy(), self._other)

    def two_least(self) -> tuple[Floats64, Floats64]:
        """(N,) least computed cost of each column, and (N,) a cost of another row, mostly the second least."""
        codes = _two_least(self._groups[: self._used], 0)
        least, second = (self._product.values(each[: len(self._bound.margin)], self._other) for each in codes)
        return least, second

    def within(self, costs: Floats64) -> tuple[Ints, Ints, Ints]:
        """Rows and columns of everything whose true cost may be at most that of its column, and crowded columns.

        Of a column with more than `CROWDED` groups nothing is listed. With each comes what shares its group.
        """
        limit = self._product.codes(self._bound.largest(costs), self._other)
        width = self._groups.shape[1]
        limits = np.zeros(width, limit.dtype)
        limits[: len(limit)] = limit
        group, column = np.divmod(self._at_most(limits), width)
        count = np.bincount(column, minlength=width)
        crowded = np.flatnonzero(count > CROWDED)
        real = column < len(limit)
        if len(crowded):
            real &= count[column] <= CROWDED
        group, column = group[real], column[real]
        first, start, groups = np.array(self._parts).T
        part = np.searchsorted(first, group, side="right") - 1
        rows = (start - first)[part] + group + np.arange(COLUMN_GROUP)[:, None] * groups[part]
        real = rows < len(self._other)
        columns = np.broadcast_to(column, rows.shape)
        return rows[real], columns[real], crowded[crowded < len(limit)]

    def _at_most(self, limits: Any) -> Ints:
        """Flat places of the groups whose least codes are at most their column's limit."""
        groups = self._groups[: self._used].numpy()
        chosen = scratch("chosen", (SOME, groups.shape[1]), torch.bool).numpy()
        found = []
        for start in range(0, len(groups), SOME):
            part = groups[start : start + SOME]
            places = np.flatnonzero(np.less_equal(part, limits, out=chosen[: len(part)]))
            found.append(places + start * groups.shape[1])
        return np.concatenate(found)


class _Rows:
    """What tiles have shown of the rows."""

    def __init__(self, product: Product, other: Operand, bound: Bounds, reach: float) -> None:
        self._product, self._other, self._bound, self._reach = product, other, bound, reach
        self._found: list[tuple[Ints, Ints, Any]] = []
        self._least: list[Any] = []
        self._second: list[Any] = []
        self._grouped: torch.Tensor | None = None
        self._crowded: list[Ints] = []

    def add(self, start: int, tile: torch.Tensor) -> None:
        """List the candidates in a tile whose first row is `start`."""
        tile = tile[: len(self._other) - start]
        height, width = tile.shape
        slots = width // ROW_GROUP
        if self._grouped is None:
            self._grouped = scratch("slots", (height, slots), tile.dtype)
        grouped = self._grouped[:height]
        torch.amin(tile.view(height, ROW_GROUP, slots), 1, out=grouped)
        limit, open_rows = self._limits(grouped, slice(start, start + height))
        chosen = grouped.numpy() <= limit[:, None]
        if open_rows is not None:
            chosen &= open_rows[:, None]
        row, slot = np.divmod(np.flatnonzero(chosen), slots)
        row, slot = self._without_crowded(start, row, slot, height)
        places = (row * width + slot)[:, None] + np.arange(ROW_GROUP) * slots
        codes = tile.numpy().take(places)
        inside = np.flatnonzero(codes <= limit[row, None])
        row, column, codes = row[inside // ROW_GROUP], places.ravel()[inside] % width, codes.ravel()[inside]
        real = column < len(self._product.first)
        self._found.append((row[real] + start, column[real], codes[real]))

    def _limits(self, grouped: torch.Tensor, index: slice) -> tuple[Any, Any]:
        """The largest code of a candidate of each row, and which rows may pass the ratio test (None: all)."""
        bound, reach = self._bound, self._reach
        if reach == 1:
            least = grouped.amin(1).numpy()
            self._least.append(least)
            return self._product.near(least, bound, index, self._other), None
        least, second = _two_least(grouped, 1)
        self._least.append(least)
        self._second.append(second)
        nearest, next_one = (self._product.values(each, self._other) for each in (least, second))
        limit = self._product.codes(bound.largest(reach * bound.high(nearest, index), index), self._other)
        return limit, reach * bound.low(nearest, index) <= bound.high(next_one, index)

    def _without_crowded(self, start: int, row: Ints, slot: Ints, height: int) -> tuple[Ints, Ints]:
        count = np.bincount(row, minlength=height)
        if count.max() <= CROWDED:
            return row, slot
        self._crowded.append(np.flatnonzero(count > CROWDED) + start)
        kept = count[row] <= CROWDED
        return row[kept], slot[kept]

    def listed(self) -> Listed:
        """The candidates."""
        rows, columns, codes = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        least = self._product.values(np.concatenate(self._least), self._other)
        second = np.full(len(least), np.inf)
        if self._second:
            second = self._product.values(np.concatenate(self._second), self._other)
        crowded = np.concatenate([np.empty(0, np.int64), *self._crowded])
        return Listed(rows, columns, self._product.values(codes, self._other), least, second, crowded)


def _two_least(codes: torch.Tensor, axis: int) -> tuple[Any, Any]:
    """The least along an axis, and the least of the others, or of most of them."""
    parts = codes.unflatten(axis, (gcd(PARTS, codes.shape[axis]), -1)).amin(axis + 1).numpy()
    parts = np.partition(parts, 1, axis=axis)
    return parts.take(0, axis), parts.take(1, axis)
