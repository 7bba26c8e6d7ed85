"""Seconds and peak memory of each stage, kept over interrupted runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from pipelines.estimate import peak_memory_mb
from samfeat_hloc.atomic import replace_file

logger = logging.getLogger(__name__)

Row: TypeAlias = dict[str, float]


class StageLog:
    """What each stage took, in a JSON file that every stage's end updates.

    A stage that finds its files as it would leave them keeps what it took when it made them. A stage that was killed
    and went on has the sum of what was measured: the part before the kill is not in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        if path.is_file():
            try:
                self.rows = json.loads(path.read_text())
            except json.JSONDecodeError:
                logger.warning("warning: %s is damaged; times of earlier runs are lost", path)

    @contextmanager
    def __call__(self, stage: str, files: Sequence[Path] = ()) -> Iterator[None]:
        """Measure a block.

        Args:
            stage: its name.
            files: what it makes; when none of them changes, what was measured before stays.
        """
        before = _states(files)
        exact = _reset_peak()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        peak = _peak_mb() if exact else peak_memory_mb()
        old = self.rows.get(stage)
        if old is not None and files and _states(files) == before:
            logger.info("%s: finished before", stage)
            return
        spent = (old["seconds"] if old else 0.0) + seconds
        memory = max(old["peak_memory_mb"] if old else 0.0, peak)
        self.rows[stage] = {"seconds": round(spent, 2), "peak_memory_mb": round(memory, 1)}
        with replace_file(self.path) as temporary:
            temporary.write_text(json.dumps(self.rows, indent=1) + "\n")
        logger.info("%s: %.1f s, %.0f MB", stage, seconds, peak)


def _states(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Size and time of each file."""
    return [(file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else None for file in files]


def _reset_peak() -> bool:
    """Have Linux forget the process's peak memory; elsewhere a stage's peak is that of the process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_mb() -> float:
    """Largest resident memory since `_reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return peak_memory_mb()
