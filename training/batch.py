"""A batch of training: pairs of crops, where their points correspond, and what their teachers say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """B pairs of crops of S x S pixels with N correspondences each; the first axis is the two crops of a pair."""

    images: Tensor  # (2, B, 3, S, S) in [0, 1], photometrically changed
    points: Tensor  # (2, B, N, 2) pixels x, y
    valid: Tensor  # (B, N) bool: the point is seen in both crops
    not_search: Tensor  # (B, N, N) bool: j is no negative of i: too near to it in one of the crops, or not valid
    keypoints: Tensor  # (2, B, 1, S, S) in [0, 1]: keypoint targets, or the labeller's scores where they are distilled
    seen: Tensor  # (2, B, 1, S, S) bool: pixels that count in the detector's loss
    embedding: Tensor  # (2, B, C, S/8, S/8) the teacher's
    embedding_seen: Tensor  # (2, B, 1, S/8, S/8) bool: cells the teacher knows
    groups: Tensor  # (2, B, N) int64 semantic grouping of each point; 0 uncovered, -1 unknown
    edges: Tensor  # (2, B, 1, S/4, S/4) in [0, 1], the teacher's
    edges_seen: Tensor  # (2, B, 1, S/4, S/4) bool
    described: (
        Tensor  # (2, B, N, D) the labeller's descriptors of the points, unit length, or 0; D is 0 with no use of it
    )


PAIR_AXIS = (1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
"""Which axis of each part is B."""


def join(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    if len(batches) == 1:
        return batches[0]
    parts = zip(*batches, strict=True)
    return Batch(*(torch.cat(part, dim=axis) for part, axis in zip(parts, PAIR_AXIS, strict=True)))


def near(points: Tensor, valid: Tensor, radius: float) -> Tensor:
    """The not-search mask (B, N, N) of points (2, B, N, 2) with validity (B, N)."""
    close = torch.stack([torch.cdist(side, side) for side in points]).amin(dim=0) < radius
    return close | ~valid[:, None]
