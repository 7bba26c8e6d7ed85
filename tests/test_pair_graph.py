"""Pairs that a graph of photographs confirms, and those that short-cut it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.pair_graph import MAX_STEPS, pairs_set_aside, restore, set_aside_unconfirmed, unconfirmed_pairs


def chain(count: int, reach: int = 3) -> dict[tuple[int, int], int]:
    """Photographs in a row, each with inliers with the next ones: fewer with farther ones."""
    return {(i, j): 900 // (j - i) + i for i in range(count) for j in range(i + 1, min(i + 1 + reach, count))}


def unconfirmed(
    inliers: dict[tuple[int, int], int], max_steps: int = MAX_STEPS, matches: int = 2000
) -> list[tuple[int, int]]:
    return unconfirmed_pairs(inliers, dict.fromkeys(inliers, matches), max_steps)


def test_neighbours_are_confirmed() -> None:
    assert unconfirmed(chain(30)) == []
    assert unconfirmed({}) == []


def test_a_weaker_short_cut_of_a_long_chain_is_set_aside() -> None:
    look_alike = {(3, 24): 160, (4, 25): 150}
    assert unconfirmed(chain(30) | look_alike) == [(3, 24), (4, 25)]


def test_a_pair_most_of_whose_matches_agree_closes_the_loop() -> None:
    loop = chain(30) | {(0, 29): 700, (1, 29): 200, (0, 28): 180}
    assert unconfirmed(loop, matches=1000) == []
    assert unconfirmed(loop, matches=1150) == []
    assert unconfirmed(loop, matches=1200) == [(0, 29), (1, 29), (0, 28)]  # 58 %, as two fronts of one building may


def test_photographs_around_a_corner_do_not_confirm_each_other() -> None:
    """Walls that meet at a corner look alike, too: their photographs are three steps apart at the nearest."""
    around = chain(30, reach=2)
    assert unconfirmed(around | {(10, 16): 160}) == [(10, 16)]
    assert unconfirmed(around | {(10, 14): 160}) == []


def test_a_weak_pair_that_joins_two_parts_is_kept() -> None:
    parts = {pair: count for pair, count in chain(30).items() if (pair[0] < 15) == (pair[1] < 15)}
    assert unconfirmed(parts | {(0, 29): 20}) == []
    assert unconfirmed(parts | {(0, 29): 20, (14, 15): 19}) == [(14, 15)]  # the other end of a long way


def test_steps_are_the_limit() -> None:
    row = {(i, i + 1): 100 for i in range(4)} | {(0, 4): 50}
    assert unconfirmed(row, max_steps=4) == []
    assert unconfirmed(row, max_steps=3) == [(0, 4)]


def test_order_of_the_input_does_not_matter() -> None:
    pairs = chain(20) | {(2, 15): 100, (1, 16): 100}
    shuffled = dict(sorted(pairs.items(), key=lambda item: hash(item) % 97))
    assert list(shuffled) != list(pairs)
    assert unconfirmed(shuffled) == unconfirmed(pairs) == [(1, 16), (2, 15)]


def test_setting_aside_keeps_matches_and_can_be_repeated(tmp_path: Path) -> None:
    pairs = {pair: 15 + count // 10 for pair, count in (chain(12) | {(0, 11): 20}).items()}
    path = tmp_path / "database.db"
    with pycolmap.Database.open(path) as database:
        camera = database.write_camera(pycolmap.Camera(model="SIMPLE_PINHOLE", width=9, height=9, params=[9, 4, 4]))
        ids = [database.write_image(pycolmap.Image(name=f"{i}.jpg", camera_id=camera)) for i in range(12)]
        for (i, j), count in pairs.items():
            matches = np.stack([np.arange(3 * count)] * 2, axis=1).astype(np.uint32)
            database.write_matches(ids[i], ids[j], matches)
            database.write_two_view_geometry(
                ids[i], ids[j], pycolmap.TwoViewGeometry(config=2, inlier_matches=matches[:count])
            )
    assert pairs_set_aside(path) is None
    assert set_aside_unconfirmed(path) == set_aside_unconfirmed(path) == 1
    assert pairs_set_aside(path) == [(ids[0], ids[11])]
    with pycolmap.Database.open(path) as database:
        assert database.num_verified_image_pairs() == len(pairs) - 1
        assert not database.exists_two_view_geometry(ids[0], ids[11])
        matches = database.read_matches(ids[0], ids[11])
        assert len(matches) == 3 * pairs[(0, 11)]
    restore(path, {(ids[0], ids[11]): pycolmap.TwoViewGeometry(config=2, inlier_matches=matches)})
    assert pairs_set_aside(path) == [] and set_aside_unconfirmed(path) == 0
    with pycolmap.Database.open(path) as database:
        assert database.num_verified_image_pairs() == len(pairs)
