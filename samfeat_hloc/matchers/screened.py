"""Nearest neighbours on the CPU: a fast product shows the candidates, exact costs decide.

Two images are matched as if every cost (see `operands.py`) had been computed in float64. First those candidates are
computed that may be the nearest of both descriptors; then, of the pairs that are each other's nearest among these, all
rivals: candidates that may be nearer, or near enough to fail the ratio test. What is no candidate is certainly neither.
Costs closer than 2^-44 are equal and the first index wins, so that the order of summation decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers.candidates import Columns, Listed, scan
from samfeat_hloc.matchers.operands import Floats64, Ints, Operand
from samfeat_hloc.matchers.products import Product
from samfeat_hloc.matchers.scratch import scratch

SNAP = 2.0**44
DENSE_ROWS = 256
BLOCK = 3072  # pairs whose descriptors are copied at once: each step lets another thread have Python in between
SAME = 1e-12  # a second neighbour whose cost is at most this share of the descriptor's half is the descriptor itself
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Costs:
    """Exact costs of some pairs.

    Attributes:
        index0, index1: (M,) descriptors of the first and of the second image.
        costs: (M,) of the pairs.
    """

    index0: Ints
    index1: Ints
    costs: Floats64

    def __add__(self, more: Costs) -> Costs:
        index0, index1 = np.append(self.index0, more.index0), np.append(self.index1, more.index1)
        return Costs(index0, index1, np.append(self.costs, more.costs))


@dataclass(frozen=True)
class Best:
    """Nearest neighbours of N descriptors among those whose cost was computed.

    Attributes:
        index: (N,) the nearest; -1 where none was computed.
        cost: (N,) of it.
        second: (N,) least cost of the others.
    """

    index: Ints
    cost: Floats64
    second: Floats64


def match_screened(product: Product, other: Operand, mutual: bool, ratio: float | None) -> tuple[Ints, Floats64]:
    """Match two images that have at least as many descriptors as the tests need.

    Args:
        product: of the first image.
        other: the second image.
        mutual, ratio: see `nearest_neighbor.NearestNeighborConf`.

    Returns:
        (N0,) index in the second image or -1, and (N0,) cost of the match.
    """
    first, reach = product.first, 1.0 if ratio is None else ratio**-2
    columns, rows = scan(product, other, reach, rows_too=mutual)
    same = SAME * first.halves
    if rows is None:
        known, crowded = _rivals_of_columns(first, other, columns, _within(product, other, columns, ratio, same))
        best = _best(known.index0, known.index1, known.costs, crowded)
        return np.where(_passes(best.cost, best.second, same, ratio), best.index, -1), best.cost
    back_crowded = _dense(other, first, rows.crowded)
    known, rest, low = _maybe_mutual(product, other, columns, rows, back_crowded)
    best = _best(known.index0, known.index1, known.costs, _none(len(first)))
    back = _best(known.index1, known.index0, known.costs, back_crowded)
    paired = np.flatnonzero((best.index >= 0) & (back.index[best.index] == np.arange(len(first))))
    if ratio is not None:
        paired = paired[_may_pass(product, other, columns, rows, paired, best, reach)]
    partner, cost, same = best.index[paired], best.cost[paired], same[paired]
    within0, within1 = np.full(len(first), -np.inf), np.full(len(other), -np.inf)
    within0[paired] = within1[partner] = np.maximum(reach * cost, same)
    rivals = rest[low[rest] <= within1[rows.rows[rest]]]
    more, crowded = _rivals_of_columns(first, other, columns, within0)
    known = known + _computed(first, other, rows.columns[rivals], rows.rows[rivals]) + more
    best = _best(known.index0, known.index1, known.costs, crowded)
    back = _best(known.index1, known.index0, known.costs, back_crowded)
    keep = (best.index[paired] == partner) & (back.index[partner] == paired)
    keep &= _passes(cost, best.second[paired], same, ratio) & _passes(cost, back.second[partner], same, ratio)
    index = np.full(len(first), -1)
    index[paired[keep]] = partner[keep]
    return index, best.cost


def _maybe_mutual(
    product: Product, other: Operand, columns: Columns, rows: Listed, crowded: Best
) -> tuple[Costs, Ints, Floats64]:
    """Exact costs of candidates that may be the nearest of both, the other candidates' places, and all lowest costs."""
    of_rows, of_columns = product.bounds(other)
    low = np.maximum(of_rows.low(rows.values, rows.rows), of_columns.low(rows.values, rows.columns))
    high = np.minimum(of_rows.high(rows.least)[rows.rows], of_columns.high(columns.least())[rows.columns])
    possible = low <= high
    known = _computed(product.first, other, rows.columns[possible], rows.rows[possible])
    given = rows.crowded
    return known + Costs(crowded.index[given], given, crowded.cost[given]), np.flatnonzero(~possible), low


