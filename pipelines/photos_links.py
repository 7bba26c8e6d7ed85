"""Photographs whose names have white space, which pair lists cannot hold, by other names."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pipelines.photos_scan import UNREADABLE_SUFFIXES, find_files
from samfeat_hloc.errors import InputError
from samfeat_hloc.images import EXTENSIONS

logger = logging.getLogger(__name__)

SUFFIXES = EXTENSIONS | UNREADABLE_SUFFIXES


LINKS = "photographs"
"""Folder of the links in the outputs."""


def readable_folder(root: Path, outputs: Path) -> Path:
    """The folder itself, or one of links to its photographs with `_` for white space, when a name has any.

    Args:
        root: folder of the photographs; it may hold the outputs.
        outputs: where the pipeline writes. Links go to its `photographs`; those of an earlier run to other files are
            replaced.

    Raises:
        InputError: no such folder, two photographs would get one name, or the file system has no links.
    """
    names, links = find_files(root, SUFFIXES, outputs), outputs / LINKS
    if not any(re.search(r"\s", name) for name in names):
        return root
    found = [root / name for name in names]
    safe = {re.sub(r"\s+", "_", name): path for name, path in zip(names, found, strict=True)}
    if len(safe) < len(names):
        taken = next(name for name, path in zip(names, found, strict=True) if safe[re.sub(r"\s+", "_", name)] != path)
        raise InputError(f"'{taken}' and another photograph have one name without white space; rename one of them")
    for stale in [path for path in links.rglob("*") if path.is_symlink()]:
        if safe.get(stale.relative_to(links).as_posix(), Path()).resolve() != stale.resolve():
            stale.unlink()
    for name, path in safe.items():
        link = links / name
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(path.resolve())
            except OSError as error:
                raise InputError(
                    f"{path} has white space in its name and cannot be linked ({error}); rename it"
                ) from None
    logger.info("file names with white space: read through links in %s, with _ instead", links)
    return links
