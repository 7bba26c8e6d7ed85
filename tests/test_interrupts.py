"""Ctrl-C before a command line's own code has started: while it imports torch, pycolmap and the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samfeat_hloc.errors import INTERRUPTED
from samfeat_hloc.interruptible import interruptible
from tests.kill import DEADLINE_S, ROOT

STUB = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
for _ in range(10**6):
    pass
raise ImportError("the interrupt was not heard")
"""
COMMANDS = {
    "pipelines.photos": ("pycolmap", ["photographs"]),
    "pipelines.eth3d": ("pycolmap", []),
    "training.average": ("torch", ["a", "b", "--output", "c"]),
    "samfeat_hloc.export_onnx": ("torch", ["--output", "x.onnx"]),
    "samfeat_hloc.view": ("numpy", ["model", "--html", "x.html"]),
}


def interrupted(tmp_path: Path, module: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a module on its path that is interrupted while it is imported."""
    (tmp_path / f"{module}.py").write_text(STUB)
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def write_package(root: Path, program: str) -> str:
    """Write a package with a command line; its module as for ``-m``."""
    package = root / "interrupted_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from samfeat_hloc.errors import end_early_interrupts\nend_early_interrupts(__name__)\n"
    )
    (package / "main.py").write_text(program)
    return "interrupted_package.main"


@pytest.mark.parametrize("module", COMMANDS)
def test_interrupted_among_its_imports_a_command_says_one_line(tmp_path: Path, module: str) -> None:
    stub, arguments = COMMANDS[module]
    found = interrupted(tmp_path, stub, "-m", module, *arguments)
    assert (found.returncode, found.stderr, found.stdout) == (130, f"{INTERRUPTED}\n", "")


def test_a_program_that_imports_the_package_keeps_its_own_interrupts(tmp_path: Path) -> None:
    program = "import samfeat_hloc, signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import samfeat_hloc\n")
    (tmp_path / "theirs" / "main.py").write_text(program)
    for command in (["-c", program], ["-c", program, "-m", "samfeat_hloc.view"], ["-m", "theirs.main"]):
        found = interrupted(tmp_path, "unused", *command)
        assert found.returncode == 0, found.stderr


def test_when_all_is_done_an_interrupt_changes_nothing(tmp_path: Path) -> None:
    """While Python winds itself up, which takes seconds after torch."""
    program = (
        "import atexit, os, signal\n"
        "from samfeat_hloc.errors import run_cli\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "run_cli(lambda: print('done'))\n"
    )
    found = interrupted(tmp_path, "unused", "-m", write_package(tmp_path, program))
    assert (found.returncode, found.stderr, found.stdout) == (0, "", "done\n")


def test_after_the_imports_an_interrupt_is_an_exception_again(tmp_path: Path) -> None:
    """What is under way is wound up, temporary files too."""
    program = (
        "import os, signal\n"
        "from samfeat_hloc.errors import run_cli\n"
        "def main():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        for _ in range(10**6): pass\n"
        "    finally:\n"
        "        print('wound up')\n"
        "run_cli(main)\n"
    )
    found = interrupted(tmp_path, "unused", "-m", write_package(tmp_path, program))
    assert (found.returncode, found.stderr, found.stdout) == (130, f"{INTERRUPTED}\n", "wound up\n")


def test_a_call_that_does_not_hear_interrupts_ends_with_the_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, threading, time\n"
        "from samfeat_hloc.errors import run_cli\n"
        "from samfeat_hloc.interruptible import interruptible\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "run_cli(lambda: interruptible(lambda: time.sleep(600)))\n"
    )
    start = time.monotonic()
    found = interrupted(tmp_path, "unused", "-m", write_package(tmp_path, program))
    assert (found.returncode, found.stderr) == (130, f"{INTERRUPTED}\n")
    assert time.monotonic() - start < 120


def test_an_interruptible_call_gives_its_result_or_its_error() -> None:
    assert interruptible(lambda: 7) == 7
    assert interruptible(lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)
