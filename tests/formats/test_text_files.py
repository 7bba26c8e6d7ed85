"""Pair lists, pose files, query lists, image lists and names: round trips, and messages with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.image_lists import read_image_list
from samfeat_hloc.formats.names import check_pair_keys, nearest_name, pair_key
from samfeat_hloc.formats.pairs import read_pairs, retrieved, unique_pairs, write_pairs
from samfeat_hloc.formats.poses import read_poses, validate_submission, write_poses
from samfeat_hloc.formats.queries import Query, QueryCamera, read_queries, write_queries

POSE = "0.5 0.5 0.5 0.5 1 2 3"


def test_pairs_round_trip_in_order(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    pairs = [("q/2.jpg", "db/9.jpg"), ("q/1.jpg", "db/1.jpg"), ("q/2.jpg", "db/1.jpg")]
    write_pairs(path, [*pairs, pairs[0]])
    assert read_pairs(path) == pairs
    assert retrieved(pairs) == {"q/2.jpg": ["db/9.jpg", "db/1.jpg"], "q/1.jpg": ["db/1.jpg"]}
    assert unique_pairs([("a", "b"), ("b", "a"), ("a", "b"), ("a", "c")]) == [("a", "b"), ("a", "c")]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a.jpg b c.jpg\n", r"p.txt:1.*3 words"), ("\n\na.jpg a.jpg\n", "p.txt:3.*itself"), ("\n", "empty")],
)
def test_bad_pair_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_pairs(path)


def test_pair_list_cannot_hold_white_space(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a b.jpg' has white space"):
        write_pairs(tmp_path / "p.txt", [("a b.jpg", "c.jpg")])
    assert not (tmp_path / "p.txt").exists()


def test_colliding_keys() -> None:
    assert pair_key("db/1.jpg", "q/2.jpg") == "db-1.jpg/q-2.jpg"
    check_pair_keys([("db/1.jpg", "q/2.jpg"), ("q/2.jpg", "db/1.jpg")])
    with pytest.raises(InputError, match=r"'db/1.jpg' and 'db-1.jpg' have one key"):
        check_pair_keys([("db/1.jpg", "q/2.jpg"), ("db-1.jpg", "q/3.jpg")])


def test_nearest_name_looks_at_the_base_name_first() -> None:
    assert nearest_name("images/1234.jpg", ["db/1235.jpg", "other/deep/1234.jpg"]) == "other/deep/1234.jpg"
    assert nearest_name("zzz", ["db/1.jpg"]) is None


def test_poses_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    pose = np.array([-0.2, 0.4, 0.4, 0.8, 1.25, -2, 1e-9])
    write_poses(path, {"q/a.jpg": pose})
    found = read_poses(path)["q/a.jpg"]
    np.testing.assert_allclose(found[:4], -pose[:4] / np.linalg.norm(pose[:4]))
    np.testing.assert_array_equal(found[4:], pose[4:])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 0 0 0 1 2", "6 numbers"),
        ("a 1 0 0 0 1 2 x", "is not"),
        ("a 1 0 0 0 nan 2 3", "not finite"),
        ("a 2 0 0 0 1 2 3", "length 2.0000"),
        (f"a {POSE}\na {POSE}", ":2.*already"),
    ],
)
def test_bad_poses(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        read_poses(path)


def test_submission(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    pose = np.array([1, 0, 0, 0, 1, 2, 3.0])
    write_poses(path, {"query/night/a.jpg": pose}, basename=True)
    assert validate_submission(path, ["query/night/a.jpg", "query/day/b.jpg"]) == 1
    with pytest.raises(InputError, match=r"'a.jpg' is not a query"):
        validate_submission(path, ["query/day/b.jpg"])
    path.write_text(f"night/a.jpg {POSE}\n")
    with pytest.raises(InputError, match="base names only"):
        validate_submission(path, ["query/night/a.jpg"])
    with pytest.raises(InputError, match=r"two images are called 'a.jpg'"):
        write_poses(path, {"day/a.jpg": pose, "night/a.jpg": pose}, basename=True)


def test_queries_round_trip(tmp_path: Path) -> None:
    day = [Query("query/day/1.jpg", QueryCamera("SIMPLE_RADIAL", 1600, 1200, (1469.2, 800, 600, -0.0353)))]
    night = [Query("query/night/2.jpg", QueryCamera("PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0)))]
    write_queries(tmp_path / "day_with_intrinsics.txt", day)
    write_queries(tmp_path / "night_with_intrinsics.txt", night)
    assert read_queries(tmp_path / "*_with_intrinsics.txt") == day + night
    assert read_image_list(tmp_path / "*_with_intrinsics.txt") == ["query/day/1.jpg", "query/night/2.jpg"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q/1.jpg", r"list.txt:2: 'q/1.jpg' has no intrinsics"),
        ("q/1.jpg PINHOL 1 1 1 1 1 1", "did you mean PINHOLE"),
        ("q/1.jpg PINHOLE 640 480 1 2 3", "PINHOLE has 4 parameters; 'q/1.jpg' has 3"),
        ("q/1.jpg PINHOLE 640 480 1 2 3 x", "not a number"),
        ("q/1.jpg PINHOLE 640 480 -1 2 3 4", "must be positive"),
    ],
)
def test_bad_queries(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_queries(path)


def test_image_list_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_image_list(tmp_path / "no*.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_image_list(tmp_path / "empty.txt")
    assert read_image_list(["b", "a", "b"]) == ["b", "a"]
