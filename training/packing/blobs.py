"""Many small byte strings in one h5 group: a data set a string would cost more than the strings."""

from __future__ import annotations

import h5py
import numpy as np

from samfeat_hloc.errors import InputError

BUFFER_BYTES = 1 << 20
CHUNK_BYTES = 1 << 14


class BlobWriter:
    """Appends byte strings to a group: `data`, all of them in a row, and `ends`, where each ends.

    The data carries checksums (Fletcher-32), so that a damaged file is noticed when it is read.
    """

    def __init__(self, group: h5py.Group) -> None:
        self._group = group
        self._data = group.create_dataset(
            "data", (0,), np.uint8, maxshape=(None,), chunks=(CHUNK_BYTES,), fletcher32=True
        )
        self._ends: list[int] = []
        self._buffer = bytearray()
        self.total = 0

    def append(self, blob: bytes) -> None:
        """The next string; an empty one stands for none."""
        self._buffer += blob
        self.total += len(blob)
        self._ends.append(self.total)
        if len(self._buffer) >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        start = self._data.shape[0]
        self._data.resize((start + len(self._buffer),))
        self._data[start:] = np.frombuffer(bytes(self._buffer), np.uint8)
        self._buffer.clear()

    def close(self) -> None:
        """Write what is left; nothing can be appended afterwards."""
        if self._buffer:
            self._flush()
        self._group.create_dataset("ends", data=np.array(self._ends, np.int64))


class BlobReader:
    """Reads what `BlobWriter` wrote, one string at a time."""

    def __init__(self, group: h5py.Group) -> None:
        self._data: h5py.Dataset = group["data"]
        self._bounds = np.concatenate([[0], group["ends"][()].astype(np.int64)])
        if (np.diff(self._bounds) < 0).any() or self._bounds[-1] > len(self._data):
            raise InputError(f"{group.file.filename} is damaged: {group.name} ends before its last item; make it again")

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def sizes(self) -> np.ndarray:
        """(N,) bytes of each string."""
        return np.diff(self._bounds)

    def read(self, index: int) -> bytes:
        """One string; empty for none.

        Raises:
            InputError: its checksum is wrong.
        """
        start, end = self._bounds[index : index + 2]
        try:
            return bytes(self._data[start:end].tobytes()) if end > start else b""
        except OSError as error:
            where = f"item {index} of {self._data.parent.name} in {self._data.file.filename}"
            raise InputError(f"{where} is damaged ({error}); make the file again") from None
