"""The four pair generators, against plain formulas and with the inputs that go wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samfeat_hloc import (
    pairs_from_covisibility,
    pairs_from_exhaustive,
    pairs_from_poses,
    pairs_from_retrieval,
)
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.global_features import GlobalWriter
from samfeat_hloc.formats.pairs import read_pairs, retrieved

COUNT_DB, COUNT_QUERIES = 23, 7


def write_global(path: Path, vectors: dict[str, np.ndarray], sha: str = "codebook") -> Path:
    with GlobalWriter(path, {"name": "vlad"}, sha) as writer:
        for name, vector in vectors.items():
            writer.add(name, vector.astype(np.float32))
    return path


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = [f"db/{n:02d}.jpg" for n in range(COUNT_DB)] + [f"query/{n}.jpg" for n in range(COUNT_QUERIES)]
    rows = rng.normal(size=(len(names), 12))
    return dict(zip(names, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))


@pytest.mark.parametrize("block", [1, 3, 1000])
@pytest.mark.parametrize("count", [1, 5, 100])
def test_retrieval_equals_sorting_everything(
    tmp_path: Path, vectors: dict[str, np.ndarray], block: int, count: int
) -> None:
    path = write_global(tmp_path / "g.h5", vectors)
    names = list(vectors)
    rows = np.stack([vectors[name] for name in names]).astype(np.float32)
    found = retrieved(pairs_from_retrieval.retrieve(path, dict.fromkeys(names, path), names, names, count, block=block))
    for i, name in enumerate(names):
        similarity = rows @ rows[i]
        similarity[i] = -np.inf  # never itself
        assert found[name] == [names[j] for j in np.argsort(-similarity)[: min(count, len(names) - 1)]]


def test_query_and_database_by_prefix_list_and_default(tmp_path: Path, vectors: dict[str, np.ndarray]) -> None:
    path = write_global(tmp_path / "g.h5", vectors)
    output = tmp_path / "pairs.txt"
    pairs_from_retrieval.main(path, output, 4, query_prefix="query", db_prefix="db")
    by_prefix = read_pairs(output)
    assert len(by_prefix) == 4 * COUNT_QUERIES
    pairs_from_retrieval.main(path, output, 4, query_prefix="query")  # the database is what is no query
    assert read_pairs(output) == by_prefix
    listed = tmp_path / "day_queries.txt"
    listed.write_text("".join(f"query/{n}.jpg PINHOLE 1 1 1 1 1 1\n" for n in range(COUNT_QUERIES)))
    pairs_from_retrieval.main(
        path, output, 4, query_list=tmp_path / "*_queries.txt", db_prefix=["db/0", "db/1", "db/2"]
    )
    assert read_pairs(output) == by_prefix
    pairs_from_retrieval.main(path, output, 4)  # all with all, an image never with itself
    assert len(read_pairs(output)) == 4 * len(vectors)


def test_database_in_several_files(tmp_path: Path, vectors: dict[str, np.ndarray]) -> None:
    path = write_global(tmp_path / "g.h5", vectors)
    output = tmp_path / "pairs.txt"
    pairs_from_retrieval.main(path, output, 4, query_prefix="query", db_prefix="db")
    wanted = read_pairs(output)
    parts = [
        write_global(tmp_path / f"{part}.h5", {n: v for n, v in vectors.items() if n.startswith(prefixes)})
        for part, prefixes in (("even", ("db/0", "db/2")), ("odd", ("db/1",)))
    ]
    queries = write_global(tmp_path / "q.h5", {n: v for n, v in vectors.items() if n.startswith("query")})
    pairs_from_retrieval.main(queries, output, 4, db_descriptors=parts)
    assert read_pairs(output) == wanted


def test_retrieval_refuses(tmp_path: Path, vectors: dict[str, np.ndarray]) -> None:
    path = write_global(tmp_path / "g.h5", vectors)
    other = write_global(tmp_path / "other.h5", vectors, sha="another")
    output = tmp_path / "pairs.txt"
    with pytest.raises(InputError, match="different codebooks"):
        pairs_from_retrieval.main(path, output, 4, db_descriptors=other)
    with pytest.raises(InputError, match=r"no query image .* begins with night"):
        pairs_from_retrieval.main(path, output, 4, query_prefix="night")
    with pytest.raises(InputError, match=r"'00.jpg'; the nearest .*'db/00.jpg'"):
        pairs_from_retrieval.main(path, output, 4, query_prefix="query", db_list=["00.jpg"])
    with pytest.raises(InputError, match="does not exist"):
        pairs_from_retrieval.main(tmp_path / "none.h5", output, 4)
    with pytest.raises(InputError, match="num_matched is 0"):
        pairs_from_retrieval.main(path, output, 0)
    assert not output.exists()


def test_images_without_features_match_nothing(
    tmp_path: Path, vectors: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    vectors["query/0.jpg"] = vectors["db/03.jpg"] = np.zeros(12)
    path = write_global(tmp_path / "g.h5", vectors)
    output = tmp_path / "pairs.txt"
    pairs_from_retrieval.main(path, output, 100, query_prefix="query", db_prefix="db")
    pairs = read_pairs(output)
    assert len(pairs) == (COUNT_QUERIES - 1) * (COUNT_DB - 1)
    assert not any("query/0.jpg" in pair or "db/03.jpg" in pair for pair in pairs)
    assert "1 of 7 queries have no database image" in caplog.text


def test_exhaustive(tmp_path: Path) -> None:
    output = tmp_path / "pairs.txt"
    pairs_from_exhaustive.main(output, ["a", "b", "c"])
    assert read_pairs(output) == [("a", "b"), ("a", "c"), ("b", "c")]
    pairs_from_exhaustive.main(output, ["a", "b"], ref_list=["b", "c"])
    assert read_pairs(output) == [("a", "b"), ("a", "c"), ("b", "c")]
    many = [str(n) for n in range(1000)]
    with pytest.raises(InputError, match="499500 pairs are more than 250000; use pairs_from_retrieval"):
        pairs_from_exhaustive.main(output, many)
    pairs_from_exhaustive.main(output, many, force=True)
    with pytest.raises(InputError, match="at least two"):
        pairs_from_exhaustive.main(output, ["a"])
    with pytest.raises(InputError, match="image_list or features"):
        pairs_from_exhaustive.main(output)


def ring(count: int) -> np.ndarray:
    """(N, 3, 4) cam_from_world on a circle, looking outwards, each also turned about its optical axis."""
    poses = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        axis = np.array([np.cos(angle), np.sin(angle), 0])
        side = np.array([-np.sin(angle), np.cos(angle), 0])
        up = np.array([0, 0, 1.0])
        roll = 1.1 * i
        right = np.cos(roll) * side + np.sin(roll) * up
        rotation = np.stack([right, np.cross(axis, right), axis])
        poses.append(np.column_stack([rotation, -rotation @ (5 * axis)]))
    return np.array(poses)


def test_near_pairs() -> None:
    names = [str(i) for i in range(36)]
    pairs = retrieved(pairs_from_poses.near_pairs(names, ring(36), 4, 30.0))
    for i in range(36):  # 10 degrees apart: two on each side are below 30, three are not
        assert set(pairs[str(i)]) == {str((i + d) % 36) for d in (-2, -1, 1, 2)}
        assert set(pairs[str(i)][:2]) == {str((i + d) % 36) for d in (-1, 1)}
    assert pairs_from_poses.near_pairs(names, ring(36), 4, 5.0) == []


def test_near_pairs_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    names, poses = [str(i) for i in range(36)], ring(36)
    whole = pairs_from_poses.near_pairs(names, poses, 4, 30.0)
    monkeypatch.setattr(pairs_from_poses, "BLOCK", 7)
    assert pairs_from_poses.near_pairs(names, poses, 4, 30.0) == whole


def fake_model(tracks: list[list[int]]) -> Any:
    ids = sorted({image for track in tracks for image in track} | {9})
    return SimpleNamespace(
        images={i: SimpleNamespace(name=f"{i}.jpg") for i in ids},
        points3D={
            k: SimpleNamespace(track=SimpleNamespace(elements=[SimpleNamespace(image_id=i) for i in track]))
            for k, track in enumerate(tracks)
        },
    )


def test_covisible_pairs() -> None:
    model = fake_model([[1, 2, 3], [1, 2], [1, 3, 3], [1, 2], [4, 5]])  # image 3 sees one point twice: counted once
    pairs = retrieved(pairs_from_covisibility.covisible_pairs(model, 2))
    assert pairs == {
        "1.jpg": ["2.jpg", "3.jpg"],
        "2.jpg": ["1.jpg", "3.jpg"],
        "3.jpg": ["1.jpg", "2.jpg"],
        "4.jpg": ["5.jpg"],
        "5.jpg": ["4.jpg"],
    }
    assert pairs_from_covisibility.covisible_pairs(model, 1)[0] == ("1.jpg", "2.jpg")


def test_no_model(tmp_path: Path) -> None:
    for stage in (pairs_from_covisibility, pairs_from_poses):
        with pytest.raises(InputError, match="has no COLMAP model"):
            stage.main(tmp_path, tmp_path / "pairs.txt", 5)
