"""Which verified pairs does the graph of photographs confirm? A guard against places that look alike.

The two fronts of a building can agree with one camera motion in hundreds of matches, and no test of the pair alone
tells: it is the same windows. The graph does. A pair is confirmed by itself when most of its matches agree. The others
are taken in the order of their inliers and are confirmed when they join two parts of the graph, or photographs that
confirmed pairs already bring within a few steps. A pair that would short-cut a long chain of stronger ones claims that
two places are one which the chain keeps apart, and the chain is believed. The price: where photographs go around in a
loop and all pairs are weak at one place, the loop stays open there, until `loop_closing` has a model to judge by.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap

logger = logging.getLogger(__name__)

MAX_STEPS = 2
"""Longest chain of confirmed pairs that a weaker pair may short-cut. Photographs with a view in common have a third
that sees what both see; see docs/reconstruction.md."""

MOST = 0.6
"""Share of a pair's matches that agree, from which it needs no confirmation. Fronts that look alike reach a half."""

TABLE = "samfeat_set_aside"
IdPair = tuple[int, int]


def unconfirmed_pairs(
    inliers: Mapping[IdPair, int], matches: Mapping[IdPair, int], max_steps: int = MAX_STEPS
) -> list[IdPair]:
    """Pairs that the graph does not confirm, strongest first.

    Args:
        inliers: verified matches of each pair of image ids.
        matches: all matches of each pair.
        max_steps: longest chain of confirmed pairs that a weaker one may short-cut.
    """
    graph: dict[int, set[int]] = defaultdict(set)
    parent: dict[int, int] = {}
    found = []
    sure = {pair for pair, count in inliers.items() if count >= MOST * matches[pair]}
    for pair in sorted(inliers, key=lambda pair: (pair not in sure, -inliers[pair], pair)):
        roots = _root(parent, pair[0]), _root(parent, pair[1])
        if pair not in sure and roots[0] == roots[1] and not _within(graph, *pair, max_steps):
            found.append(pair)
            continue
        parent[roots[0]] = roots[1]
        graph[pair[0]].add(pair[1])
        graph[pair[1]].add(pair[0])
    return found


def set_aside_unconfirmed(database: Path, max_steps: int = MAX_STEPS) -> int:
    """Delete the geometry of unconfirmed pairs from a COLMAP database; their matches stay. How many there are.

    Which pairs these are is kept in the database, in a table of its own: asked again, also after a kill or in a copy of
    the database, it leaves the same pairs.
    """
    pairs = pairs_set_aside(database)
    if pairs is None:
        with pycolmap.Database.open(database) as opened:
            inliers = _by_pair(*opened.read_two_view_geometry_num_inliers())
            pairs = unconfirmed_pairs(inliers, _by_pair(*opened.read_num_matches()), max_steps)
        with _connection(database) as connection:
            connection.execute(f"CREATE TABLE {TABLE} (image_id1 INTEGER, image_id2 INTEGER)")
            connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?)", pairs)
        if pairs:
            logger.info(
                "%d of %d verified pairs set aside: they join photographs that stronger pairs keep apart",
                len(pairs),
                len(inliers),
            )
    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for pair in pairs:
            opened.delete_two_view_geometry(*pair)
    return len(pairs)


def pairs_set_aside(database: Path) -> list[IdPair] | None:
    """Pairs of image ids that were set aside; None when nobody looked."""
    with _connection(database) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone():
            return None
        return [(int(a), int(b)) for a, b in connection.execute(f"SELECT image_id1, image_id2 FROM {TABLE}")]


def restore(database: Path, geometries: Mapping[IdPair, pycolmap.TwoViewGeometry]) -> None:
    """Give pairs that were set aside their geometry back."""
    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for pair, geometry in geometries.items():
            opened.write_two_view_geometry(*pair, geometry)
    with _connection(database) as connection:
        connection.executemany(f"DELETE FROM {TABLE} WHERE image_id1 = ? AND image_id2 = ?", list(geometries))


@contextmanager
def _connection(database: Path) -> Iterator[sqlite3.Connection]:
    """One transaction."""
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


def _by_pair(pair_ids: Sequence[int], counts: Sequence[int]) -> dict[IdPair, int]:
    found = zip(pair_ids, counts, strict=True)
    return {pycolmap.pair_id_to_image_pair(pair_id): count for pair_id, count in found if count}


def _root(parent: dict[int, int], node: int) -> int:
    while (above := parent.setdefault(node, node)) != node:
        parent[node] = node = parent[above]
    return node


def _within(graph: Mapping[int, set[int]], start: int, goal: int, steps: int) -> bool:
    """Whether `goal` is at most `steps` edges from `start`."""
    seen = front = {start}
    for _ in range(steps):
        front = set().union(*(graph[node] for node in front)) - seen
        if goal in front:
            return True
        seen = seen | front
    return False
