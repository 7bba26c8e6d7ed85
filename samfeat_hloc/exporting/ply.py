"""PLY point clouds: coloured points with normals, written binary; read binary or text."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4",
    "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
NAMES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
MAX_HEADER_LINES = 1000


def write_ply(
    path: Path | str,
    xyz: npt.ArrayLike,
    rgb: npt.ArrayLike | None = None,
    normals: npt.ArrayLike | None = None,
    edges: npt.ArrayLike | None = None,
    comment: str = "",
) -> None:
    """Write a binary PLY; the file is whole or absent.

    Args:
        path: the file.
        xyz: (N, 3) positions; float64 is written as double, anything else as float.
        rgb: (N, 3) uint8 colours.
        normals: (N, 3) unit vectors.
        edges: (E, 2) pairs of vertices, drawn as lines by MeshLab and CloudCompare.
        comment: one line for the header.
    """
    positions = np.asarray(xyz)
    columns = [(positions.astype("f8" if positions.dtype == np.float64 else "f4"), ("x", "y", "z"))]
    if normals is not None:
        columns.append((np.asarray(normals, "f4"), ("nx", "ny", "nz")))
    if rgb is not None:
        columns.append((np.asarray(rgb, "u1"), ("red", "green", "blue")))
    lines = ["ply", "format binary_little_endian 1.0"]
    if comment:
        lines.append(f"comment {' '.join(comment.split())}")
    lines.append(f"element vertex {len(positions)}")
    fields = [(name, "<" + values.dtype.str[1:]) for values, names in columns for name in names]
    lines += [f"property {NAMES[kind[1:]]} {name}" for name, kind in fields]
    rows = np.zeros(len(positions), np.dtype(fields))
    for values, names in columns:
        for index, name in enumerate(names):
            rows[name] = values.reshape(-1, 3)[:, index]
    links = np.asarray(edges if edges is not None else np.zeros((0, 2)), "<i4").reshape(-1, 2)
    if edges is not None:
        lines += [f"element edge {len(links)}", "property int vertex1", "property int vertex2"]
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode())
        file.write(rows.tobytes())
        file.write(links.tobytes())


def read_ply(path: Path | str) -> dict[str, npt.NDArray[Any]]:
    """Read the points of a PLY file; its other elements are left alone.

    Returns:
        ``xyz`` (N, 3) float64; ``rgb`` (N, 3) uint8 and ``normals`` (N, 3) float64 when the file has them.

    Raises:
        InputError: no such file, no PLY, no vertices before other elements, or a truncated file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the point cloud {path} does not exist; expected a .ply file")
    with path.open("rb") as file:
        order, count, fields = _read_header(path, file)
        if order == "":
            rows = _read_text(path, file, count, fields)
        else:
            kind = np.dtype([(name, order + code) for name, code in fields])
            content = file.read(count * kind.itemsize)
            rows = np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)
        if len(rows) < count:
            raise InputError(f"{path} ends after {len(rows)} of {count} points; copy or make the file again")
    names = {name for name, _ in fields}
    if not {"x", "y", "z"} <= names:
        raise InputError(f"{path} has no x, y, z for its points; expected a point cloud")
    found: dict[str, npt.NDArray[Any]] = {"xyz": _columns(rows, "x", "y", "z").astype(np.float64)}
    if {"nx", "ny", "nz"} <= names:
        found["normals"] = _columns(rows, "nx", "ny", "nz").astype(np.float64)
    for triple in (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b")):
        if set(triple) <= names:
            rgb = _columns(rows, *triple)
            if np.issubdtype(rgb.dtype, np.floating):  # some programs write 0..1
                rgb = np.clip(np.round(rgb * 255), 0, 255)
            found["rgb"] = rgb.astype(np.uint8)
            break
    return found


def _columns(rows: npt.NDArray[Any], *names: str) -> npt.NDArray[Any]:
    return np.stack([rows[name] for name in names], axis=1)


def _read_header(path: Path, file: BinaryIO) -> tuple[str, int, list[tuple[str, str]]]:
    """Byte order ('' for text), number of points, and their (name, type) in order."""
    bad = InputError(f"{path} is not a PLY file with a header that this program understands; expected a point cloud")
    if file.readline().strip() != b"ply":
        raise bad
    order, count, element, fields = None, -1, "", []
    for _ in range(MAX_HEADER_LINES):
        words = file.readline().decode("ascii", "replace").split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "end_header":
            if order is None or count < 0:
                raise bad
            return order, count, fields
        try:
            if words[0] == "format":
                order = ORDERS[words[1]]
            elif words[0] == "element":
                element = words[1]
                if element == "vertex":
                    count = int(words[2])
                elif count < 0:
                    raise InputError(f"{path} has '{element}' before its points; expected the element 'vertex' first")
            elif words[0] == "property" and element == "vertex":
                if words[1] == "list":
                    raise InputError(f"{path} has a list for each point; expected plain numbers")
                fields.append((words[2], TYPES[words[1]]))
        except (KeyError, IndexError, ValueError):
            raise bad from None
    raise bad


def _read_text(path: Path, file: BinaryIO, count: int, fields: list[tuple[str, str]]) -> npt.NDArray[Any]:
    kind = np.dtype(fields)
    try:
        rows = [tuple(float(word) for word in line.split()[: len(fields)]) for line in islice(file, count)]
        values = np.array([row for row in rows if len(row) == len(fields)]).reshape(-1, len(fields))
    except ValueError:
        raise InputError(f"{path} has a point that is not {len(fields)} numbers; make the file again") from None
    table = np.zeros(len(values), kind)
    for index, (name, _) in enumerate(fields):
        table[name] = values[:, index]
    return table
