"""Nearest neighbours on the CPU: a fast product shows the candidates, exact costs decide.

Two images are matched as if every cost (see `candidates.py`) had been computed in float64. Bounds settle most
questions: a row has one candidate, a second neighbour is far enough on every account. What they leave open is
computed: the candidates that may be mutual, then the rows and columns whose comparison is closer than the bounds.
Costs closer than 2^-44 are equal and the first index wins, so that the order of summation decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers.candidates import MULTIPLE, Bounds, Floats64, Ints, Operand, bounds, flipped, scan

SNAP = 2.0**44
DENSE_ROWS = 256
EXACT_ROWS = 1024
SAME = 1e-12  # a second neighbour whose cost is at most this share of the descriptor's half is the descriptor itself
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Best:
    """Exact nearest neighbours of N rows.

    Attributes:
        index: (N,) the nearest; -1 for a row of which nothing was computed.
        cost: (N,) of it.
        second: (N,) least cost of the others that were computed.
    """

    index: Ints
    cost: Floats64
    second: Floats64


def match_screened(
    first: Operand, rows0: torch.Tensor, other: Operand, mutual: bool, ratio: float | None
) -> tuple[Ints, Floats64]:
    """Match two images that have at least as many descriptors as the tests need.

    Args:
        first: the first image.
        rows0: `first.rows(...)`, made once for several others.
        other: the second image.
        mutual, ratio: see `nearest_neighbor.NearestNeighborConf`.

    Returns:
        (N0,) index in the second image or -1, and (N0,) cost of the match.
    """
    bound0, bound1 = bounds(first, other), bounds(other, first)
    rows1 = other.rows("second")
    seen = scan(flipped(rows0), rows1, bound0, len(other))
    computed = np.ones(len(seen.rows), bool)
    if mutual:  # a row is of interest when one of its candidates may be the least of its column too
        least = seen.rest1.copy()
        np.minimum.at(least, seen.columns, seen.costs)
        possible = bound0.low(seen.costs, seen.rows) <= bound1.high(least)[seen.columns]
        wanted = np.zeros(len(first), bool)
        wanted[seen.rows[possible]] = True
        computed = wanted[seen.rows]
    rows, columns = seen.rows[computed], seen.columns[computed]
    costs = exact_costs(first, other, rows, columns)
    best = _best(len(first), rows, columns, costs)
    low, high = np.minimum(best.second, bound0.low(seen.rest0)), np.minimum(best.second, bound0.high(seen.rest0))
    if len(seen.crowded):
        dense = _dense(first, other, seen.crowded)
        best.index[seen.crowded], best.cost[seen.crowded] = dense.index, dense.cost
        low[seen.crowded] = high[seen.crowded] = dense.second
        rows, columns = np.append(rows, seen.crowded), np.append(columns, dense.index)
        costs = np.append(costs, dense.cost)
    keep = best.index >= 0
    same = SAME * first.halves
    open0 = open1 = np.zeros(len(first), bool)
    if ratio is not None:
        passed, open0 = _judge(best.cost, low, high, same, ratio)
        keep &= passed | open0
    if mutual:
        back = _best(len(other), columns, rows, costs)
        rest = seen.rest1.copy()
        np.minimum.at(rest, seen.columns[~computed], seen.costs[~computed])
        low, high = np.minimum(back.second, bound1.low(rest)), np.minimum(back.second, bound1.high(rest))
        passed, open1 = _judge(best.cost, low[best.index], high[best.index], same, ratio)
        keep &= (back.index[best.index] == np.arange(len(first))) & (passed | open1)
    asked = np.flatnonzero(keep & open0)
    settled = _settle(first, rows0, other, rows1, asked, bound0, two=True)
    keep[asked] = _passes(settled, same[asked], ratio)
    asked = np.flatnonzero(keep & open1)
    settled = _settle(other, rows1, first, rows0, best.index[asked], bound1, two=ratio is not None)
    keep[asked] = (settled.index == asked) & _passes(settled, same[asked], ratio)
    return np.where(keep, best.index, -1), best.cost


def exact_costs(first: Operand, other: Operand, rows: Ints, columns: Ints) -> Floats64:
    """(M,) float64 costs of M pairs of descriptors."""
    dots = np.empty(len(rows))
    for start in range(0, len(rows), EXACT_ROWS):
        part = slice(start, start + EXACT_ROWS)
        left, right = _take(first, rows[part]), _take(other, columns[part])
        np.einsum("ij,ij->i", left, right, dtype=np.float64, out=dots[part])
    costs: Floats64 = first.halves[rows] + other.halves[columns] - dots
    return np.rint(costs * SNAP) / SNAP


def _take(operand: Operand, rows: Ints) -> npt.NDArray[np.float32]:
    """Some descriptors as float32, which holds them; torch converts float16 ten times as fast as numpy."""
    return torch.from_numpy(operand.descriptors.take(rows, axis=0)).float().numpy()


def _best(count: int, rows: Ints, columns: Ints, costs: Floats64) -> Best:
    """Nearest and second nearest of each of `count` rows among computed costs; of equal ones the first column."""
    cost = np.full(count, np.inf)
    np.minimum.at(cost, rows, costs)
    equal = costs == cost[rows]
    index = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(index, rows[equal], columns[equal])
    others = columns != index[rows]
    second = np.full(count, np.inf)
    np.minimum.at(second, rows[others], costs[others])
    index[np.isinf(cost)] = -1
    return Best(index, cost, second)


def _judge(cost: Floats64, low: Floats64, high: Floats64, same: Floats64, ratio: float | None) -> tuple[Bools, Bools]:
    """Which nearest neighbours certainly pass, and which may, where the second's cost is between `low` and `high`."""
    if ratio is None:
        passed, failed = cost < low, cost > high
    else:
        passed = (cost < low) & (cost <= ratio**2 * low) & (low > same)
        failed = (cost > ratio**2 * high) | (high <= same)
    return passed, ~passed & ~failed


