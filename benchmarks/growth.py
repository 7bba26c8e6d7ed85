"""How do time and memory of each stage grow with the number of photographs?

    python -m benchmarks.growth --images 250 500 1000 --json benchmarks/results/growth.json

Pairs and features are generated (`benchmarks.growth_world`): a street of known cameras, as `pipelines.photos` has it
after extraction. Every stage runs in a process of its own, and counts what it holds above what it began with:

    pairs         global descriptors, retrieval, and neighbours by name
    match         mutual nearest neighbours with the ratio test
    verify        two-view geometry of every pair, into COLMAP's database
    map           COLMAP's mapper
    finish        the last adjustment
    triangulate   points from the true poses

The exponent of a stage is the slope between the two largest sets: 1 grows with the photographs, 2 with their square.
Finished stages are kept (`--outputs`): an interrupted command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.mappers import MAPPERS

logger = logging.getLogger(__name__)
ROOT = Path(__file__).parents[1]
JOBS = ("world", "pairs", "match", "reconstruct", "triangulate")
"""Each in a process; `reconstruct` has the stages verify, map and finish."""
STAGES = ("pairs", "match", "verify", "map", "finish", "triangulate")
SQUARE = 1.5
"""Exponent from which a stage is said to grow with the square: the middle between the two."""
FLOOR_MB = 16.0
"""What a stage holds is rounded up to this: an allocator's own steps would be growth otherwise."""
NUM_RETRIEVED, NUM_NEIGHBOURS = 15, 10

Row: TypeAlias = dict[str, float]
Figures: TypeAlias = dict[str, dict[str, Row]]
"""Size -> stage -> seconds, cpu_s, memory_mb (above the start), peak_mb."""


def main(
    images: Sequence[int], outputs: Path, keypoints: int = 400, mapper: str = "global", output: Path | None = None
) -> dict[str, Any]:
    """Measure what is not measured yet.

    Args:
        images: sizes of the sets.
        outputs: gets a folder for each.
        keypoints: about so many a photograph.
        mapper: of the stage `map`.
        output: JSON file for the report.

    Returns:
        the report: setting, figures, exponents.

    Raises:
        ConfigError: bad sizes or mapper.
        InputError: a stage failed; with its last line and its log.
    """
    sizes = sorted(set(images))
    if len(sizes) < 2:
        raise ConfigError(f"sizes are {list(images)}; expected at least two different ones")
    if mapper not in MAPPERS:
        raise ConfigError(f"the mapper '{mapper}' is unknown; expected one of {', '.join(MAPPERS)}")
    figures: Figures = {}
    for size in sizes:
        folder = outputs.resolve() / f"{size}-{keypoints}-{mapper}"
        rows: dict[str, Row] = {}
        for job in JOBS:
            rows |= _child(folder, job, size, keypoints, mapper)
        figures[str(size)] = {stage: rows[stage] for stage in STAGES}
    report = {
        "setting": {"keypoints": keypoints, "mapper": mapper, "retrieved": NUM_RETRIEVED, "neighbours": NUM_NEIGHBOURS},
        "figures": figures,
        "exponents": exponents(figures),
    }
    if output is not None:
        with replace_file(output) as path:
            path.write_text(json.dumps(report, indent=1) + "\n")
    return report


