"""``python -m samfeat_hloc.doctor [DATASET]``: is everything here that a run needs?

One line for each check. Exit status 0 when nothing is broken, 1 when something is, 2 for a folder that does not exist.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from samfeat_hloc import __version__
from samfeat_hloc.errors import InputError, SamfeatError, run_cli

REQUIRED = {
    "torch": "torch",
    "pycolmap": "pycolmap",
    "faiss": "faiss-cpu",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "h5py": "h5py",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "tqdm": "tqdm",
}
"""Module -> distribution."""
OPTIONAL = {
    "kornia": ("kornia", "training"),
    "matplotlib": ("matplotlib", "plots"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "open3d": ("open3d", "viewer"),
    "segment_anything": ("segment-anything", "sam"),
}
"""Module -> distribution and the extra that brings it."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: ``ok``, ``note`` (works without it) or ``broken``."""

    level: str
    what: str
    detail: str


def check_environment() -> Iterator[Finding]:
    """Python, packages, machine."""
    yield Finding("ok", "samfeat-hloc", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for module, distribution in REQUIRED.items():
        yield _import(module, distribution)
    for module, (distribution, extra) in OPTIONAL.items():
        try:
            yield Finding("ok", module, version(distribution))
        except PackageNotFoundError:
            yield Finding("note", module, f"not installed; only for {extra}: pip install 'samfeat-hloc[{extra}]'")


def _import(module: str, distribution: str) -> Finding:
    try:
        importlib.import_module("samfeat_hloc._pycolmap" if module == "pycolmap" else module)
    except Exception as error:  # a broken binary raises anything
        return Finding("broken", module, f"{error}; pip install '{distribution}'")
    try:
        return Finding("ok", module, version(distribution))
    except PackageNotFoundError:
        return Finding("ok", module, "installed under another distribution's name")


def check_machine() -> Iterator[Finding]:
    """Device, precision, memory and disk."""
    import torch

    from samfeat_hloc.precision import choose_runtime

    runtime = choose_runtime()
    name = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else f"{os.cpu_count()} cores"
    yield Finding("ok", "device", f"{runtime.device} ({name}), {str(runtime.dtype).removeprefix('torch.')}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding("ok" if free > 2 else "note", "disk", f"{free:.0f} GiB free in {Path.cwd()}")


def check_weights() -> Iterator[Finding]:
    """The shipped weights against the checksums listed beside them."""
    from samfeat_hloc.checkpoints import DEFAULT_WEIGHTS, SHIPPED_FOLDER, load_weights, shipped_weights
    from samfeat_hloc.digests import file_sha256

    listed = {}
    for line in (SHIPPED_FOLDER / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        listed[name] = digest
    if not shipped_weights():
        yield Finding("broken", "weights", f"none in {SHIPPED_FOLDER}; install the package again")
    for file in sorted(listed.keys() | {f"{name}.safetensors" for name in shipped_weights()}):
        path = SHIPPED_FOLDER / file
        name = file.removesuffix(".safetensors")
        if not path.is_file():
            yield Finding("broken", name, f"{path} is missing; install the package again")
            continue
        digest = file_sha256(path)
        if listed.get(file) != digest:
            yield Finding("broken", name, f"sha256 is {digest[:12]}…, listed {listed.get(file, 'nowhere')[:12]}…")
        elif path.suffix == ".safetensors":
            steps = load_weights(name).metadata.get("steps", "?")
            default = ", the default" if name == DEFAULT_WEIGHTS else ""
            yield Finding("ok", name, f"sha256 {digest[:12]}…, {steps} training steps{default}")
        else:
            yield Finding("ok", name, f"sha256 {digest[:12]}…")


def check_hloc() -> Iterator[Finding]:
    """hloc, which only the plug-in needs."""
    found = find_spec("hloc")
    missing = 'not importable; only for the plug-in: see "In hloc" in the README'
    where = missing if found is None else str(found.origin)
    yield Finding("note" if found is None else "ok", "hloc", where)


def check_dataset(folder: Path) -> Iterator[Finding]:
    """A folder in the layout of Aachen Day-Night."""
    from samfeat_hloc.layout import CONDITIONS, AachenLayout, problems

    found = problems(folder)
    for problem in found:
        yield Finding("broken", "dataset", problem)
    if not found:
        layout = AachenLayout.find(folder)
        counts = ", ".join(f"{len(layout.queries(condition))} {condition}" for condition in CONDITIONS)
        truth = "with ground truth" if layout.ground_truth else "no ground truth"
        yield Finding("ok", "dataset", f"{folder}: layout {layout.version}, queries: {counts}; {truth}")


def run(checks: list[Callable[[], Iterator[Finding]]]) -> int:
    """Print every finding; the number of broken ones."""
    broken = 0
    for check in checks:
        try:
            findings = list(check())
        except SamfeatError as error:
            findings = [Finding("broken", check.__name__.removeprefix("check_"), str(error))]
        except ImportError as error:
            findings = [Finding("broken", check.__name__.removeprefix("check_"), f"needs {error.name}")]
        for finding in findings:
            broken += finding.level == "broken"
            print(f"{finding.level:7s}{finding.what:26s}{finding.detail}")
    return broken


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m samfeat_hloc.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", type=Path, help="a folder in the layout of Aachen Day-Night")
    options = parser.parse_args(arguments)
    checks: list[Callable[[], Iterator[Finding]]] = [check_environment, check_hloc, check_machine, check_weights]
    if options.dataset is not None:
        if not options.dataset.is_dir():
            raise InputError(f"{options.dataset} is no folder; expected a dataset in the layout of Aachen Day-Night")
        checks.append(lambda: check_dataset(options.dataset))
    broken = run(checks)
    print(f"{broken} broken" if broken else "all good")
    if broken:
        sys.exit(1)


if __name__ == "__main__":
    run_cli(main)
