"""Append-only log beside an output file: finished items survive a kill at any instant.

Layout, little endian: `MAGIC`, then frames. A frame is its payload's length (u64), the CRC-32 of length and
payload (u32), and the payload. The first frame is a JSON header; every other one is a record: the length of its
JSON head (u32), the head (name, arrays' names, dtypes and shapes, attributes), then the arrays' bytes.

A record is handed to the operating system in one write, so SIGKILL can only tear the last frame; a torn or
damaged tail is cut off when the journal is opened again. After a power failure the CRC finds what the disk
did not get.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError

MAGIC = b"SFHJRNL1"
_FRAME = struct.Struct("<QI")
_HEAD = struct.Struct("<I")


@dataclass(frozen=True)
class Record:
    """One finished item: named arrays, with JSON attributes of the item (key "") and of its arrays (their names)."""

    name: str
    arrays: Mapping[str, npt.NDArray[Any]]
    attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Journal:
    """An open journal: `Journal.open`, `append` records, then `unlink` when they are merged, or `close`."""

    def __init__(self, path: Path, stream: BinaryIO, header: dict[str, Any], offsets: dict[str, int]) -> None:
        self.path = path
        self.header = header
        self._stream = stream
        self._offsets = offsets
        self._end = stream.seek(0, os.SEEK_END)

    @classmethod
    def open(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Open the journal for appending, resuming from what it holds, or start one with `header`.

        The header of a resumed journal is the one on disk; the caller compares.

        Raises:
            InputError: another process has this journal open, or the file is no journal.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            _lock(stream, path)
            found, offsets, end = _scan(stream, path)
            stream.truncate(end)
            stream.seek(end)
            if found is None:
                found = dict(header)
                _write_all(stream, MAGIC + _frame(json.dumps(found, sort_keys=True).encode()))
        except BaseException:
            stream.close()
            raise
        return cls(path, stream, found, offsets)

    @property
    def names(self) -> list[str]:
        """Names of the records, in the order they were finished."""
        return list(self._offsets)

    def append(self, record: Record) -> None:
        """Write one record; when this returns, killing the process does not lose it."""
        frame = _frame(_encode(record))
        self._stream.seek(self._end)
        _write_all(self._stream, frame)
        self._offsets[record.name] = self._end
        self._end += len(frame)

    def read(self, name: str) -> Record:
        """Read one record back."""
        payload = _read_frame(self._stream, self._offsets[name], self._end)
        if payload is None:
            raise InputError(f"{self.path}: the record of '{name}' changed on disk; run the command again")
        return _decode(payload)

    def records(self) -> Iterator[Record]:
        """All records, in the order they were finished; one is held in memory at a time."""
        for name in self.names:
            yield self.read(name)

    def close(self) -> None:
        """Close the file, which also gives up its lock."""
        self._stream.close()

    def unlink(self) -> None:
        """Close and remove the journal: its records are now elsewhere."""
        self.path.unlink(missing_ok=True)
        self.close()


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of a journal file, None when there is none or it is torn; takes no lock, changes nothing."""
    if not path.exists():
        return None
    with path.open("rb", buffering=0) as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        payload = _read_frame(stream, len(MAGIC), path.stat().st_size)
    return None if payload is None else json.loads(payload)


def count_records(path: Path) -> int:
    """Number of whole records in a journal that may belong to a running process; 0 when there is none."""
    if not path.exists():
        return 0
    with path.open("rb", buffering=0) as stream:
        return len(_scan(stream, path)[1])


def _scan(stream: Any, path: Path) -> tuple[dict[str, Any] | None, dict[str, int], int]:
    """Header (None when absent), offset of each whole record, and the end of the last whole frame."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    magic = stream.read(len(MAGIC))
    if magic != MAGIC:
        if MAGIC.startswith(magic):  # killed while the file was being created
            return None, {}, 0
        raise InputError(f"{path} is not a journal of this program; move it away")
    header_payload = _read_frame(stream, len(MAGIC), size)
    if header_payload is None:
        return None, {}, 0
    offsets: dict[str, int] = {}
    position = len(MAGIC) + _FRAME.size + len(header_payload)
    while (payload := _read_frame(stream, position, size)) is not None:
        offsets[_head(payload)["name"]] = position
        position += _FRAME.size + len(payload)
    return json.loads(header_payload), offsets, position


def _read_frame(stream: Any, position: int, end: int) -> bytes | None:
    """The payload at `position`, or None when the frame is torn or damaged."""
    if position + _FRAME.size > end:
        return None
    stream.seek(position)
    start = stream.read(_FRAME.size)
    length, crc = _FRAME.unpack(start)
    if position + _FRAME.size + length > end:
        return None
    payload = bytearray()
    while len(payload) < length:
        part = stream.read(length - len(payload))
        if not part:
            return None
        payload += part
    return bytes(payload) if _crc(length, payload) == crc else None


def _crc(length: int, payload: bytes | bytearray) -> int:
    return zlib.crc32(payload, zlib.crc32(length.to_bytes(8, "little")))


def _frame(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), _crc(len(payload), payload)) + payload


def _write_all(stream: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def _encode(record: Record) -> bytes:
    arrays = {key: np.ascontiguousarray(value) for key, value in record.arrays.items()}
    head = {
        "name": record.name,
        "arrays": [[key, value.dtype.str, list(value.shape)] for key, value in arrays.items()],
        "attrs": record.attrs,
    }
    text = json.dumps(head).encode()
    return b"".join([_HEAD.pack(len(text)), text, *(value.tobytes() for value in arrays.values())])


def _head(payload: bytes) -> dict[str, Any]:
    (length,) = _HEAD.unpack_from(payload)
    head: dict[str, Any] = json.loads(payload[_HEAD.size : _HEAD.size + length])
    return head


def _decode(payload: bytes) -> Record:
    head = _head(payload)
    (position,) = _HEAD.unpack_from(payload)
    position += _HEAD.size
    arrays: dict[str, npt.NDArray[Any]] = {}
    for key, dtype, shape in head["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[key] = np.frombuffer(payload, dtype=dtype, count=count, offset=position).reshape(shape)
        position += count * np.dtype(dtype).itemsize
    return Record(head["name"], arrays, head["attrs"])


def _lock(stream: BinaryIO, path: Path) -> None:
    """Two writers on one journal would interleave frames; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; its users run one process per output file
        return
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another process is writing {path}; wait until it ends, or give this one another output file"
        ) from None
