"""The parts of a pack: points, embeddings, maps, and which views lie in memory together."""

from __future__ import annotations

import numpy as np
import pytest

from samfeat_hloc.errors import InputError
from training.packing.chapters import plan_chapters
from training.packing.codec import (
    decode_points,
    encode_points,
    restore_embedding,
    shrink_edges,
    shrink_embedding,
    shrink_groups,
)


def test_points_keep_a_sixteenth_of_a_pixel() -> None:
    rng = np.random.default_rng(0)
    for width in (2, 4):
        points = rng.uniform(-0.9, 2000, (500, width)).astype(np.float32)
        back = decode_points(encode_points(points), "test")
        assert back.shape == points.shape
        order = [np.abs(back - point).max(axis=1).argmin() for point in points]
        assert np.abs(back[order] - points).max() <= 1 / 32
        assert decode_points(encode_points(points[:0]), "test").shape == (0, width)
    with pytest.raises(InputError, match="outside its image"):
        encode_points(np.array([[5000.0, 0]], np.float32))


def test_embeddings_keep_their_relations() -> None:
    rng = np.random.default_rng(0)
    full = np.einsum("ck,khw->chw", rng.normal(size=(256, 12)), rng.normal(size=(12, 24, 32))).astype(np.float16)
    small = shrink_embedding(full, None, 32, 16)
    back = restore_embedding(small.values, small.scale).astype(np.float64)
    assert small.values.shape == (24, 32, 16)
    assert small.extent == (32, 24)

    def cosines(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1).astype(np.float64)
        flat /= np.linalg.norm(flat, axis=0)
        return flat.T @ flat

    error = np.abs(cosines(full) - cosines(back))
    assert error.max() < 0.02
    assert small.error == pytest.approx(error.mean(), rel=0.2)
    assert (
        np.abs(cosines(restore_embedding(*vars_of(shrink_embedding(full, None, 32, 2)))) - cosines(full)).mean() > 0.1
    )


def vars_of(embedding: object) -> tuple[np.ndarray, np.ndarray]:
    return embedding.values, embedding.scale  # type: ignore[attr-defined]


def test_fewer_cells_stay_in_place() -> None:
    """A ramp along x has the same value at the same place of the image, before and after."""
    width, extent = 63, 62.4
    ramp = np.stack([np.ones((40, width)), np.tile(np.arange(width), (40, 1)) / 20]).astype(np.float16)
    small = shrink_embedding(ramp, (extent, 40.0), 32, 4)
    back = restore_embedding(small.values, small.scale)
    assert back.shape == (4, 20, 32)
    assert small.extent == (extent / 2, 20)
    first, later = back[:, 5, 0].astype(float), back[:, 5, 10].astype(float)  # old columns 0 and 1, 20 and 21
    wanted = np.array([1.0, 0.5 / 20]), np.array([1.0, 20.5 / 20])
    assert cosine(first, later) == pytest.approx(cosine(*wanted), abs=0.005)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_groups_take_the_nearest_and_edges_the_strongest() -> None:
    groups = np.arange(100 * 200, dtype=np.int16).reshape(100, 200) // 4
    small = shrink_groups(groups, 50)
    assert small.shape == (25, 50)
    assert set(small.ravel()) <= set(groups.ravel())
    assert small[3, 7] == groups[14, 30]
    edges = np.zeros((100, 200), np.uint8)
    edges[:, 101] = 200  # a line thinner than a cell
    assert (shrink_edges(edges, 50).max(axis=1) == 200).all()
    assert (shrink_edges(edges, 50) > 0).sum() == 25
    assert shrink_edges(edges, 200) is not None and (shrink_edges(edges, 200) == edges).all()


def random_pairs(rng: np.random.Generator, low: int, high: int, number: int) -> np.ndarray:
    drawn = np.sort(rng.integers(low, high, (number, 2)), axis=1)
    return np.unique(drawn[drawn[:, 0] < drawn[:, 1]], axis=0)


@pytest.mark.parametrize("resident", [8, 25, 60])
def test_chapters_cover_every_view_and_pair_and_fit(resident: int) -> None:
    rng = np.random.default_rng(0)
    source = np.repeat([0, 1, 2], [50, 40, 10])
    pairs = np.concatenate([random_pairs(rng, 50, 90, 120), random_pairs(rng, 90, 100, 8)])
    chapters = plan_chapters(source, pairs, resident, seed=1)
    assert len(chapters) > 1
    seen_views, seen_pairs = set(), set()
    for views, held in chapters:
        assert len(views) == len(set(views)) <= resident
        assert set(pairs[held].ravel()) <= set(views)
        assert set(source[views]) == {0, 1, 2}
        seen_views |= set(views)
        seen_pairs |= set(held)
    assert seen_views == set(range(100))
    assert seen_pairs == set(range(len(pairs)))
    again = plan_chapters(source, pairs, resident, seed=1)
    assert all((a.views == b.views).all() and (a.pairs == b.pairs).all() for a, b in zip(chapters, again, strict=True))
    other = plan_chapters(source, pairs, resident, seed=2)
    assert set(other[0].views) != set(chapters[0].views)
