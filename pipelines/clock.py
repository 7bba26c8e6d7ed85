"""Seconds a run spends in each stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Clock:
    """Adds up seconds by stage name, in the order the stages first ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as part of a stage."""
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        logger.info("%s: %.1f s", stage, spent)

    def rounded(self) -> dict[str, float]:
        """The seconds of each stage to a hundredth, for a report."""
        return {stage: round(seconds, 2) for stage, seconds in self.seconds.items()}
