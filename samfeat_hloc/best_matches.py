"""The best-scored matches of each retrieved image, by itself and with the images that see the same points.

The score of a match (how similar the descriptors are) says much about whether it is right: of two night queries on the
embedded town that are hard to find 1.6 % of the matches are right and 3.8 % of the best-scored quarter: three of these
are right together thirteen times as often (docs/localization.md). That alone is not enough, a dozen right ones of an
image lose to what chance finds; with the best of the images that observe the same points they are more, and win.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import IntArray
from samfeat_hloc.correspondences import MatchedImage

MIN_BEST = 24
"""Of an image, or all it has: a share of few is too few to tell a right pose from chance."""


def best_groups(
    matched: Sequence[MatchedImage], share: float, num_covisible: int, min_matches: int
) -> Iterator[IntArray]:
    """Choose correspondences that are more often right than others.

    Args:
        matched: the retrieved images.
        share: of an image's matches, by score; equal scores are kept together, so that files without scores lose none.
        num_covisible: images joined with each, those that observe most points in common with it.
        min_matches: images with fewer are left out.

    Yields:
        (G,) ascending indices into the correspondences that `samfeat_hloc.correspondences.gather` makes of `matched`:
        for each image its best and those of the covisible ones, then for each its own; a choice that comes again is
        left out.
    """
    if not matched:
        return
    rows = [np.column_stack(image.correspondences()) for image in matched]
    index = np.unique(np.concatenate(rows), axis=0, return_inverse=True)[1].reshape(-1)  # in the order of `gather`
    parts = np.split(index, np.cumsum([len(each) for each in rows])[:-1])
    used = [(image, part) for image, part in zip(matched, parts, strict=True) if len(part) >= min_matches]
    best = [part[_best(image.scores()[image.observing()], share)] for image, part in used]
    common = _common_points([image.point3D_ids for image, _ in used])
    given: set[bytes] = set()
    for others in (num_covisible, 0):
        for own, shared in zip(best, common, strict=True):
            nearest = [i for i in np.argsort(-shared, kind="stable")[:others] if shared[i] > 0]
            group = np.unique(np.concatenate([own, *(best[i] for i in nearest)]))
            if group.tobytes() not in given:
                given.add(group.tobytes())
                yield group


def _best(scores: npt.NDArray[np.floating[Any]], share: float) -> npt.NDArray[np.bool_]:
    """Which are among the best share, and those equal to the last of them."""
    count = max(round(share * len(scores)), MIN_BEST)
    if count >= len(scores):
        return np.ones(len(scores), bool)
    known = np.nan_to_num(scores, nan=-np.inf)
    least: npt.NDArray[np.bool_] = known >= np.partition(known, len(known) - count)[len(known) - count]
    return least


def _common_points(observed: Sequence[IntArray]) -> IntArray:
    """(I, I) number of points that two images both observe, -1 of an image with itself."""
    ids = [np.unique(each[each >= 0]) for each in observed]
    column = np.unique(np.concatenate([*ids, np.zeros(0, np.int64)]), return_inverse=True)[1]
    sees = np.zeros((len(ids), int(column.max(initial=-1)) + 1), np.float32)
    sees[np.repeat(np.arange(len(ids)), [len(each) for each in ids]), column] = 1
    common: IntArray = (sees @ sees.T).astype(np.int64)
    np.fill_diagonal(common, -1)
    return common
