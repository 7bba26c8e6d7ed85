"""h5 files that grow item by item and never hold a half-written one: a journal, then one atomic merge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

import samfeat_hloc
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.journal import Journal, Record, count_records, read_header

FORMAT_VERSION = 1


class ResumableH5:
    """Writer of one h5 file, as a context manager.

    Every item added is at once safe in `PATH.journal`. When the block ends without an error, old and new
    items are written to a temporary file that replaces `PATH`. After an error, Ctrl-C or SIGKILL the journal
    stays, and the next writer with the same signature goes on from it.

    Args:
        path: the h5 file.
        signature: JSON values that determine the content (kind, conf, weights). Items made with different
            signatures never share a file.
        overwrite: ignore what `path` holds; it is replaced when the block ends, not before.

    Raises:
        InputError: `path` or its journal was made with another signature, is damaged, or has another writer.
    """

    def __init__(self, path: Path | str, signature: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.signature: dict[str, Any] = json.loads(json.dumps(signature))
        self.journal_path = journal_path(self.path)
        header = {"signature": self.signature, "replace": overwrite}
        if not overwrite:
            self._check_existing()
        self._journal = Journal.open(self.journal_path, header)
        try:
            if overwrite and self._journal.header != header:
                self._journal.unlink()
                self._journal = Journal.open(self.journal_path, header)
            if self._journal.header.get("signature") != self.signature:
                found = self._journal.header.get("signature")
                raise InputError(_mismatch(self.journal_path, found, self.signature))
            if self._journal.header.get("replace"):
                self._old: set[str] = set()
            else:
                self._check_existing()
                self._old = set(list_groups(self.path)) if self.path.exists() else set()
            for leftover in self.path.parent.glob(f".{self.path.name}.*.tmp"):
                leftover.unlink()  # of a merge that was killed: the lock says that nobody else is merging
        except BaseException:
            self._journal.close()
            raise
        self.done: set[str] = self._old | set(self._journal.names)

    def _check_existing(self) -> None:
        if not self.path.exists():
            return
        found = read_signature(self.path)
        # a journal started by --overwrite replaces the file, whose own signature no longer counts
        if found != self.signature and not _replaces(self.journal_path):
            raise InputError(_mismatch(self.path, found, self.signature))

    def add(self, record: Record) -> None:
        """Store one finished item. Call from one thread.

        Raises:
            InputError: an item of this name is already there.
        """
        if record.name in self.done:
            raise InputError(f"{self.path}: '{record.name}' was added twice; names must be unique")
        self._journal.append(record)
        self.done.add(record.name)

    def __enter__(self) -> ResumableH5:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._merge()
        else:
            self._journal.close()

    def _merge(self) -> None:
        new = [name for name in self._journal.names if name not in self._old]
        if new or not self.path.exists() or self._journal.header.get("replace"):
            with replace_file(self.path) as temporary, h5py.File(temporary, "w", libver="latest") as out:
                out.attrs["format_version"] = FORMAT_VERSION
                out.attrs["package_version"] = getattr(samfeat_hloc, "__version__", "unknown")
                out.attrs["signature"] = json.dumps(self.signature, sort_keys=True)
                for key, value in self.signature.items():
                    plain = isinstance(value, (str, int))
                    out.attrs[key] = value if plain else json.dumps(value, sort_keys=True)
                if self._old:
                    with open_h5(self.path) as old:
                        for key in old:
                            old.copy(key, out)
                for name in new:
                    _write_record(out, self._journal.read(name))
        self._journal.unlink()


def journal_path(path: Path) -> Path:
    """Where the unfinished items of an h5 file are."""
    return path.with_name(path.name + ".journal")


@contextmanager
def open_h5(path: Path | str) -> Iterator[h5py.File]:
    """Open an h5 file for reading.

    Raises:
        InputError: there is none (the message says when an interrupted run left a journal), or it is damaged.
    """
    path = Path(path)
    if not path.exists():
        unfinished = count_records(journal_path(path))
        if unfinished:
            raise InputError(
                f"{path} is not finished: {unfinished} items are in {journal_path(path).name}; "
                "run the command that makes it again and it goes on from there"
            )
        raise InputError(f"{path} does not exist; make it first, or check the path")
    try:
        file = h5py.File(path, "r", libver="latest")
    except OSError as error:
        raise InputError(
            f"{path} is not a whole h5 file ({error}); delete it and run the command that makes it"
        ) from None
    with file:
        yield file


def list_groups(path: Path) -> list[str]:
    """Names of all groups that hold a dataset, in the file's order."""
    with open_h5(path) as file:
        return list(iterate_groups(file))


def iterate_groups(group: h5py.Group, prefix: str = "") -> Iterator[str]:
    """Full names of all groups below `group` that hold a dataset."""
    datasets = {key for key in group if _is_dataset(group, key)}
    if prefix and datasets:
        yield prefix
    for key in group:
        if key not in datasets:
            yield from iterate_groups(group[key], f"{prefix}/{key}" if prefix else key)


def read_signature(path: Path) -> dict[str, Any] | None:
    """The signature a file was written with; None when another program wrote it."""
    with open_h5(path) as file:
        text = file.attrs.get("signature")
    return None if text is None else json.loads(text)


def _is_dataset(group: h5py.Group, key: str) -> bool:
    return group.get(key, getclass=True) is h5py.Dataset


def _write_record(out: h5py.File, record: Record) -> None:
    group = out.create_group(record.name)
    for key, array in record.arrays.items():
        group.create_dataset(key, data=array)
    for target, attrs in record.attrs.items():
        holder = group[target] if target else group
        for key, value in attrs.items():
            holder.attrs[key] = value


def _replaces(path: Path) -> bool:
    """Whether the journal at `path` was started to replace its h5 file; takes no lock, changes nothing."""
    header = read_header(path)
    return bool(header and header.get("replace"))


def _mismatch(path: Path, found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    """Say which settings differ, with both values."""
    advice = "give another output path, or --overwrite to replace it"
    if found is None:
        return f"{path} was not written by this program, so nothing can be added to it; {advice}"
    differences = list(_differences("", found, wanted))
    return f"{path} was made with other settings: {'; '.join(differences)}; {advice}"


def _differences(prefix: str, found: Any, wanted: Any) -> Iterator[str]:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted(found.keys() | wanted.keys()):
            yield from _differences(f"{prefix}.{key}" if prefix else key, found.get(key), wanted.get(key))
    elif found != wanted:
        yield f"{prefix} is {_short(found)} there and {_short(wanted)} now"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
