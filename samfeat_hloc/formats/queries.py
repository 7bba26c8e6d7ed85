"""Query lists with intrinsics: `NAME MODEL width height params...` a line, in COLMAP's camera models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names, nearest_name

NUM_PARAMS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
}
"""Parameters of each COLMAP camera model."""


@dataclass(frozen=True)
class QueryCamera:
    """Intrinsics of a query: COLMAP's camera model, size in pixels, parameters in COLMAP's order."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class Query:
    """A photograph to localize."""

    name: str
    camera: QueryCamera


def read_queries(paths: Path | str | Sequence[Path | str]) -> list[Query]:
    """Read one or several query lists, in order.

    A path with `*` stands for all files it matches, in alphabetical order, as hloc has it.

    Raises:
        InputError: no such file, a malformed line (with file and line), two cameras of one image, or no query.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    queries: dict[str, Query] = {}
    for path in (file for item in given for file in _expand(Path(item))):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.split() or line.lstrip().startswith("#"):
                continue
            query = _parse(line, f"{path}:{number}")
            if queries.setdefault(query.name, query) != query:
                raise InputError(f"{path}:{number}: '{query.name}' is listed with two cameras; keep one of them")
    if not queries:
        raise InputError(f"no query in {', '.join(map(str, given))}; expected lines 'NAME MODEL w h params...'")
    return list(queries.values())


def write_queries(path: Path | str, queries: Sequence[Query]) -> None:
    """Write a query list; the file is whole or absent."""
    check_names((query.name for query in queries), str(path))
    with replace_file(path) as temporary:
        temporary.write_text("".join(_format(query) + "\n" for query in queries))


def _format(query: Query) -> str:
    camera = query.camera
    head = f"{query.name} {camera.model} {camera.width} {camera.height}"
    return " ".join([head, *(repr(float(value)) for value in camera.params)])


def _expand(path: Path) -> list[Path]:
    if "*" in path.name:
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise InputError(f"no file matches {path}; check the folder")
        return found
    if not path.is_file():
        raise InputError(f"the query list {path} does not exist; expected lines 'NAME MODEL w h params...'")
    return [path]


def _parse(line: str, where: str) -> Query:
    words = line.split()
    if len(words) < 4:
        raise InputError(f"{where}: '{line}' has no intrinsics; expected 'NAME MODEL width height params...'")
    name, model = words[:2]
    if model not in NUM_PARAMS:
        near = nearest_name(model, NUM_PARAMS)
        raise InputError(
            f"{where}: unknown camera model '{model}'; " + (f"did you mean {near}?" if near else "see COLMAP's models")
        )
    try:
        width, height = int(words[2]), int(words[3])
        params = tuple(float(word) for word in words[4:])
    except ValueError:
        raise InputError(f"{where}: a size or parameter of '{name}' is not a number") from None
    if len(params) != NUM_PARAMS[model]:
        raise InputError(f"{where}: {model} has {NUM_PARAMS[model]} parameters; '{name}' has {len(params)}")
    if width <= 0 or height <= 0 or not all(map(math.isfinite, params)) or params[0] <= 0:
        raise InputError(f"{where}: size and focal length of '{name}' must be positive and all parameters finite")
    check_names([name], where)
    return Query(name, QueryCamera(model, width, height, params))
