"""Open3D in a process of its own: it dies of signals where an exception was due, and must not take this one along."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread, Timer

from samfeat_hloc.errors import MissingDependencyError

LIBRARIES = {
    "libusb-1.0": "libusb-1.0-0",
    "libGL": "libgl1",
    "libEGL": "libegl1",
    "libgomp": "libgomp1",
    "libX11": "libx11-6",
    "libvulkan": "libvulkan1",
    "libc++": "libc++1",
}
"""Start of a shared library's name -> Debian's package."""
DRIVERS = "apt install libvulkan1 mesa-vulkan-drivers libgl1 libegl1 (Debian, Ubuntu)"
INSTALL = "pip install 'samfeat-hloc[viewer]'"
STDIN = 0
NO_OPEN3D = 3
"""Exit status of a child that could not import Open3D."""


def run_child(
    module: str,
    arguments: list[str],
    *,
    on_line: Callable[[str], object] | None = None,
    timeout_s: float | None = None,
    ready: str | None = None,
) -> None:
    """Run a module of this package in a child process and wait for it.

    Args:
        module: as in ``python -m``.
        arguments: of its command line.
        on_line: called with every line that it prints.
        timeout_s: kill it after so long without a line, or with `ready` without that one.
        ready: the line after which it may be silent for ever.

    Raises:
        MissingDependencyError: it failed; the message says why as far as can be seen, and what to install.
    """
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,  # see `end_with_parent`
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            env=environment,
        )
        watch = _Watchdog(child, timeout_s)
        try:
            for line in child.stdout or ():
                if ready is None:
                    watch.alive()
                elif line.rstrip("\n") == ready:
                    watch.stop()
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            status = child.wait()
        finally:
            watch.stop()
            if child.poll() is None:  # Ctrl-C here: the child goes too
                child.kill()
                child.wait()
        errors.seek(0)
        said = errors.read()
    if watch.fired:
        raise MissingDependencyError(f"Open3D did nothing for {timeout_s:.0f} s and was stopped; {DRIVERS}")
    if status != 0:
        raise MissingDependencyError(explain(status, said))


def end_with_parent() -> None:
    """Called in a child: end it when its parent has gone, however that was killed, and closed the child's stdin."""

    def wait() -> None:
        while os.read(STDIN, 4096):  # not `sys.stdin`: an interpreter that ends meanwhile aborts over its lock
            pass
        os._exit(0)

    Thread(target=wait, daemon=True).start()


def explain(status: int, said: str) -> str:
    """One line about a child that ended with `status` after it had written `said` to stderr."""
    if "No module named 'open3d'" in said:
        return f"Open3D is not installed; {INSTALL}"
    missing = re.search(r"((lib[\w+.-]+?)\.so[.\d]*): cannot open shared object file", said)
    if missing:
        package = next((name for start, name in LIBRARIES.items() if missing[2].startswith(start)), missing[2].lower())
        return f"Open3D needs the system library {missing[1]}; apt install {package} (Debian, Ubuntu)"
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    if status < 0:
        name = signal.Signals(-status).name if -status in signal.valid_signals() else f"signal {-status}"
        return f"Open3D crashed ({name}), as it does without a working Vulkan or OpenGL driver; {DRIVERS}"
    if status == NO_OPEN3D:
        return f"Open3D cannot be imported ({last[:200]}); {INSTALL}"
    return f"Open3D failed ({last[:200]}); {DRIVERS}"


class _Watchdog:
    """Kills a child that has been silent for too long."""

    def __init__(self, child: subprocess.Popen[str], timeout_s: float | None) -> None:
        self.child, self.timeout_s, self.fired = child, timeout_s, False
        self._start()

    def _start(self) -> None:
        self.timer = Timer(self.timeout_s, self._fire) if self.timeout_s is not None else None
        if self.timer is not None:
            self.timer.daemon = True
            self.timer.start()

    def _fire(self) -> None:
        self.fired = True
        self.child.kill()

    def alive(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
