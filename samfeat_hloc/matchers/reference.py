"""Nearest-neighbour matching in plain steps and float64: what the fast matcher is tested against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers.nearest_neighbor import NearestNeighborConf


def match_reference(features0: Features, features1: Features, conf: NearestNeighborConf) -> npt.NDArray[np.int32]:
    """Match two images by their full distance matrix.

    Returns:
        (N0,) int32 index in the second image of each keypoint of the first, -1 for none.
    """
    weighted = conf.weighting == "attention"
    first = (features0.weighted_descriptors if weighted else features0.descriptors).astype(np.float64)
    second = (features1.weighted_descriptors if weighted else features1.descriptors).astype(np.float64)
    matches = np.full(len(first), -1, np.int32)
    needed = 2 if conf.ratio is not None else 1
    if len(second) < needed or len(first) < (needed if conf.mutual else 1):
        return matches
    if conf.metric == "dot":
        cost = -(first @ second.T)
    else:
        cost = np.stack([np.linalg.norm(second - descriptor, axis=1) for descriptor in first])
    nearest = cost.argmin(axis=1)
    nearest_back = cost.argmin(axis=0)
    for i, j in enumerate(nearest):
        if conf.mutual and nearest_back[j] != i:
            continue
        if conf.distance is not None and cost[i, j] > conf.distance:
            continue
        if conf.ratio is not None:
            others = [np.delete(cost[i], j).min()]
            if conf.mutual:
                others.append(np.delete(cost[:, j], i).min())
            if any(second_cost == 0 or cost[i, j] > conf.ratio * second_cost for second_cost in others):
                continue
        matches[i] = j
    return matches
