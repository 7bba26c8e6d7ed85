"""Nearest neighbours on the CPU: a fast product shows the candidates, exact costs decide.

Two images are matched as if every cost (see `operands.py`) had been computed in float64. Bounds settle most
questions: a row has one candidate, a second neighbour is far enough on every account. What they leave open is
computed: the candidates that may be mutual, then the rows and columns whose comparison is closer than the bounds.
Costs closer than 2^-44 are equal and the first index wins, so that the order of summation decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers.candidates import Scan, scan
from samfeat_hloc.matchers.operands import MULTIPLE, Bounds, Floats64, Ints, Operand, Product, multiply

SNAP = 2.0**44
DENSE_ROWS = 256
EXACT_ROWS = 512
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


def match_screened(first: Operand, other: Operand, mutual: bool, ratio: float | None) -> tuple[Ints, Floats64]:
    """Match two images that have at least as many descriptors as the tests need.

    Args:
        first, other: the images.
        mutual, ratio: see `nearest_neighbor.NearestNeighborConf`.

    Returns:
        (N0,) index in the second image or -1, and (N0,) cost of the match.
    """
    factors = multiply(first, other)
    bound0, bound1 = factors.bounds0, factors.bounds1
    seen = scan(factors.left, factors.right, bound0, len(other))
    computed, rows, columns, costs = _computed(first, other, seen, factors, mutual, ratio)
    best = _best(len(first), rows, columns, costs)
    left_out = ~computed
    rest0, rest1 = seen.rest0.copy(), seen.rest1.copy()
    np.minimum.at(rest0, seen.rows[left_out], seen.values[left_out])
    np.minimum.at(rest1, seen.columns[left_out], seen.values[left_out])
    low, high = np.minimum(best.second, bound0.low(rest0)), np.minimum(best.second, bound0.high(rest0))
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
        low, high = np.minimum(back.second, bound1.low(rest1)), np.minimum(back.second, bound1.high(rest1))
        passed, open1 = _judge(best.cost, low[best.index], high[best.index], same, ratio)
        keep &= (back.index[best.index] == np.arange(len(first))) & (passed | open1)
    asked = np.flatnonzero(keep & open0)
    pairs = asked, best.index[asked], best.cost[asked]
    keep[asked] = _settle(first, factors.left, other, factors.right, bound0, *pairs, same[asked], ratio)
    asked = np.flatnonzero(keep & open1)
    pairs = best.index[asked], asked, best.cost[asked]
    keep[asked] = _settle(other, factors.right, first, factors.left, bound1, *pairs, same[asked], ratio)
    return np.where(keep, best.index, -1), best.cost


def _computed(
    first: Operand, other: Operand, seen: Scan, factors: Product, mutual: bool, ratio: float | None
) -> tuple[Bools, Ints, Ints, Floats64]:
    """Exact costs of the candidates that matter: which these are, their rows, columns and costs.

    Where matches are mutual, first those that may be the nearest in their row and in their column. Then those that may
    be nearer (by the ratio) than the pairs that are mutual among these.
    """
    if not mutual:
        every = np.ones(len(seen.rows), bool)
        return every, seen.rows, seen.columns, exact_costs(first, other, seen.rows, seen.columns)
    low = np.maximum(factors.bounds0.low(seen.values, seen.rows), factors.bounds1.low(seen.values, seen.columns))
    least = seen.rest1.copy()
    np.minimum.at(least, seen.columns, seen.values)
    computed = low <= factors.bounds1.high(least)[seen.columns]
    rows, columns = seen.rows[computed], seen.columns[computed]
    costs = exact_costs(first, other, rows, columns)
    best, back = _best(len(first), rows, columns, costs), _best(len(other), columns, rows, costs)
    paired = np.flatnonzero((best.index >= 0) & (back.index[best.index] == np.arange(len(first))))
    within0, within1 = np.full(len(first), -np.inf), np.full(len(other), -np.inf)
    within0[paired] = within1[best.index[paired]] = best.cost[paired] / (ratio or 1) ** 2
    rivals = ~computed & ((low <= within0[seen.rows]) | (low <= within1[seen.columns]))
    more = exact_costs(first, other, seen.rows[rivals], seen.columns[rivals])
    rows, columns = np.append(rows, seen.rows[rivals]), np.append(columns, seen.columns[rivals])
    return computed | rivals, rows, columns, np.append(costs, more)


def exact_costs(first: Operand, other: Operand, rows: Ints, columns: Ints) -> Floats64:
    """(M,) float64 costs of M pairs of descriptors."""
    dots = np.empty(len(rows))
    for start in range(0, len(rows), EXACT_ROWS):
        part = slice(start, start + EXACT_ROWS)
        left = first.descriptors.take(rows[part], axis=0).astype(np.float64)
        right = other.descriptors.take(columns[part], axis=0).astype(np.float64)
        np.einsum("ij,ij->i", left, right, out=dots[part])
    costs: Floats64 = first.halves[rows] + other.halves[columns] - dots
    return np.rint(costs * SNAP) / SNAP


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


def _settle(
    first: Operand,
    left: torch.Tensor,
    other: Operand,
    right: torch.Tensor,
    bound: Bounds,
    rows: Ints,
    columns: Ints,
    costs: Floats64,
    same: Floats64,
    ratio: float | None,
) -> Bools:
    """Whether pairs of a row of `first` and a column of `other` pass the row's test: every rival is computed."""
    if not len(rows):
        return np.empty(0, bool)
    padded = np.append(rows, np.repeat(rows[:1], -len(rows) % MULTIPLE))
    within = costs if ratio is None else np.maximum(costs / ratio**2, same)
    some = replace(bound, margin=bound.margin[rows])
    seen = scan(left[torch.from_numpy(padded)], right, some, len(other), within)
    rivals = seen.columns != columns[seen.rows]
    each, index = seen.rows[rivals], seen.columns[rivals]
    best = _best(len(rows), each, index, exact_costs(first, other, rows[each], index))
    if len(seen.crowded):
        dense, crowded = _dense(first, other, rows[seen.crowded]), seen.crowded
        own = dense.index == columns[crowded]
        best.index[crowded] = np.where(own, len(other), dense.index)
        best.cost[crowded] = np.where(own, dense.second, dense.cost)
    nearest = (costs < best.cost) | ((costs == best.cost) & (columns < best.index))
    return nearest if ratio is None else nearest & (costs <= ratio**2 * best.cost) & (best.cost > same)


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
