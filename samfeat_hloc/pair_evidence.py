"""Is the geometry that was found between two photographs more than chance?

Mutual nearest neighbours of two photographs of different places are hundreds of random matches, and among these some
epipolar geometry always has dozens of "inliers": robust estimation looks for the one that has most. COLMAP's limit of
15 is then no test at all. Two questions are asked here. How many inliers would chance find among so many matches? And
are inliers that are neighbours in one photograph neighbours in the other, as on any surface? The second tells bricks
that match bricks anywhere in the same row of another wall, which level epipolar lines count as right. The evidence of
both is added; without the second there is none.

What the limits rest on: docs/reconstruction.md.
"""

from __future__ import annotations

import math

import numpy as np

from samfeat_hloc._pycolmap import FloatArray, pycolmap

MAX_LOG10_FALSE_ALARMS = -2.0
"""One pair in a hundred without anything in common may pass by chance."""

MIN_SUPPORT = 0.6
"""Least share of inliers whose neighbour stays a neighbour. Right ones have clearly more."""

CHANCE_SUPPORT = 0.5
"""The same of inliers between different walls: far above pure chance, since a window's corners match together."""

NEIGHBOURS = 5
MAX_POINTS = 300
"""Inliers that support is counted on: neighbours are then some 30 px apart, not two on the same corner."""

CALIBRATED = int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
UNCALIBRATED = int(pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)
SAMPLES = {CALIBRATED: (5, 10), UNCALIBRATED: (7, 3)}
"""Matches of a minimal sample and the models it has: essential and fundamental matrix; the others are homographies."""
HOMOGRAPHY = (4, 1)


def log10_false_alarms(
    config: int, num_matches: int, num_inliers: int, max_error: float, image_size: tuple[int, int]
) -> float:
    """Expected number of geometries with as many inliers among random matches, log10 (a contrario).

    After Moisan and Stival (IJCV 2004): the number of minimal samples times the probability that as many further
    matches agree by chance, a binomial tail that is bounded by Hoeffding's inequality. COLMAP's inliers have a Sampson
    error of at most `max_error`, which allows sqrt(2) times that from the epipolar line, and a line is at most as long
    as the diagonal; for a homography it is a circle around the transferred point.

    Args:
        config: `TwoViewGeometryConfiguration` of the geometry.
        num_matches: that it was estimated from.
        num_inliers: that agree with it.
        max_error: of an inlier, pixels.
        image_size: width and height of the second photograph, pixels.

    Returns:
        0 and above: as good as chance.
    """
    sample, models = SAMPLES.get(config, HOMOGRAPHY)
    width, height = image_size
    strip, circle = 2 * math.sqrt(2) * max_error * math.hypot(width, height), math.pi * max_error**2
    region = strip if config in SAMPLES else circle
    trials = num_matches - sample
    if trials <= 0 or num_inliers <= sample:
        return math.inf
    searched = math.lgamma(num_matches + 1) - math.lgamma(sample + 1) - math.lgamma(trials + 1) + math.log(models)
    return (searched + log_tail(num_inliers - sample, trials, min(1.0, region / (width * height)))) / math.log(10)


def log_tail(hits: int, trials: int, chance: float) -> float:
    """Upper bound of the log probability of `hits` or more in `trials` (Hoeffding 1963, theorem 1)."""
    share = hits / trials
    if share <= chance:
        return 0.0
    if share >= 1:
        return trials * math.log(chance)
    return -trials * (share * math.log(share / chance) + (1 - share) * math.log((1 - share) / (1 - chance)))


def neighbour_support(points0: FloatArray, points1: FloatArray) -> float:
    """Share of matches whose nearest neighbour in one photograph is among the `NEIGHBOURS` nearest in the other.

    Ranks, not distances: zoom, rotation and slant do not matter. The smaller share of both directions.

    Args:
        points0: (M, 2) points of the first photograph.
        points1: (M, 2) their matches in the second.
    """
    chosen = np.unique(np.linspace(0, len(points0) - 1, min(len(points0), MAX_POINTS)).astype(np.int64))
    if len(chosen) < 2:
        return 0.0
    orders = [_neighbours(np.asarray(points)[chosen]) for points in (points0, points1)]
    return min(
        float((near[:, :NEIGHBOURS] == other[:, :1]).any(axis=1).mean()) for near, other in (orders, orders[::-1])
    )


def is_more_than_chance(
    config: int,
    num_matches: int,
    inliers0: FloatArray,
    inliers1: FloatArray,
    max_error: float,
    image_size: tuple[int, int],
) -> bool:
    """Whether the evidence of inliers and of their neighbours suffices.

    Args:
        config: `TwoViewGeometryConfiguration` of the geometry.
        num_matches: that it was estimated from.
        inliers0: (I, 2) inliers in the first photograph, pixels.
        inliers1: (I, 2) in the second.
        max_error: of an inlier, pixels.
        image_size: width and height of the second photograph.
    """
    support = neighbour_support(inliers0, inliers1)
    if support < MIN_SUPPORT:
        return False
    trials = min(len(inliers0), MAX_POINTS)
    coherence = log_tail(round(support * trials), trials, CHANCE_SUPPORT) / math.log(10)
    false_alarms = log10_false_alarms(config, num_matches, len(inliers0), max_error, image_size)
    return false_alarms + coherence <= MAX_LOG10_FALSE_ALARMS


def _neighbours(points: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(M, min(M - 1, NEIGHBOURS)) indices of each point's nearest others, nearest first."""
    squared = np.sum((points[:, None] - points[None]) ** 2, axis=2)
    np.fill_diagonal(squared, np.inf)
    order: np.ndarray[tuple[int, int], np.dtype[np.int64]] = np.argsort(squared, axis=1, kind="stable")
    return order[:, : min(len(points) - 1, NEIGHBOURS)]
