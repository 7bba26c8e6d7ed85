"""Files that are either whole or absent, whatever happens to the process that writes them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samfeat_hloc.errors import InputError


@contextmanager
def replace_file(path: Path | str) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; on success it is synced to disk and renamed to `path`.

    When the body raises, the temporary file is removed and `path` is as it was. A process killed inside the
    body leaves a hidden file `.NAME.*.tmp` behind and `path` untouched.

    Raises:
        InputError: `path` is a folder.
    """
    path = Path(path)
    refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private, and safetensors'; outputs follow the umask
        sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def refuse_folder(path: Path | str) -> None:
    """What makes a file for minutes asks this first.

    Raises:
        InputError: the path of a file to write is a folder.
    """
    if Path(path).is_dir():
        raise InputError(f"the output {path} is a folder; give the path of a file")


def sync_file(path: Path) -> None:
    """Have the operating system write the file's content to disk before this returns."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
