"""The matching stage: survives SIGKILL, checks its inputs first, reads every image once, refuses stale matches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from samfeat_hloc import match_features
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import FeatureReader, Features, FeatureWriter
from samfeat_hloc.formats.h5store import journal_path
from samfeat_hloc.formats.journal import count_records
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import write_pairs
from samfeat_hloc.matchers import get_matcher
from samfeat_hloc.matchers.schedule import PreparedCache, match_pairs, order_pairs
from tests.kill import kill_after, run

SLOW_STAGE = """
import sys, time
from pathlib import Path
from samfeat_hloc import match_features
from samfeat_hloc.errors import run_cli
fast = match_features.match_pairs
def slow(*arguments):
    for pair, result in fast(*arguments):
        time.sleep(0.03)
        with Path(sys.argv[4]).open("a") as log:
            log.write("x")
        yield pair, result
match_features.match_pairs = slow
run_cli(lambda: match_features.main("nn-mutual", sys.argv[1], sys.argv[2], matches=sys.argv[3]))
"""
NAMES = [f"db/{number}.jpg" for number in range(6)] + ["q/empty.jpg"]


def make(count: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = np.random.default_rng(0).normal(size=(60, 16))[:count] + 0.5 * rng.normal(size=(count, 16))
    descriptors = (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)
    ones = np.ones(count, np.float32)
    return Features(rng.uniform(0, 99, (count, 2)).astype(np.float32), descriptors, ones, ones, (100, 100))


def write_features(path: Path, sha: str = "w", count: int = 40, **kwargs: bool) -> Path:
    with FeatureWriter(path, {"name": "test"}, sha, **kwargs) as writer:
        for number, name in enumerate(NAMES):
            writer.add(name, make(0 if "empty" in name else count + number, number))
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write_features(tmp_path / "f.h5")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.txt"
    write_pairs(path, [(a, b) for a in NAMES for b in NAMES if a != b])  # every pair in both orders
    return path


def test_all_pairs_once_and_images_read_once(tmp_path: Path, features: Path, pairs: Path) -> None:
    path = match_features.main("nn-mutual", pairs, features)
    assert path == tmp_path / "f_nn-mutual_pairs.h5"
    matcher = get_matcher("nn-mutual")
    with MatchReader(path) as reader, FeatureReader(features) as source:
        assert len(reader.keys) == len(NAMES) * (len(NAMES) - 1) // 2
        for a in NAMES:
            for b in NAMES:
                if a < b:
                    found, scores = reader.read(a, b)
                    np.testing.assert_array_equal(found, matcher(source.read(a), source.read(b)).indices())
                    assert len(found) == len(scores)
        assert len(reader.read("q/empty.jpg", "db/1.jpg")[0]) == 0
        wanted = [(a, b) for a in NAMES for b in NAMES if a < b]
        cache = PreparedCache(matcher, 2**30)
        assert len(list(match_pairs(matcher, wanted, source, source, cache))) == len(wanted)
        assert cache.reads == len(NAMES)
        small = PreparedCache(matcher, 1)
        rows = list(match_pairs(matcher, wanted, source, source, small))
        assert len(rows) == len(wanted)  # a small cache reads more often, with the same result


def test_a_small_cache_reads_each_image_rarely(tmp_path: Path) -> None:
    """Blocks of images: 40 images in all pairs, memory for 12."""
    names = [f"{number}.jpg" for number in range(40)]
    path = tmp_path / "f.h5"
    with FeatureWriter(path, {"name": "test"}, "w") as writer:
        for number, name in enumerate(names):
            writer.add(name, make(50, number))
    wanted = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    matcher = get_matcher("nn-mutual")
    results = []
    for images in (100, 12, 1):
        with FeatureReader(path) as source:
            cache = PreparedCache(matcher, images * matcher.prepare(make(50, 0)).nbytes)
            order = order_pairs(wanted, source, source, cache)
            assert sorted(order) == sorted(wanted)
            results.append(dict(match_pairs(matcher, order, source, source, cache)))
        assert cache.reads <= {100: 40, 12: 40 * 40 / 2 / 6 + 40, 1: 41 * 40}[images]
    for found in results[1:]:
        for pair in wanted:
            np.testing.assert_array_equal(found[pair].matches0, results[0][pair].matches0)


def test_a_defect_of_the_matcher_surfaces_and_finished_pairs_stay(
    tmp_path: Path, features: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = get_matcher("nn-mutual")
    threads = torch.get_num_threads()
    calls = 0

    def broken(first: object, others: list[object]) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("out of memory")
        return real(first, others)  # type: ignore[arg-type]

    real = matcher.match_many
    monkeypatch.setattr(matcher, "match_many", broken)
    monkeypatch.setattr(match_features, "get_matcher", lambda _: matcher)
    path = tmp_path / "m.h5"
    with pytest.raises(RuntimeError, match="out of memory"):
        match_features.main("nn-mutual", pairs, features, matches=path)
    assert not path.exists()
    assert count_records(journal_path(path)) > 0
    assert torch.get_num_threads() == threads
    match_features.main("nn-mutual", pairs, features, matches=path)
    whole = match_features.main("nn-mutual", pairs, features, matches=tmp_path / "whole.h5")
    assert path.read_bytes() == whole.read_bytes()


def test_killed_twice(tmp_path: Path, features: Path, pairs: Path) -> None:
    whole = match_features.main("nn-mutual", pairs, features, matches=tmp_path / "whole.h5")
    path, log = tmp_path / "m.h5", tmp_path / "log"
    arguments = (pairs, features, path, log)
    assert kill_after(4, journal_path(path), SLOW_STAGE, *arguments) == -signal.SIGKILL
    assert not path.exists()
    assert kill_after(9, journal_path(path), SLOW_STAGE, *arguments) == -signal.SIGKILL
    last = run(SLOW_STAGE, *arguments)
    assert last.returncode == 0, last.stderr
    assert path.read_bytes() == whole.read_bytes()
    assert 21 <= len(log.read_text()) <= 23  # pairs, and those in flight when it was killed


def test_unknown_image_is_found_before_work_starts(tmp_path: Path, features: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("db/0.jpg db/1.jpg\ndb/0.jpg 5.jpg\n")
    with pytest.raises(InputError, match=r"p.txt: 1 of 2 images .*'5.jpg'; the nearest name.*'db/5.jpg'"):
        match_features.main("nn-mutual", path, features, matches=tmp_path / "m.h5")
    assert not journal_path(tmp_path / "m.h5").exists()


def test_colliding_names_are_refused(tmp_path: Path) -> None:
    features = tmp_path / "f.h5"
    with FeatureWriter(features, {}) as writer:
        for name in ("db/1.jpg", "db-1.jpg", "q.jpg"):
            writer.add(name, make(3, 0))
    with pytest.raises(InputError, match="have one key"):
        match_features.main(
            "nn-mutual", [("q.jpg", "db/1.jpg"), ("q.jpg", "db-1.jpg")], features, matches=tmp_path / "m"
        )


def test_stale_matches_are_refused(tmp_path: Path, features: Path, pairs: Path) -> None:
    path = match_features.main("nn-mutual", pairs, features)
    with pytest.raises(InputError, match=r"conf.ratio is null there and 0.8 now"):
        match_features.main({"name": "nn-ratio", "ratio": 0.8}, pairs, features, matches=path)
    write_features(features, sha="new", overwrite=True)
    with pytest.raises(InputError, match=r'features.weights_sha256 is "w" there and "new" now'):
        match_features.main("nn-mutual", pairs, features)
    write_features(features, count=50, overwrite=True)
    with pytest.raises(InputError, match="had 40 and 41 keypoints when they were matched and have 50 and 51 now"):
        match_features.main("nn-mutual", pairs, features)
    match_features.main("nn-mutual", pairs, features, overwrite=True)


def test_a_pair_list_grows(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.h5"
    match_features.main("nn-mutual", [(NAMES[0], NAMES[1])], features, matches=path)
    seen: list[tuple[str, str]] = []
    real = match_features.match_pairs

    def spy(matcher: object, pairs: list[tuple[str, str]], *rest: object) -> Iterator[object]:
        seen.extend(pairs)
        return real(matcher, pairs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(match_features, "match_pairs", spy)
    match_features.main("nn-mutual", [(NAMES[1], NAMES[0]), (NAMES[2], NAMES[0])], features, matches=path)
    assert seen == [(NAMES[2], NAMES[0])]


def test_reference_features_in_another_file(tmp_path: Path, features: Path) -> None:
    other = tmp_path / "q.h5"
    with FeatureWriter(other, {"name": "test"}, "w") as writer:
        writer.add("query.jpg", make(30, 50))
    path = match_features.main(
        "nn-mutual", [("query.jpg", NAMES[0])], other, matches=tmp_path / "m.h5", features_ref=features
    )
    with MatchReader(path) as reader:
        assert reader.sizes("query.jpg", NAMES[0]) == (30, 40)


def test_missing_features_file(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        match_features.main("nn-mutual", pairs, "feats-none", export_dir=tmp_path)