def _within(product: Product, other: Operand, columns: Columns, ratio: float | None, same: Floats64) -> Floats64:
    """The cost within which something can matter to each of the first image's descriptors."""
    bound = product.bounds(other)[1]
    if ratio is None:
        return bound.high(columns.least())
    least, second = columns.two_least()
    within = np.maximum(bound.high(least) / ratio**2, same)
    return np.where(bound.low(least) > ratio**2 * bound.high(second), -np.inf, within)


def _may_pass(
    product: Product, other: Operand, columns: Columns, rows: Listed, paired: Ints, best: Best, reach: float
) -> Bools:
    """Of pairs that seem mutual, which do not fail the ratio test in any case."""
    of_rows, of_columns = product.bounds(other)
    second0, second1 = of_columns.high(columns.two_least()[1]), of_rows.high(rows.second)
    return reach * best.cost[paired] <= np.minimum(second0[paired], second1[best.index[paired]])


def _rivals_of_columns(first: Operand, other: Operand, columns: Columns, within: Floats64) -> tuple[Costs, Best]:
    """Exact costs of what may be within these costs of each of the first image's descriptors; of the crowded, all."""
    index1, index0, crowded = columns.within(within)
    dots = _dots(first, other, index0, index1, np.float32)
    rounding = first.dimension * 2.0**-23 * first.lengths.max() * other.lengths.max()
    near = first.halves[index0] + other.halves[index1] - dots <= within[index0] + rounding
    return _computed(first, other, index0[near], index1[near]), _dense(first, other, crowded)


def _computed(first: Operand, other: Operand, index0: Ints, index1: Ints) -> Costs:
    return Costs(index0, index1, exact_costs(first, other, index0, index1))


def exact_costs(first: Operand, other: Operand, index0: Ints, index1: Ints) -> Floats64:
    """(M,) float64 costs of M pairs of descriptors."""
    costs: Floats64 = first.halves[index0] + other.halves[index1] - _dots(first, other, index0, index1, np.float64)
    return np.rint(costs * SNAP) / SNAP


def _dots(first: Operand, other: Operand, index0: Ints, index1: Ints, dtype: type) -> npt.NDArray[Any]:
    """(M,) products of M pairs of descriptors, added up in this type."""
    dots: npt.NDArray[Any] = np.empty(len(index0), dtype)
    for start in range(0, len(index0), BLOCK):
        part = slice(start, start + BLOCK)
        wide = scratch("tile", (2, len(dots[part]), first.dimension), torch.float32)  # all tiles have been searched
        _take(first, index0[part], wide[0])
        _take(other, index1[part], wide[1])
        np.einsum("ij,ij->i", *wide.numpy(), dtype=dtype, out=dots[part])
    return dots


def _take(operand: Operand, rows: Ints, out: torch.Tensor) -> None:
    """Copy some descriptors; torch converts float16 ten times as fast as numpy."""
    held = operand.descriptors
    kind = torch.float16 if held.dtype == np.float16 else torch.float32
    taken = scratch("chosen", (len(rows), operand.dimension), kind)
    np.take(held, rows, axis=0, out=taken.numpy(), mode="clip")  # the other mode copies once more
    out.copy_(taken)


def _best(own: Ints, others: Ints, costs: Floats64, crowded: Best) -> Best:
    """Nearest and second nearest of each descriptor among computed costs; of the crowded ones they are given."""
    cost = np.full(len(crowded.cost), np.inf)
    np.minimum.at(cost, own, costs)
    equal = costs == cost[own]
    index = np.full(len(cost), np.iinfo(np.int64).max)
    np.minimum.at(index, own[equal], others[equal])  # of equal ones the first
    rest = others != index[own]
    second = np.full(len(cost), np.inf)
    np.minimum.at(second, own[rest], costs[rest])
    index[np.isinf(cost)] = -1
    given = np.flatnonzero(crowded.index >= 0)
    index[given], cost[given], second[given] = crowded.index[given], crowded.cost[given], crowded.second[given]
    return Best(index, cost, second)


def _passes(cost: Floats64, second: Floats64, same: Floats64, ratio: float | None) -> Bools:
    """The ratio test."""
    if ratio is None:
        return np.ones(len(cost), bool)
    return (cost <= ratio**2 * second) & (second > same)


def _dense(first: Operand, other: Operand, rows: Ints) -> Best:
    """Exact nearest neighbours of rows with very many candidates (repeated descriptors): every cost is computed."""
    best = _none(len(first))
    if not len(rows):
        return best
    right = other.descriptors.astype(np.float64)
    for start in range(0, len(rows), DENSE_ROWS):
        block = rows[start : start + DENSE_ROWS]
        each = np.arange(len(block))
        costs = first.halves[block, None] + other.halves - first.descriptors[block].astype(np.float64) @ right.T
        costs = np.rint(costs * SNAP) / SNAP
        best.index[block] = index = costs.argmin(axis=1)
        best.cost[block] = costs[each, index]
        costs[each, index] = np.inf
        best.second[block] = costs.min(axis=1)
    return best


def _none(count: int) -> Best:
    return Best(np.full(count, -1), np.full(count, np.inf), np.full(count, np.inf))
