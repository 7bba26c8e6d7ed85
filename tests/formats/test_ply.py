"""PLY files: what is written is read, other programs' forms are read, damage is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats import ply
from samfeat_hloc.formats.ply import read_ply, write_ply

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_is_read_exactly(tmp_path: Path, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ply, "BLOCK", 7)  # several blocks
    points, colours = RNG.normal(0, 1e3, (30, 3)).astype(dtype), RNG.integers(0, 256, (30, 3), np.uint8)
    write_ply(tmp_path / "cloud.ply", points, colours)
    found = read_ply(tmp_path / "cloud.ply")
    assert found.points.dtype == dtype
    assert np.array_equal(found.points, points)
    assert found.colours is not None and np.array_equal(found.colours, colours)


def test_points_alone_and_no_points(tmp_path: Path) -> None:
    write_ply(tmp_path / "cloud.ply", np.zeros((0, 3)))
    found = read_ply(tmp_path / "cloud.ply")
    assert len(found) == 0 and found.colours is None


@pytest.mark.parametrize(("form", "order"), [("binary_little_endian", "<"), ("binary_big_endian", ">"), ("ascii", "")])
def test_other_properties_and_elements_are_passed_over(tmp_path: Path, form: str, order: str) -> None:
    header = [
        "ply", f"format {form} 1.0", "comment by another program", "element camera 2", "property double focal",
        "element vertex 3", "property float nx", "property double x", "property double y", "property double z",
        "property uchar red", "property uchar green", "property uchar blue", "property int label",
        "element face 1", "property list uchar int vertex_index", "end_header", "",
    ]  # fmt: skip
    points = np.array([[1.5, -2, 3], [4, 5, 6], [7, 8, 9.25]])
    if form == "ascii":
        rows = [f"0.5 {x} {y} {z} 1 2 3 -7" for x, y, z in points]
        body = "\n".join(["500", "600", *rows, "3 0 1 2", ""]).encode()
    else:
        kinds = [("nx", "f4"), *((name, "f8") for name in "xyz"), ("r", "u1"), ("g", "u1"), ("b", "u1"), ("l", "i4")]
        table = np.zeros(3, [(name, order + kind) for name, kind in kinds])
        table["x"], table["y"], table["z"] = points.T
        table["r"], table["g"], table["b"] = 1, 2, 3
        body = np.array([500, 600], order + "f8").tobytes() + table.tobytes() + b"\x03" + bytes(12)
    path = tmp_path / "cloud.ply"
    path.write_bytes("\n".join(header).encode() + body)
    found = read_ply(path)
    assert np.array_equal(found.points, points)
    assert found.colours is not None and found.colours.tolist() == [[1, 2, 3]] * 3


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cloud.ply"
    write_ply(path, np.ones((5, 3)))
    whole = path.read_bytes()
    cases = {
        "ends before its 5 points": whole[:-3],
        "no PLY file": b"solid stl",
        "damaged PLY header": whole[:40],
        "have no z": whole.replace(b"property double z", b"property double w"),
        "'vertex' before the points has lists": whole.replace(
            b"property double x", b"property list uchar int v\nproperty double x"
        ),
        "header line 'property quad x'": whole.replace(b"property double x", b"property quad x"),
        "not finite": whole[:-8] + np.array([np.nan]).tobytes(),
        "no 'vertex' element": whole.replace(b"element vertex", b"element points"),
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_ply(path)
    with pytest.raises(InputError, match="does not exist"):
        read_ply(tmp_path / "absent.ply")
    with pytest.raises(InputError, match="shapes"):
        write_ply(path, np.ones((5, 2)))


@pytest.mark.parametrize("order", ["<", ">", ""])
def test_colours_of_other_programs(tmp_path: Path, order: str) -> None:
    rows = np.array([(1.5, 2, 3, 0, 0.5, 1), (4, 5, 6.25, 1, 1, 1)], "f8")
    kind = {"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}[order]
    names = ("x", "y", "z", "red", "green", "blue")
    header = ["ply", f"format {kind} 1.0", "comment made elsewhere", "element vertex 2"]
    header += [f"property double {name}" for name in names]
    header += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    body = rows.astype(order + "f8").tobytes() if order else "\n".join(" ".join(map(str, r)) for r in rows).encode()
    (tmp_path / "a.ply").write_bytes("\n".join(header).encode() + body + b"\n3 0 1 1")
    found = read_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(found.points, rows[:, :3])
    np.testing.assert_array_equal(found.colours, [[0, 128, 255], [255, 255, 255]])


def test_normals_lines_and_comment(tmp_path: Path) -> None:
    points, normals = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)).astype(np.float32)
    write_ply(tmp_path / "cloud.ply", points, normals=normals, edges=[[0, 1], [2, 3]], comment="two\nlines")
    found = read_ply(tmp_path / "cloud.ply")
    assert np.array_equal(found.points, points)
    assert found.normals is not None and np.array_equal(found.normals, normals)
    content = (tmp_path / "cloud.ply").read_bytes()
    assert b"comment two lines\n" in content and b"element edge 2\n" in content
    assert content.endswith(np.array([[0, 1], [2, 3]], "<i4").tobytes())
    with pytest.raises(InputError, match="shapes"):
        write_ply(tmp_path / "cloud.ply", points, normals=normals[:3])
