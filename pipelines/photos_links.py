"""Photographs whose names have white space, which pair lists cannot hold, by other names."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pipelines.photos_scan import UNREADABLE_SUFFIXES
from samfeat_hloc.errors import InputError
from samfeat_hloc.images import EXTENSIONS

logger = logging.getLogger(__name__)

SUFFIXES = EXTENSIONS | UNREADABLE_SUFFIXES


def readable_folder(root: Path, links: Path) -> Path:
    """The folder itself, or one of links to its photographs with `_` for white space, when a name has any.

    Args:
        root: folder of the photographs.
        links: where the links go; links of an earlier run to other files are replaced.

    Raises:
        InputError: two photographs would get one name, or the file system has no links.
    """
    if not root.is_dir():
        raise InputError(f"the folder {root} does not exist; give the folder of the photographs")
    found = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    names = [path.relative_to(root).as_posix() for path in found]
    if not any(re.search(r"\s", name) for name in names):
        return root
    if root.resolve() in links.resolve().parents:
        raise InputError(f"{root} has file names with white space and holds the outputs too; give --outputs elsewhere")
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
