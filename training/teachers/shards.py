"""Files of a teacher's store: shards of finished rows, and the journal of the shard that is being filled.

    teacher.json            signature of the teacher, the folder its images were in
    shard-00000.h5          index (JSON: image name -> Entry), rows/NAME/{embedding,groups,edges}, attribute `extent`
    shard-00001.h5.journal  finished rows of the next shard, see samfeat_hloc.formats.journal
    skipped.json            images without a row, and why

A shard is written whole from its journal and renamed, so a kill at any instant leaves either the journal or the shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.h5store import journal_path, open_h5
from samfeat_hloc.formats.journal import Journal, Record, count_records
from training.records import TeacherRow

PER_SHARD = 64
"""Rows of a shard: 130 MB of SAM's embeddings, and the time to write a shard is the least that is ever in doubt."""
ARRAYS = ("embedding", "groups", "edges")


@dataclass(frozen=True)
class Entry:
    """Which image a row is of.

    Attributes:
        sha256: of the image file.
        size_bytes: of the image file.
        width: of the upright image, in pixels.
        height: of the upright image, in pixels.
    """

    sha256: str
    size_bytes: int
    width: int
    height: int


class ShardWriter:
    """Appends rows to a store's folder, as a context manager; `done` has the entries of all rows that are there.

    Opening it finishes what a killed process left: a full journal becomes a shard, leftovers are removed. An error or
    Ctrl-C in the block leaves the journal, from which the next writer goes on.

    Args:
        folder: of the store; it exists.
        signature: of the teacher, for the shards.
        per_shard: rows of a shard.

    Raises:
        InputError: another process is writing, a shard is damaged, or the journal is of another teacher.
    """

    def __init__(self, folder: Path, signature: Mapping[str, Any], per_shard: int = PER_SHARD) -> None:
        self.folder = folder
        self._header = {"signature": json.loads(json.dumps(signature))}
        self._per_shard = per_shard
        self._number, self._journal = self._open()
        try:
            self._remove_leftovers()
            self.done = {name: entry for name, (_, entry) in read_index(folder, signature).items()}
            for record in self._journal.records():
                self.done[record.name] = Entry(**record.attrs["entry"])
            self._turn_over_when_full()
        except BaseException:
            self._journal.close()
            raise

    def _open(self) -> tuple[int, Journal]:
        """The first shard that is not there, and its journal with the lock on it."""
        number = 1 + max((_number(path) for path in self.folder.glob("shard-*.h5")), default=-1)
        while True:
            path = shard_path(self.folder, number)
            journal = Journal.open(journal_path(path), self._header)
            if not path.exists():
                break
            journal.unlink()  # another process wrote this shard before the lock was ours
            number += 1
        if journal.header != self._header:
            journal.close()
            raise InputError(f"{journal.path} was made by another teacher; give another folder with --output")
        return number, journal

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(".shard-*.tmp"):
            path.unlink()
        for path in self.folder.glob("shard-*.h5.journal"):
            if path.with_suffix("").exists():  # killed after the shard was renamed
                path.unlink()

    def add(self, name: str, entry: Entry, row: TeacherRow) -> None:
        """Store one row; when this returns, killing the process does not lose it."""
        arrays = {key: value for key in ARRAYS if (value := getattr(row, key)) is not None}
        extent = {} if row.extent is None else {"extent": list(row.extent)}
        self._journal.append(Record(name, arrays, {"entry": asdict(entry), "row": extent}))
        self.done[name] = entry
        self._turn_over_when_full()

    def _turn_over_when_full(self) -> None:
        if len(self._journal.names) >= self._per_shard:
            full = self._journal
            _write_shard(shard_path(self.folder, self._number), full)
            self._number, self._journal = self._open()
            full.unlink()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._journal.close()
            return
        if self._journal.names:
            _write_shard(shard_path(self.folder, self._number), self._journal)
        self._journal.unlink()


def read_index(folder: Path, signature: Mapping[str, Any]) -> dict[str, tuple[Path, Entry]]:
    """The shard and the entry of each row in the finished shards, by image name; rows stay on disk.

    Args:
        folder: of the store.
        signature: of the teacher the shards must be of.

    Raises:
        InputError: a shard is damaged, of another teacher or of another program.
    """
    index: dict[str, tuple[Path, Entry]] = {}
    for path in sorted(folder.glob("shard-*.h5")):
        with open_h5(path) as shard:
            if "index" not in shard:
                raise InputError(f"{path} is no shard of a teacher's store; move it away")
            if json.loads(shard.attrs["signature"]) != json.loads(json.dumps(signature)):
                raise InputError(f"{path} was made by another teacher than its folder; move it away")
            entries = json.loads(shard["index"][()])
        index |= {name: (path, Entry(**entry)) for name, entry in entries.items()}
    return index


def read_row(shard: Path, name: str) -> TeacherRow:
    """Read one row from its shard.

    Raises:
        InputError: the shard is damaged.
    """
    with open_h5(shard) as file:
        try:
            group = file["rows"][name]
            arrays = {key: np.asarray(group[key]) for key in ARRAYS if key in group}
            extent = group.attrs.get("extent")
        except (KeyError, OSError) as error:
            raise InputError(f"{shard} is damaged at '{name}' ({error}); delete it, run training.teacher") from None
    return TeacherRow(**arrays, extent=None if extent is None else (float(extent[0]), float(extent[1])))


def unfinished_rows(folder: Path) -> int:
    """Rows that are in a journal and in no shard yet."""
    journals = [path for path in folder.glob("shard-*.h5.journal") if not path.with_suffix("").exists()]
    return sum(count_records(path) for path in journals)


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05d}.h5"


def _number(shard: Path) -> int:
    return int(shard.stem.removeprefix("shard-"))


def _write_shard(path: Path, journal: Journal) -> None:
    with replace_file(path) as temporary, h5py.File(temporary, "w", libver="latest") as out:
        out.attrs["signature"] = json.dumps(journal.header["signature"], sort_keys=True)
        out["index"] = json.dumps(dict(_write_rows(out, journal)))


def _write_rows(out: h5py.File, journal: Journal) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for record in journal.records():
        group = out.create_group(f"rows/{record.name}")
        group.attrs.update(record.attrs["row"])
        for key, array in record.arrays.items():
            group.create_dataset(key, data=array, compression="gzip", compression_opts=1, shuffle=True)
        yield record.name, record.attrs["entry"]
