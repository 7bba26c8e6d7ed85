"""Run a stage in a process of its own and kill it in the middle, as often as asked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from samfeat_hloc.formats.journal import count_records

ROOT = Path(__file__).parents[1]
DEADLINE_S = 280  # a loaded machine imports torch slowly


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def kill_after(items: int, journal: Path, script: str, *arguments: object, how: int = signal.SIGKILL) -> int:
    """Start a script, wait until its journal has `items` records, send the signal; return its exit status."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_hear_interrupts
    )
    deadline = time.monotonic() + DEADLINE_S
    while count_records(journal) < items:
        if process.poll() is not None:
            raise AssertionError(f"the stage ended with {process.returncode} before it had {items} items")
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the stage did not finish {items} items in {DEADLINE_S} s")
        time.sleep(0.01)
    process.send_signal(how)
    return process.wait(timeout=DEADLINE_S)


def _hear_interrupts() -> None:
    """A shell that starts the tests in the background has its children ignore Ctrl-C; the stage must hear it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
