"""Runs the jobs of `benchmarks.vs_hloc`, each in a process of its own, and keeps what was measured."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.vs_hloc_report import rows
from benchmarks.vs_hloc_setting import Files, Setting
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.progress import progress

ROOT = Path(__file__).parents[1]
logger = logging.getLogger(__name__)

JOBS = (
    ("hloc", "extract"),
    ("ours", "extract"),
    ("hloc", "sift"),
    ("ours", "sift"),
    ("hloc", "match"),
    ("ours", "match"),
    ("ours", "match-dot"),
    ("hloc", "triangulate"),
    ("ours", "triangulate"),
    ("hloc", "triangulate-estimated"),
    ("ours", "triangulate-estimated"),
    ("hloc", "localize"),
    ("ours", "localize"),
    ("ours", "localize-plain"),
    ("colmap", "sift"),
    ("colmap", "aliked"),
)
"""(side, job) in the order of the stages; what they do is in `vs_hloc_jobs`."""
ONCE = frozenset({"triangulate-estimated"})
NOT_COMPARED = frozenset({"extract", "sift", "aliked"})
"""Jobs whose output nothing is done with."""
LONGEST_S = 6 * 3600


class Benchmark:
    """The runs of one setting.

    Args:
        setting: sizes.
        outputs: folder of all settings.
        hloc: its checkout; None: without hloc.
        hloc_pycolmap: folder with a pycolmap before 4, for hloc's triangulation; None: that of the other stages.
        estimated: triangulate by robust estimation too.
        models: ONNX files "aliked" and "lightglue", or none.

    Raises:
        MissingDependencyError: hloc cannot be imported from there.
        InputError: `hloc_pycolmap` has no such pycolmap.
    """

    def __init__(
        self,
        setting: Setting,
        outputs: Path,
        hloc: Path | None = None,
        hloc_pycolmap: Path | None = None,
        estimated: bool = False,
        models: Mapping[str, str] | None = None,
    ) -> None:
        self.setting = setting
        self.files = Files(outputs.resolve() / setting.digest)
        self.models = dict(models or {})
        self.estimated = estimated
        self.hloc = hloc.resolve() if hloc else None
        self.hloc_pycolmap = hloc_pycolmap.resolve() if hloc_pycolmap else None
        self.versions = self._versions("localize") if self.hloc else {}
        self.triangulates_on = self._versions("triangulate")["pycolmap"] if self.hloc else ""
        if self.hloc_pycolmap and int(self.triangulates_on.split(".")[0]) >= 4:
            raise InputError(
                f"--hloc-pycolmap {self.hloc_pycolmap} has pycolmap {self.triangulates_on}; expected one before 4: "
                f"pip install --no-deps --target {self.hloc_pycolmap} pycolmap==3.13.0"
            )
        self._ours = _digest_sources(sorted((ROOT / "samfeat_hloc").rglob("*.py")))
        self._theirs = _digest_sources(sorted((self.hloc / "hloc").rglob("*.py"))) if self.hloc else ""
        self._jobs = _digest_sources(
            [ROOT / "benchmarks" / f"vs_hloc_{part}.py" for part in ("jobs", "worker", "colmap")]
        )

    def code(self, side: str, job: str) -> str:
        """What a measurement is of: one of other code, or with another pycolmap, is not taken for it."""
        if side != "hloc":
            return f"{self._jobs} {self._ours}"
        pycolmap = self.triangulates_on if job == "triangulate" else self.versions["pycolmap"]
        network = self._ours if job == "extract" else ""  # hloc runs our SAMFeat
        return f"{self._jobs} {self._theirs} {pycolmap} {network}".rstrip()

    def jobs(self) -> list[tuple[str, str]]:
        """(side, job) in the order of the stages, hloc beside ours."""
        left_out = set() if self.models else {"aliked"}
        if not self.estimated:
            left_out.add("triangulate-estimated")
        return [(side, job) for side, job in JOBS if job not in left_out and (self.hloc or side != "hloc")]

    def run(self, runs: int) -> dict[str, Any]:
        """Measure what is not measured yet; compare; report.

        Raises:
            InputError: a stage failed; with its last line and its log.
        """
        self._child("ours", "prepare", 0, once=True)
        plan = [
            (side, job, number)
            for number in range(runs)
            for side, job in (self.jobs() if number % 2 == 0 else reversed(self.jobs()))
            if number == 0 or job not in ONCE
        ]
        for side, job, number in progress(plan, total=len(plan), desc="vs_hloc", unit="run"):
            self._child(side, job, number)
        comparison: dict[str, Any] = {}
        if self.hloc:
            self._child("hloc", "correspondences", 0)
            self._child("ours", "compare", 0, again=True)
            comparison = json.loads(self.files.result("ours", "compare", 0).read_text())
            comparison.pop("code")
        measured = {
            f"{side} {job}": [
                json.loads(self.files.result(side, job, number).read_text())
                for number in range(1 if job in ONCE else runs)
            ]
            for side, job in self.jobs()
        }
        return {
            "setting": asdict(self.setting),
            "runs": runs,
            "versions": {name: metadata.version(name) for name in ("pycolmap", "torch", "numpy", "h5py")},
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "hloc": {"path": str(self.hloc), **self.versions, "triangulates_on": f"pycolmap {self.triangulates_on}"}
            if self.hloc
            else None,
            "rows": rows(measured, self.files.read_plan()),
            "comparison": comparison,
            "measured": measured,
        }

    def _child(self, side: str, job: str, number: int, *, once: bool = False, again: bool = False) -> None:
        """Run one job in a process of its own, unless its result is there."""
        result, output = self.files.result(side, job, number), self.files.output(side, job, number)
        if result.is_file() and not again and (once or self._is_current(result, side, job)):
            return
        result.unlink(missing_ok=True)
        shutil.rmtree(output, ignore_errors=True)
        self.files.results.mkdir(parents=True, exist_ok=True)
        request = self.files.root / "request.json"
        with replace_file(request) as path:
            code = self.code(side, job)
            path.write_text(json.dumps({"setting": asdict(self.setting), "models": self.models, "code": code}))
        logger.info("%s %s, run %d", side, job, number + 1)
        command = [sys.executable, "-m", "benchmarks.vs_hloc_worker", str(request), str(self.files.root), side, job]
        log = result.with_suffix(".log")
        with log.open("w") as stream:
            done = subprocess.run(
                [*command, str(number)], cwd=ROOT, env=self._environment(side, job), stdout=stream, stderr=stream,
                timeout=LONGEST_S, check=False,
            )  # fmt: skip
        if done.returncode or not result.is_file():
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise InputError(
                f"{side} {job} ended with status {done.returncode}: {lines[-1] if lines else 'no output'}; its whole "
                f"output is in {log}"
            )
        if number or job in NOT_COMPARED:
            shutil.rmtree(output, ignore_errors=True)

    def _is_current(self, result: Path, side: str, job: str) -> bool:
        return bool(json.loads(result.read_text()).get("code") == self.code(side, job))

    def _environment(self, side: str, job: str) -> dict[str, str]:
        folders = [ROOT]
        if side == "hloc" and self.hloc:
            older = [self.hloc_pycolmap] if job == "triangulate" and self.hloc_pycolmap else []
            folders = [*older, self.hloc, ROOT]
        before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *before])}

    def _versions(self, job: str) -> dict[str, str]:
        """Versions of hloc and of the pycolmap it gets in a job."""
        program = (
            "import json, hloc, pycolmap; "
            "print(json.dumps({'hloc': hloc.__version__, 'pycolmap': pycolmap.__version__}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=self._environment("hloc", job), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no output"]
            raise MissingDependencyError(
                f"hloc cannot be imported from {self.hloc} ({lines[-1]}); give --hloc the checkout that holds the "
                "folder hloc, or leave --hloc out to measure ours alone"
            )
        versions: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
        return versions


def _digest_sources(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