def _passes(best: Best, same: Floats64, ratio: float | None) -> Bools:
    """The ratio test where both neighbours are known."""
    if ratio is None:
        return np.ones(len(best.cost), bool)
    return (best.cost <= ratio**2 * best.second) & (best.second > same)


def _settle(
    first: Operand, rows0: torch.Tensor, other: Operand, rows1: torch.Tensor, rows: Ints, bound: Bounds, two: bool
) -> Best:
    """Exact nearest neighbours of some rows of `first`, and with `two` the costs of their second nearest."""
    if not len(rows):
        return Best(rows, np.empty(0), np.empty(0))
    padded = np.append(rows, np.repeat(rows[:1], -len(rows) % MULTIPLE))
    left = flipped(rows0[torch.from_numpy(padded)])
    seen = scan(left, rows1, Bounds(bound.margin[rows], bound.step), len(other), two)
    best = _best(len(rows), seen.rows, seen.columns, exact_costs(first, other, rows[seen.rows], seen.columns))
    if len(seen.crowded):
        dense = _dense(first, other, rows[seen.crowded])
        best.index[seen.crowded], best.cost[seen.crowded] = dense.index, dense.cost
        best.second[seen.crowded] = dense.second
    return best


def _dense(first: Operand, other: Operand, rows: Ints) -> Best:
    """Exact nearest neighbours of rows with very many candidates (repeated descriptors): every cost is computed."""
    right = other.descriptors.astype(np.float64)
    best = Best(np.empty(len(rows), np.int64), np.empty(len(rows)), np.full(len(rows), np.inf))
    for start in range(0, len(rows), DENSE_ROWS):
        block = rows[start : start + DENSE_ROWS]
        part, each = slice(start, start + len(block)), np.arange(len(block))
        costs = first.halves[block, None] + other.halves - first.descriptors[block].astype(np.float64) @ right.T
        costs = np.rint(costs * SNAP) / SNAP
        best.index[part] = costs.argmin(axis=1)
        best.cost[part] = costs[each, best.index[part]]
        costs[each, best.index[part]] = np.inf
        best.second[part] = costs.min(axis=1)
    return best
