"""The package's shape: what the wheel holds, what importing costs, which way imports go."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "pycolmap", "faiss", "cv2", "h5py", "open3d", "kornia")


def test_the_wheel_holds_samfeat_hloc_alone() -> None:
    packages = find_packages(str(ROOT), include=["samfeat_hloc*"])
    assert {name.split(".")[0] for name in packages} == {"samfeat_hloc"}
    assert "samfeat_hloc.formats" in packages
    assert 'include = ["samfeat_hloc*"]' in (ROOT / "pyproject.toml").read_text()


def test_importing_the_package_is_cheap() -> None:
    script = f"import sys, samfeat_hloc; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("samfeat_hloc", {"datasets", "training", "pipelines", "benchmarks", "tests"}),
        ("datasets", {"training", "pipelines", "benchmarks", "tests"}),
        ("training", {"pipelines", "tests"}),
        ("pipelines", {"training", "tests"}),
    ],
)
def test_imports_go_one_way(package: str, forbidden: set[str]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            tops = {name.split(".")[0] for name in names}
            assert not tops & forbidden, f"{path} imports {tops & forbidden}"
            if path.name != "_pycolmap.py":
                assert "pycolmap" not in tops, f"{path} imports pycolmap itself"


def test_the_wheel_holds_every_file_that_is_no_module(tmp_path: Path) -> None:
    """`python -m build` takes minutes; what it reads is `package-data`."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "samfeat_hloc"
    taken = {path for pattern in settings["samfeat_hloc"] for path in package.glob(pattern) if path.is_file()}
    present = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert present - taken == set()
