"""Calls into C++ that do not hear Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def interruptible(call: Callable[[], T]) -> T:
    """What `call` returns or raises; Ctrl-C ends the wait for it at once.

    The call runs in a thread, which must not hold Python's lock while it works. After Ctrl-C it works on until the
    process ends, which for a command line is at once (`samfeat_hloc.errors.run_cli`); what it leaves behind is what it
    would leave when killed.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # it is raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=work, name="interruptible", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
