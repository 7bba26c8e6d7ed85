"""The errors a user can cause, and the one place where they become an exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


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


def run_cli(main: Callable[[], object]) -> None:
    """Run a command line's main function and leave the process with the right status.

    A `SamfeatError` or an `OSError` (no such file, disk full) prints one line and exits with status 2; Ctrl-C
    exits with 130. Anything else is a defect of the program and keeps its traceback. `SAMFEAT_DEBUG=1` keeps
    all tracebacks.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which CPU instructions it tried
    if os.environ.get("SAMFEAT_DEBUG"):
        main()
        return
    try:
        main()
    except (SamfeatError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
