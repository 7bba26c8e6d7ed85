"""The journal keeps whole records and cuts torn ones, wherever a write was torn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.journal import Journal, Record, count_records, read_header

HEADER = {"signature": {"conf": 1}}


def record(number: int) -> Record:
    rng = np.random.default_rng(number)
    arrays = {"a": rng.normal(size=(number, 2)).astype(np.float32), "b": np.arange(number, dtype=np.int32)}
    return Record(f"dir/{number}.jpg", arrays, {"a": {"uncertainty": 1.5}, "": {"n": number}})


def write(path: Path, numbers: range) -> bytes:
    journal = Journal.open(path, HEADER)
    for number in numbers:
        journal.append(record(number))
    journal.close()
    return path.read_bytes()


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    write(path, range(4))
    journal = Journal.open(path, {"signature": "other"})
    assert journal.header == HEADER
    assert journal.names == [f"dir/{n}.jpg" for n in range(4)]
    for number, found in enumerate(journal.records()):
        wanted = record(number)
        assert found.attrs == wanted.attrs
        for key, array in wanted.arrays.items():
            np.testing.assert_array_equal(found.arrays[key], array)
            assert found.arrays[key].dtype == array.dtype
    journal.close()


def test_torn_at_any_byte(tmp_path: Path) -> None:
    """Cut the file after every byte: all records before the cut survive, and appending goes on."""
    path = tmp_path / "x.journal"
    whole = write(path, range(1, 3))
    ends = [len(write(tmp_path / f"{n}.journal", range(1, n))) for n in (1, 2, 3)]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal.open(path, HEADER)
        assert len(journal.names) == sum(end <= cut for end in ends[1:])
        journal.append(record(9))
        journal.close()
        assert count_records(path) == len(journal.names)
        assert read_header(path) == HEADER


def test_damaged_record_ends_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    whole = bytearray(write(path, range(1, 5)))
    first = len(write(tmp_path / "one.journal", range(1, 2)))
    whole[first + 40] ^= 1
    path.write_bytes(whole)
    journal = Journal.open(path, HEADER)
    assert journal.names == ["dir/1.jpg"]
    journal.close()


def test_two_writers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = Journal.open(path, HEADER)
    with pytest.raises(InputError, match="another process is writing"):
        Journal.open(path, HEADER)
    journal.close()
    Journal.open(path, HEADER).close()


def test_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(b"something else entirely")
    with pytest.raises(InputError, match="is not a journal"):
        Journal.open(path, HEADER)
    assert path.read_bytes() == b"something else entirely"
