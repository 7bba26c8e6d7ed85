"""Progress bars: one look for every stage, with rate and time left, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 10.0  # a log file is not a terminal: a line every 0.2 s would drown it


def progress(iterable: Iterable[T], *, total: int | None, desc: str, unit: str) -> Iterator[T]:
    """Yield the items of `iterable` and show how many are done, how fast, and the time left."""
    from tqdm import tqdm

    interval = TERMINAL_INTERVAL_S if sys.stderr.isatty() else LOG_INTERVAL_S
    with tqdm(
        iterable, total=total, desc=desc, unit=unit, mininterval=interval, file=sys.stderr, dynamic_ncols=True
    ) as bar:
        yield from bar
