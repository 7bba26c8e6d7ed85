"""Point clouds as PLY files: `vertex` elements with x, y, z and perhaps normals and colours.

Read: ASCII and binary of either byte order, any scalar types, other properties and elements passed over. Written:
little-endian binary, float32 or float64 coordinates, float32 normals, uchar colours, and lines as `edge` elements.
Format: Greg Turk, The PLY Polygon File Format, 1994.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError

SCALARS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
COLOURS = ("red", "green", "blue")
OTHER_COLOURS = (("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
NORMALS = ("nx", "ny", "nz")
BLOCK = 2**20
"""Points converted at a time, so that a file of tens of millions needs little more memory than its points."""
MAX_HEADER_LINES = 1000


@dataclass(frozen=True)
class PointCloud:
    """Points in the world.

    Attributes:
        points: (N, 3) float32 or float64, as in the file.
        colours: (N, 3) uint8 RGB; None when there are none.
        normals: (N, 3) float32; None when there are none.
    """

    points: npt.NDArray[np.floating[Any]]
    colours: npt.NDArray[np.uint8] | None = None
    normals: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.points)


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]]
    has_list: bool = False


def read_ply(path: Path | str, not_finite: Literal["refuse", "drop"] = "refuse") -> PointCloud:
    """Read the points of a PLY file.

    Args:
        path: the file.
        not_finite: what becomes of points with a coordinate that is NaN or infinite, as depth cameras write them.

    Raises:
        InputError: no such file, no PLY, no points with x, y, z in it, a truncated file, or points that are not
            finite and not to be dropped.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the point cloud {path} does not exist; check the path")
    with path.open("rb") as stream:
        form, elements = _read_header(stream, path)
        vertex = _pass_to_vertex(stream, path, form, elements)
        names = [name for name, _ in vertex.properties]
        missing = [name for name in "xyz" if name not in names]
        if missing:
            raise InputError(f"{path}: its vertices have no {', '.join(missing)}; expected a point cloud")
        kinds = dict(vertex.properties)
        doubles = any(kinds[name] == "f8" for name in "xyz")
        colour_names = next((three for three in (COLOURS, *OTHER_COLOURS) if set(three) <= set(names)), None)
        points = np.empty((vertex.count, 3), np.float64 if doubles else np.float32)
        colours = None if colour_names is None else np.empty((vertex.count, 3), np.uint8)
        normals = np.empty((vertex.count, 3), np.float32) if set(NORMALS) <= set(names) else None
        for start in range(0, vertex.count, BLOCK):
            rows = _read_rows(stream, path, form, vertex, min(BLOCK, vertex.count - start))
            part = slice(start, start + len(rows))
            points[part] = _columns(rows, tuple("xyz"))
            if not_finite == "refuse" and not np.isfinite(points[part]).all():
                raise InputError(f"{path} has points that are not finite; remove them")
            if colours is not None and colour_names is not None:
                colours[part] = _bytes(_columns(rows, colour_names))
            if normals is not None:
                normals[part] = _columns(rows, NORMALS)
    if not_finite == "drop":
        kept = np.isfinite(points).all(axis=1)
        points = points[kept]
        colours = None if colours is None else colours[kept]
        normals = None if normals is None else normals[kept]
    return PointCloud(points, colours, normals)


def _columns(rows: npt.NDArray[np.void], names: tuple[str, ...]) -> npt.NDArray[Any]:
    return np.stack([rows[name] for name in names], axis=1)


