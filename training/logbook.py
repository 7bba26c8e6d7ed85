"""What is written down while a run goes on: log.jsonl, and TensorBoard's curves and pictures where it is installed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)


class Logbook:
    """Appends to OUTPUT/log.jsonl, one JSON object a line, and to OUTPUT/tensorboard.

    Args:
        output: of the run.
        step: the run goes on after this one: later lines, which a killed run wrote after its checkpoint, are removed.
        tensorboard: write its files, if the package is there.
    """

    def __init__(self, output: Path, step: int, tensorboard: bool) -> None:
        self.path = output / "log.jsonl"
        self._forget_after(step)
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                logger.info("TensorBoard is not installed (pip install tensorboard); the log is %s", self.path)
            else:
                self._board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One line: ``step``, and the values; curves are called KIND/NAME."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    @property
    def shows_pictures(self) -> bool:
        """Whether there is a place for pictures."""
        return self._board is not None

    def picture(self, step: int, name: str, image: npt.NDArray[np.uint8]) -> None:
        """An (H, W, 3) uint8 RGB picture."""
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush everything."""
        if self._board is not None:
            self._board.close()

    def _forget_after(self, step: int) -> None:
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except json.JSONDecodeError:  # the kill tore it
                continue
        self.path.write_text("".join(line + "\n" for line in kept))