def exponents(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Slope of memory and of processor time over the two largest sets, by stage."""
    small, large = sorted(figures, key=int)[-2:]
    found = {}
    for stage in figures[large]:
        one, other = figures[small][stage], figures[large][stage]
        step = math.log(int(large) / int(small))
        found[stage] = {
            "memory": math.log(max(other["memory_mb"], FLOOR_MB) / max(one["memory_mb"], FLOOR_MB)) / step,
            "cpu": math.log(max(other["cpu_s"], 0.1) / max(one["cpu_s"], 0.1)) / step,
        }
    return found


def format_report(report: Mapping[str, Any]) -> str:
    """A Markdown table, and the stages that grow with the square."""
    sizes = sorted(report["figures"], key=int)
    heads = ["stage", *(f"{size}: CPU s, MB (peak)" for size in sizes), "exponent of memory, of time"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for stage, slope in report["exponents"].items():
        cells = [report["figures"][size][stage] for size in sizes]
        shown = [f"{cell['cpu_s']:.1f}, {cell['memory_mb']:.0f} ({cell['peak_mb']:.0f})" for cell in cells]
        lines.append(f"| {stage} | {' | '.join(shown)} | {slope['memory']:.2f}, {slope['cpu']:.2f} |")
    bad = [stage for stage, slope in report["exponents"].items() if slope["memory"] >= SQUARE]
    verdict = f"memory of {', '.join(bad)} grows with the square" if bad else "no stage's memory grows with the square"
    return "\n".join([*lines, "", f"{verdict} of the photographs"])


def _child(folder: Path, job: str, size: int, keypoints: int, mapper: str) -> dict[str, Row]:
    """Rows of one job, run in a process of its own unless its result is there.

    Raises:
        InputError: it failed.
    """
    result = folder / "results" / f"{job}.json"
    if not result.is_file():
        result.parent.mkdir(parents=True, exist_ok=True)
        logger.info("%d photographs: %s", size, job)
        command = [sys.executable, "-m", "benchmarks.growth", "--job", job, str(folder), str(size), str(keypoints)]
        log = result.with_suffix(".log")
        with log.open("w") as stream:
            done = subprocess.run([*command, mapper], cwd=ROOT, stdout=stream, stderr=stream, check=False)
        if done.returncode or not result.is_file():
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["no output"]
            raise InputError(f"{job} of {size} photographs ended with status {done.returncode}: {lines[-1]}; see {log}")
    rows: dict[str, Row] = json.loads(result.read_text())
    return rows


def run_job(job: str, folder: Path, size: int, keypoints: int, mapper: str) -> dict[str, Row]:
    """One job in this process; stages that it finds half finished are made again, since their time is asked for.

    Returns:
        a row a stage.
    """
    from benchmarks.growth_world import camera, names_of, write_world

    rows: dict[str, Row] = {}
    features, pairs, matches = folder / "features.h5", folder / "pairs.txt", folder / "matches.h5"
    if job == "world":
        write_world(folder, size, keypoints)
        return rows
    if job == "pairs":
        import faiss  # noqa: F401  # before the clock, as torch is
        import torch  # noqa: F401

        from pipelines.photos_pairs import write_photo_pairs

        for stale in ("pairs.json", "global.h5", "global.codebook.npz", "retrieved.txt"):
            (folder / stale).unlink(missing_ok=True)
        with _measured(rows, "pairs"):
            write_photo_pairs(features, names_of(size), pairs, 2, min(NUM_RETRIEVED, size - 1), NUM_NEIGHBOURS)
    elif job == "match":
        from samfeat_hloc import match_features
        from samfeat_hloc.matchers import nearest_neighbor  # noqa: F401  # with torch, before the clock

        with _measured(rows, "match"):
            match_features.main("nn-ratio", pairs, features, matches=matches, overwrite=True)
    elif job == "reconstruct":
        from samfeat_hloc import reconstruction

        shutil.rmtree(folder / "sfm", ignore_errors=True)
        cameras = dict.fromkeys(names_of(size), camera())
        reconstruction.main(
            folder / "sfm", folder / "images", pairs, features, matches, mapper=mapper,
            cameras=cameras, fixed_cameras={1}, clock=lambda stage: _measured(rows, stage),
        )  # fmt: skip
    else:
        from samfeat_hloc import triangulation

        shutil.rmtree(folder / "triangulated", ignore_errors=True)
        with _measured(rows, "triangulate"):
            triangulation.main(
                folder / "triangulated", folder / "reference", folder / "images", pairs, features, matches
            )
    return rows


@contextmanager
def _measured(rows: dict[str, Row], stage: str) -> Iterator[None]:
    """Time and memory of a block; where Linux cannot forget the peak so far, memory is an upper bound."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before, wall, cpu = _status_mb("VmRSS"), time.perf_counter(), _cpu_s()
    yield
    peak = _status_mb("VmHWM")
    seconds, spent = time.perf_counter() - wall, _cpu_s() - cpu
    figures = {"seconds": seconds, "cpu_s": spent, "memory_mb": max(0.0, peak - before), "peak_mb": peak}
    rows[stage] = {name: round(value, 2) for name, value in figures.items()}


def _status_mb(field: str) -> float:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return peak if field == "VmHWM" else 0.0


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _cli() -> None:
    if sys.argv[1:2] == ["--job"]:  # a child of this program
        job, folder, size, keypoints, mapper = sys.argv[2:]
        rows = run_job(job, Path(folder), int(size), int(keypoints), mapper)
        with replace_file(Path(folder) / "results" / f"{job}.json") as path:
            path.write_text(json.dumps(rows, indent=1))
        return
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[250, 500, 1000], help="%(default)s")
    parser.add_argument("--keypoints", type=int, default=400, help="about so many a photograph (%(default)s)")
    parser.add_argument("--mapper", choices=MAPPERS, default="global", help="%(default)s")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/growth"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    report = main(options.images, options.outputs, options.keypoints, options.mapper, options.json)
    print(format_report(report))


if __name__ == "__main__":
    run_cli(_cli)
