"""features.h5 and matches.h5: what goes in comes out, other settings are refused, nothing half-written exists."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import FeatureReader, Features, FeatureWriter
from samfeat_hloc.formats.global_features import GlobalWriter, list_global_names, read_global_descriptors
from samfeat_hloc.formats.h5store import journal_path, list_groups
from samfeat_hloc.formats.matches import MatchReader, MatchWriter

CONF = {"name": "test", "max_keypoints": 10}


def make_features(count: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, 16)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(
        keypoints=rng.uniform(0, 4000, (count, 2)).astype(np.float32),
        descriptors=descriptors,
        scores=np.sort(rng.uniform(size=count).astype(np.float32))[::-1].copy(),
        attention=rng.uniform(0.5, 2, count).astype(np.float32),
        image_size=(4000, 3000),
        uncertainty=0.7,
    )


def write(path: Path, names: dict[str, int], **kwargs: object) -> None:
    with FeatureWriter(path, CONF, "sha", **kwargs) as writer:  # type: ignore[arg-type]
        for name, count in names.items():
            if name not in writer.done:
                writer.add(name, make_features(count))


def test_features_come_back(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"db/1.jpg": 9, "query/night/a b.jpg".replace(" ", "_"): 0})
    with FeatureReader(path) as reader:
        wanted, found = make_features(9), reader.read("db/1.jpg")
        np.testing.assert_array_equal(found.keypoints, wanted.keypoints)  # exactly: float32, beyond x = 1024
        assert found.keypoints.dtype == np.float32
        np.testing.assert_allclose(found.descriptors, wanted.descriptors, atol=5e-4)
        np.testing.assert_array_equal(found.attention, wanted.attention)
        assert (found.image_size, round(found.uncertainty, 6)) == ((4000, 3000), 0.7)
        assert reader.uncertainty("db/1.jpg") == found.uncertainty
        empty = reader.read("query/night/a_b.jpg")
        assert len(empty) == 0
        assert empty.descriptors.shape == (0, 16)
        assert reader.signature == {"conf": CONF, "weights_sha256": "sha"}
    with h5py.File(path) as file:  # hloc's layout
        assert file["db/1.jpg/descriptors"].shape == (16, 9)
        assert file["db/1.jpg/keypoints"].attrs["uncertainty"] == pytest.approx(0.7)
        assert file["db/1.jpg/keypoints"].dtype == np.float32


def test_reads_hlocs_file(tmp_path: Path) -> None:
    path = tmp_path / "hloc.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("db/1.jpg")
        group.create_dataset("keypoints", data=np.array([[1.5, 2.5]], np.float16))
        group.create_dataset("descriptors", data=np.ones((8, 1), np.float16))
        group.create_dataset("scores", data=np.ones(1, np.float16))
        group.create_dataset("image_size", data=np.array([640, 480]))
    with FeatureReader(path) as reader:
        features = reader.read("db/1.jpg")
        assert features.keypoints.dtype == np.float32
        np.testing.assert_array_equal(features.attention, [1])
        assert reader.signature == {"file": "hloc.h5"}
    with pytest.raises(InputError, match="not written by this program"):
        FeatureWriter(path, CONF)


def test_missing_name_has_nearest(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"db/100.jpg": 1, "db/200.jpg": 1})
    with FeatureReader(path) as reader, pytest.raises(InputError, match=r"'200.jpg'.*nearest.*'db/200.jpg'"):
        reader.check(["db/100.jpg", "200.jpg"], "the pair list p.txt")


def test_other_weights_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"1.jpg": 1})
    with pytest.raises(InputError, match=r'weights_sha256 is "sha" there and "new" now.*--overwrite'):
        FeatureWriter(path, CONF, "new")
    with pytest.raises(InputError, match=r"conf.max_keypoints is 10 there and 20 now"):
        FeatureWriter(path, {**CONF, "max_keypoints": 20}, "sha")
    assert list(tmp_path.iterdir()) == [path]


def test_unfinished_journal_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with pytest.raises(KeyboardInterrupt), FeatureWriter(path, CONF, "sha") as writer:  # noqa: PT012
        writer.add("1.jpg", make_features(3))
        raise KeyboardInterrupt
    with pytest.raises(InputError, match=r"not finished: 1 items are in f.h5.journal"):
        FeatureReader(path)
    with pytest.raises(InputError, match=r"f.h5.journal was made with other settings"):
        FeatureWriter(path, CONF, "new")
    with FeatureWriter(path, CONF, "sha") as writer:
        assert writer.done == {"1.jpg"}
    assert list_groups(path) == ["1.jpg"]


def test_overwrite_replaces_at_the_end_and_resumes(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"old.jpg": 1})
    with pytest.raises(KeyboardInterrupt), FeatureWriter(path, CONF, "new", overwrite=True) as writer:  # noqa: PT012
        writer.add("1.jpg", make_features(3))
        raise KeyboardInterrupt
    assert list_groups(path) == ["old.jpg"]  # nothing is lost until the new file is whole
    with FeatureWriter(path, CONF, "new", overwrite=True) as writer:
        assert writer.done == {"1.jpg"}
        writer.add("2.jpg", make_features(3))
    assert list_groups(path) == ["1.jpg", "2.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_growing_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"b.jpg": 4})
    before = path.stat().st_mtime_ns
    write(path, {"b.jpg": 4})
    assert path.stat().st_mtime_ns == before  # nothing new: not rewritten
    write(path, {"b.jpg": 4, "a.jpg": 2})
    with FeatureReader(path) as reader:
        assert sorted(reader.names) == ["a.jpg", "b.jpg"]
        assert len(reader.read("b.jpg")) == 4


def test_killed_between_replacing_and_removing_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"1.jpg": 4})
    with pytest.raises(KeyboardInterrupt), FeatureWriter(path, CONF, "sha") as writer:  # noqa: PT012
        writer.add("2.jpg", make_features(3))
        raise KeyboardInterrupt
    kept = journal_path(path).read_bytes()
    write(path, {})
    journal_path(path).write_bytes(kept)
    write(path, {"3.jpg": 1})
    assert list_groups(path) == ["1.jpg", "2.jpg", "3.jpg"]


def test_damaged_h5_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, {"1.jpg": 400})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="not a whole h5 file"):
        FeatureReader(path)


@pytest.mark.parametrize("name", ["a b.jpg", "", "/abs.jpg", "a//b.jpg", "../a.jpg", "a\tb"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError), FeatureWriter(tmp_path / "f.h5", CONF) as writer:
        writer.add(name, make_features(1))


def test_not_finite_is_refused(tmp_path: Path) -> None:
    bad = make_features(3)
    bad.descriptors[1, 1] = np.nan
    with (
        pytest.raises(InputError, match=r"descriptors of '1.jpg' are not all finite"),
        FeatureWriter(tmp_path / "f.h5", CONF) as w,
    ):
        w.add("1.jpg", bad)


def test_features_must_agree() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(InputError, match="disagree"):
        Features(np.zeros((2, 2), np.float32), np.zeros((2, 8), np.float32), one, one, (1, 1))


def test_matches_come_back_in_either_order(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    matches0 = np.array([-1, 40_000, 0, -1, 7], np.int32)  # beyond int16
    with MatchWriter(path, {"m": 1}, {"weights_sha256": "s"}) as writer:
        writer.add("db/1.jpg", "q/2.jpg", matches0, np.linspace(0, 1, 5), 50_000)
        writer.add("db/1.jpg", "q/3.jpg", np.full(5, -1), np.zeros(5), 0)
        assert writer.has("q/2.jpg", "db/1.jpg")
    with MatchReader(path) as reader:
        pairs, scores = reader.read("db/1.jpg", "q/2.jpg")
        np.testing.assert_array_equal(pairs, [[1, 40_000], [2, 0], [4, 7]])
        np.testing.assert_allclose(scores, [0.25, 0.5, 1])
        back, back_scores = reader.read("q/2.jpg", "db/1.jpg")
        np.testing.assert_array_equal(back, [[0, 2], [7, 4], [40_000, 1]])
        np.testing.assert_allclose(back_scores, [0.5, 1, 0.25])
        assert reader.sizes("q/2.jpg", "db/1.jpg") == (50_000, 5)
        assert reader.read("db/1.jpg", "q/3.jpg")[0].shape == (0, 2)
        with pytest.raises(InputError, match=r"no matches of 'db/1.jpg' and 'q/4.jpg'; the nearest"):
            reader.read("db/1.jpg", "q/4.jpg")
    with h5py.File(path) as file:  # hloc's layout
        assert file["db-1.jpg/q-2.jpg/matches0"].dtype == np.int32
        assert file["db-1.jpg/q-2.jpg/matching_scores0"].dtype == np.float16


def test_matches_of_other_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with MatchWriter(path, {"m": 1}, {"weights_sha256": "s"}):
        pass
    with pytest.raises(InputError, match=r'features.weights_sha256 is "s" there and "t" now'):
        MatchWriter(path, {"m": 1}, {"weights_sha256": "t"})


def test_match_index_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="index 5"), MatchWriter(tmp_path / "m.h5", {}, {}) as writer:
        writer.add("a", "b", np.array([5]), np.ones(1), 5)


def test_global_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "g.h5"
    vectors = np.eye(3, 5, dtype=np.float32)
    with GlobalWriter(path, {"k": 1}, "sha") as writer:
        for number in range(3):
            writer.add(f"db/{number}.jpg", vectors[number])
    assert list_global_names(path) == ["db/0.jpg", "db/1.jpg", "db/2.jpg"]
    np.testing.assert_array_equal(read_global_descriptors(path, ["db/2.jpg", "db/0.jpg"]), vectors[[2, 0]])
    with pytest.raises(InputError, match=r"nearest name to '2.jpg' there is 'db/2.jpg'"):
        read_global_descriptors(path, ["2.jpg"])


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_matches_are_read_as_h5py_has_them_in_either_order(tmp_path: Path, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(0)
    stored = np.where(rng.random(300) < 0.5, rng.permutation(300), -1).astype(dtype)
    scores = rng.random(300).astype(np.float16)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("db-a.jpg/b.jpg")
        group["matches0"], group["matching_scores0"] = stored, scores
        file.create_group("db-a.jpg/c.jpg")["matches0"] = stored
    seen = np.flatnonzero(stored >= 0)
    pairs = np.column_stack([seen, stored[seen]])
    with MatchReader(tmp_path / "m.h5") as reader:
        forward, forward_scores = reader.read("db/a.jpg", "b.jpg")
        np.testing.assert_array_equal(forward, pairs)
        np.testing.assert_array_equal(forward_scores, scores[seen].astype(np.float32))
        back, back_scores = reader.read("b.jpg", "db/a.jpg")
        order = np.argsort(pairs[:, 1])
        np.testing.assert_array_equal(back, pairs[order][:, ::-1])
        np.testing.assert_array_equal(back_scores, scores[seen][order].astype(np.float32))
        for names, expected in ((("db/a.jpg", "b.jpg"), forward), (("b.jpg", "db/a.jpg"), back)):
            found = reader.read_indices(*names)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype == np.int32 and found.flags.c_contiguous
        np.testing.assert_array_equal(reader.read("db/a.jpg", "c.jpg")[1], 1)
        for read in (reader.read, reader.read_indices):
            with pytest.raises(InputError, match="the nearest pair"):
                read("db/a.jpg", "bb.jpg")