def _bytes(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colours in 0..255; some programs write them as numbers in 0..1."""
    return np.clip(np.round(rgb * 255), 0, 255) if np.issubdtype(rgb.dtype, np.floating) else rgb


def write_ply(
    path: Path | str,
    points: npt.ArrayLike,
    colours: npt.ArrayLike | None = None,
    normals: npt.ArrayLike | None = None,
    edges: npt.ArrayLike | None = None,
    comment: str = "",
) -> None:
    """Write points, float64 ones as double and all others as float; whole or not at all.

    Args:
        path: file to write.
        points: (N, 3).
        colours: (N, 3) uint8 RGB.
        normals: (N, 3) unit vectors.
        edges: (E, 2) pairs of points, drawn as lines by MeshLab and CloudCompare.
        comment: one line for the header.

    Raises:
        InputError: arrays of other shapes.
    """
    xyz = np.asarray(points)
    parts = [(xyz if xyz.dtype == np.float64 else xyz.astype(np.float32), tuple("xyz"))]
    parts += [] if normals is None else [(np.asarray(normals, np.float32), NORMALS)]
    parts += [] if colours is None else [(np.asarray(colours), COLOURS)]
    if xyz.ndim != 2 or any(values.shape != (len(xyz), 3) for values, _ in parts):
        shapes = " and ".join(str(values.shape) for values, _ in parts)
        raise InputError(f"points, normals and colours have the shapes {shapes}; expected (N, 3) each")
    kinds = {"x": "double" if xyz.dtype == np.float64 else "float", "nx": "float", "red": "uchar"}
    columns = [(name, kinds[names[0]]) for _, names in parts for name in names]
    lines = ["ply", "format binary_little_endian 1.0", *([f"comment {' '.join(comment.split())}"] if comment else [])]
    lines += [f"element vertex {len(xyz)}", *(f"property {kind} {name}" for name, kind in columns)]
    links = np.zeros((0, 2), "<i4") if edges is None else np.asarray(edges, "<i4").reshape(-1, 2)
    if edges is not None:
        lines += [f"element edge {len(links)}", "property int vertex1", "property int vertex2"]
    record = np.dtype([(name, "<" + SCALARS[kind]) for name, kind in columns])
    with replace_file(path) as temporary, temporary.open("wb") as stream:
        stream.write("\n".join([*lines, "end_header", ""]).encode("ascii", "replace"))
        for start in range(0, len(xyz), BLOCK):
            rows = np.empty(min(BLOCK, len(xyz) - start), record)
            for values, names in parts:
                for column, name in enumerate(names):
                    rows[name] = values[start : start + len(rows), column]
            stream.write(rows.tobytes())
        stream.write(links.tobytes())


def _read_header(stream: IO[bytes], path: Path) -> tuple[str, list[_Element]]:
    if stream.readline(16).strip() != b"ply":
        raise InputError(f"{path} is no PLY file (its first line is not 'ply'); expected a point cloud")
    form, elements = "", list[_Element]()
    for _ in range(MAX_HEADER_LINES):
        line = stream.readline(4096)
        words = line.decode("ascii", "replace").split()
        if not line or words == ["end_header"]:
            break
        try:
            if words[:1] == ["format"]:
                form = words[1]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2]), []))
            elif words[:2] == ["property", "list"]:
                elements[-1].has_list = True
            elif words[:1] == ["property"]:
                elements[-1].properties.append((words[2], SCALARS[words[1]]))
        except (IndexError, ValueError, KeyError):
            raise InputError(
                f"{path}: the header line '{' '.join(words)}' cannot be read; write the file again"
            ) from None
    else:
        words = []
    if words != ["end_header"] or form not in {"ascii", *BYTE_ORDERS}:
        raise InputError(f"{path} has a damaged PLY header; expected a format and end_header; write the file again")
    return form, elements


def _pass_to_vertex(stream: IO[bytes], path: Path, form: str, elements: list[_Element]) -> _Element:
    """Leave the stream at the first vertex."""
    for element in elements:
        if element.has_list and (element.name == "vertex" or form != "ascii"):
            raise InputError(f"{path}: '{element.name}' before the points has lists; write the file as a point cloud")
        if element.name == "vertex":
            return element
        if form == "ascii":
            for _ in range(element.count):
                stream.readline()
        else:
            _read_rows(stream, path, form, element, element.count)
    raise InputError(f"{path} has no 'vertex' element; expected a point cloud")


def _read_rows(stream: IO[bytes], path: Path, form: str, element: _Element, count: int) -> npt.NDArray[np.void]:
    """(count,) structured rows."""
    truncated = f"{path} ends before its {element.count} points ({element.name}); it was cut short, copy it again"
    if form == "ascii":
        dtype = np.dtype(element.properties)
        lines = [stream.readline() for _ in range(count)]
        try:
            values = [tuple(line.split()) for line in lines]
            numbers = np.array([[float(word) for word in row] for row in values], np.float64)
        except ValueError:
            raise InputError(truncated) from None
        if numbers.shape != (count, len(element.properties)):
            raise InputError(truncated)
        rows = np.empty(count, dtype)
        for column, (name, _) in enumerate(element.properties):
            rows[name] = numbers[:, column]
        return rows
    dtype = np.dtype([(name, BYTE_ORDERS[form] + kind) for name, kind in element.properties])
    data = stream.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise InputError(truncated)
    return np.frombuffer(data, dtype)
