"""2D-3D correspondences of a query, put together from its matches with the retrieved images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import IntArray


@dataclass(frozen=True)
class Correspondences:
    """2D-3D correspondences of a query; every pair of keypoint and 3D point once, in ascending order.

    Attributes:
        keypoints: (C,) indices of the query's keypoints.
        points3D: (C,) ids of 3D points.
        votes: (C,) number of retrieved images whose match says so.
        num_matches: matches before repetitions were put together: the sum of the votes.
    """

    keypoints: IntArray
    points3D: IntArray
    votes: IntArray

    @property
    def num_matches(self) -> int:
        """Matches with keypoints that observe a 3D point."""
        return int(self.votes.sum())

    def __len__(self) -> int:
        return len(self.keypoints)


class MatchedImage(NamedTuple):
    """A query's matches with one image of the map.

    Attributes:
        matches: (M, 2) indices of the query's and of the image's keypoints.
        point3D_ids: (N,) id of the 3D point that each keypoint of the image observes, -1 for none.
        scores: gives the (M,) scores of the matches, higher is better; called only when they are wanted.
    """

    matches: npt.NDArray[np.integer[Any]]
    point3D_ids: IntArray
    scores: Callable[[], npt.NDArray[np.floating[Any]]]

    def observing(self) -> npt.NDArray[np.bool_]:
        """(M,) which matches are with a keypoint that observes a 3D point: C of them."""
        seen: npt.NDArray[np.bool_] = self.point3D_ids[self.matches[:, 1]] >= 0
        return seen

    def correspondences(self) -> tuple[IntArray, IntArray]:
        """(C,) indices of the query's keypoints and (C,) ids of 3D points."""
        chosen = self.matches[self.observing()]
        return chosen[:, 0].astype(np.int64), self.point3D_ids[chosen[:, 1]]


def gather(matched: Sequence[MatchedImage]) -> Correspondences:
    """2D-3D correspondences of a query from its matches with several images."""
    parts = [image.correspondences() for image in matched] or [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    keypoints, points3D = (np.concatenate(column) for column in zip(*parts, strict=True))
    return count_votes(keypoints, points3D)


def count_votes(keypoints: IntArray, points3D: IntArray) -> Correspondences:
    """Each pair of keypoint and 3D point once, in ascending order, with how often it is there.

    One number a pair sorts ten times as fast as rows of two (12,000 of them). `count_rows`, the plain way, serves ids
    for which there is no such number in 64 bits, and holds this to the same result by test.
    """
    span = int(points3D.max()) + 1 if len(points3D) else 1
    if len(keypoints) and (int(keypoints.max()) + 1) * span > np.iinfo(np.int64).max:
        return count_rows(keypoints, points3D)
    unique, votes = np.unique(keypoints * span + points3D, return_counts=True)
    return Correspondences(unique // span, unique % span, votes.astype(np.int64))


def count_rows(keypoints: IntArray, points3D: IntArray) -> Correspondences:
    """`count_votes` in the plain way: rows of two, sorted."""
    unique, votes = np.unique(np.column_stack([keypoints, points3D]), axis=0, return_counts=True)
    return Correspondences(unique[:, 0], unique[:, 1], votes.astype(np.int64))
