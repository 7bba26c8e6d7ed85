"""Which views and pairs of a pack lie in memory together, when not all of them fit."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import ConfigError

Indices = npt.NDArray[np.int64]


class Chapter(NamedTuple):
    """Views that are in memory together, and the pairs drawn while they are: both views of each are here."""

    views: Indices
    pairs: Indices


def plan_chapters(view_source: Indices, pair_views: Indices, resident_views: int, seed: int) -> list[Chapter]:
    """Chapters that cover every view and every pair; every chapter has its share of every source.

    A view whose partners do not fit beside it is in several chapters; a source whose views fit earlier than another's
    starts again. One chapter with everything, when everything fits.

    Args:
        view_source: (V,) source of each view.
        pair_views: (P, 2) views of each pair, both of one source.
        resident_views: largest number of views of a chapter.
        seed: another one gives other company.

    Raises:
        ConfigError: room for less than two views of every source.
    """
    rng = np.random.default_rng([seed, 4111])
    if len(view_source) <= resident_views:
        return [Chapter(rng.permutation(len(view_source)), rng.permutation(len(pair_views)))]
    sources, counts = np.unique(view_source, return_counts=True)
    if resident_views < 2 * len(sources):
        raise ConfigError(
            f"room for {resident_views} views at a time; expected at least {2 * len(sources)}, two of every source"
        )
    parts = []
    pair_source = view_source[pair_views[:, 0]]
    for source, room in zip(sources, _rooms(counts, resident_views), strict=True):
        views, pairs = np.flatnonzero(view_source == source), np.flatnonzero(pair_source == source)
        parts.append(_cover(rng.permutation(views), rng.permutation(pairs), pair_views, room))
    length = max(len(part) for part in parts)
    return [
        Chapter(*(np.concatenate(kind) for kind in zip(*(part[index % len(part)] for part in parts), strict=True)))
        for index in range(length)
    ]


def walk_order(views: Indices, pairs: Indices, pair_views: Indices, rng: np.random.Generator) -> Indices:
    """A random order of views in which those that are paired come soon after each other; any head of it keeps pairs."""
    chapters = _cover(rng.permutation(views), rng.permutation(pairs), pair_views, len(views))
    return chapters[0].views if chapters else views


def _rooms(counts: Indices, resident_views: int) -> list[int]:
    """How many of a chapter's views each source gets: in proportion, two at least."""
    rooms = np.maximum(counts * resident_views // counts.sum(), 2)
    while rooms.sum() > resident_views:
        rooms[rooms.argmax()] -= 1
    return [int(room) for room in rooms]


def _cover(views: Indices, pairs: Indices, pair_views: Indices, room: int) -> list[Chapter]:
    """Chapters of one source, each grown from a pair along further pairs; single views fill them up."""
    cover = _Cover(views, pairs, pair_views)
    found = []
    while cover.open_pairs:
        found.append(cover.grow(room))
    unseen = list(cover.unseen)
    for members, _ in found:
        while unseen and len(members) < room:
            members.append(unseen.pop())
    found += [(unseen[start : start + room], []) for start in range(0, len(unseen), room)]
    return [Chapter(np.array(members, np.int64), np.array(taken, np.int64)) for members, taken in found]


class _Cover:
    """The pairs no chapter holds yet and the views no chapter has shown; dicts, for their order."""

    def __init__(self, views: Indices, pairs: Indices, pair_views: Indices) -> None:
        self.ends = {int(pair): (int(pair_views[pair, 0]), int(pair_views[pair, 1])) for pair in pairs}
        self.open_pairs = dict.fromkeys(self.ends)
        self.unseen = dict.fromkeys(int(view) for view in views)
        self.pairs_of: dict[int, list[int]] = {view: [] for view in self.unseen}
        for pair, ends in self.ends.items():
            for view in ends:
                self.pairs_of[view].append(pair)

    def grow(self, room: int) -> tuple[list[int], list[int]]:
        """Views of the next chapter and the pairs it takes, along pairs as far as the room goes."""
        members: dict[int, None] = {}
        taken: list[int] = []
        frontier: deque[int] = deque()
        while self.open_pairs and len(members) < room:
            if frontier:
                view = frontier.popleft()
                wanted = [end for pair in self.pairs_of[view] if pair in self.open_pairs for end in self.ends[pair]]
            elif len(members) + 2 <= room:
                wanted = list(self.ends[next(iter(self.open_pairs))])
            else:
                break
            for view in wanted:
                if view not in members and len(members) < room:
                    members[view] = None
                    frontier.append(view)
                    self._take(view, members, taken)
        return list(members), taken

    def _take(self, view: int, members: dict[int, None], taken: list[int]) -> None:
        self.unseen.pop(view, None)
        for pair in self.pairs_of[view]:
            if pair in self.open_pairs and all(end in members for end in self.ends[pair]):
                del self.open_pairs[pair]
                taken.append(pair)
