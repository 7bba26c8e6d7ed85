"""Lists of image names: a text file with the name first on each line, several by a pattern, or a Python list."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names

ImageList = Path | str | Iterable[str]


def read_image_list(source: ImageList) -> list[str]:
    """Image names in order, repetitions dropped.

    A path is a text file whose lines begin with a name (a query list with intrinsics is one); a `*` in its last part
    stands for all files it matches, in alphabetical order. Anything else is taken as the names themselves.

    Raises:
        InputError: no such file, no name in it, or a name that pair lists cannot hold.
    """
    if not isinstance(source, (str, Path)):
        names = list(dict.fromkeys(source))
        check_names(names)
        return names
    path = Path(source)
    files = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"the image list {path} does not exist; expected a text file with one image name a line")
    names = []
    for file in files:
        words = (line.split() for line in file.read_text().splitlines())
        names += [line[0] for line in words if line and not line[0].startswith("#")]
    check_names(names, str(path))
    if not names:
        raise InputError(f"the image list {path} is empty; expected one image name a line")
    return list(dict.fromkeys(names))
