"""The errors a user can cause, and the one place where they become an exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
INTERRUPTED = "interrupted; run the same command again to resume"


class SamfeatError(Exception):
    """Base of every error that a user can cause.

    The message says what was wrong, what was expected and what to do, in that order.
    """


class InputError(SamfeatError):
    """A bad file, a bad layout, a bad name: something that was given to the program."""


class ConfigError(SamfeatError):
    """An unknown configuration key or a value outside its range."""


class MissingDependencyError(SamfeatError):
    """An optional part of the package is needed and not installed."""


def end_early_interrupts(package: str) -> None:
    """Have Ctrl-C end a command line with one line while it still imports its modules, which takes seconds.

    For the `__init__` of a package with command lines: it is imported before them. It does something for
    ``python -m PACKAGE.MODULE`` alone, never for a program that imports the package, and until `run_cli` runs. The
    process ends there and then: an exception in the middle of another library's import may be swallowed by it.
    """
    words = sys.orig_argv
    if sys.argv[:1] != ["-m"] or "-m" not in words:  # what stands there while Python looks for the module of -m
        return
    if threading.current_thread() is not threading.main_thread():
        return
    module = words[words.index("-m") + 1]
    if module.partition(".")[0] == package and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_early)


def _end_early(_signal: int, _frame: object) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _hear_interrupts() -> bool:
    """Have Ctrl-C raise an exception from here on; whether it did not, so whether this process is the command's own."""
    if signal.getsignal(signal.SIGINT) is not _end_early:
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return True


def run_cli(main: Callable[[], object]) -> None:
    """Run a command line's main function and leave the process with the right status.

    A `SamfeatError` or an `OSError` (no such file, disk full) prints one line and exits with status 2; Ctrl-C
    exits with 130. Anything else is a defect of the program and keeps its traceback. `SAMFEAT_DEBUG=1` keeps
    all tracebacks.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which CPU instructions it tried
    if os.environ.get("SAMFEAT_DEBUG"):
        _hear_interrupts()
        main()
        return
    own = False
    try:
        own = _hear_interrupts()
        main()
        if own:  # all is done; Python takes a while to end itself, and would die of the signal there
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except (SamfeatError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        if own:  # everything is wound up but threads in C++, which would go on while Python tears down what they use
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)
        sys.exit(EXIT_INTERRUPTED)
