"""Which correspondences of a pair of crops are learned from: some of all pixels, or of given matches."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import TrainingConfig

CELL, SMALL_CELL = 8, 4
"""One point at most is drawn from each cell of this many pixels: evenly, and where keypoints come first."""
KEYPOINT_SHARE = 0.7
"""Chance that a keypoint is preferred over the other pixels of its cell."""


class PointSampler:
    """Draws the points of pairs of crops as a configuration says.

    Args:
        config: of the run.
        rand: numbers in [0, 1) of a shape, on the training device.
    """

    def __init__(self, config: TrainingConfig, rand: Callable[..., Tensor]) -> None:
        self.size, self.count, self._rand = config.size, config.points, rand
        self._keypoints_first = config.points_at == "keypoints"
        self._cell = SMALL_CELL if self._keypoints_first else CELL

    def anywhere(self, keypoints: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Points (n, N, 2) of the first crop, at most one a cell, keypoints preferred, and which are seen in both."""
        size = self.size
        prefer = self._rand(*keypoints.shape) < KEYPOINT_SHARE
        priority = (self._rand(*keypoints.shape) + (keypoints & prefer)).masked_fill(~shared, -1.0)
        best, index = F.max_pool2d(priority, self._cell, return_indices=True)
        best, index = best.flatten(1), index.flatten(1)
        cells = self._rand(*best.shape).masked_fill(best < 0, -1.0)
        if self._keypoints_first:
            cells = cells + (best >= 1)
        order = _first(cells, self.count)
        index, valid = index.gather(1, order), best.gather(1, order) >= 0
        points = torch.stack([index % size, index // size], dim=-1).float()
        return _pad(points, self.count), _pad(valid, self.count)

    def among(self, positions: Tensor, inside: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """N of the correspondences (2, n, M, 2), at most one a cell of the first crop, those at keypoints preferred."""
        size = self.size
        pixel = positions[0].round().clamp(0, size - 1).long()
        corner = keypoints.flatten(1).gather(1, pixel[..., 1] * size + pixel[..., 0])
        prefer = self._rand(*inside.shape) < KEYPOINT_SHARE
        priority = (self._rand(*inside.shape) + (corner & prefer)).masked_fill(~inside, -1.0)
        across = (size + self._cell - 1) // self._cell
        cell = pixel[..., 1] // self._cell * across + pixel[..., 0] // self._cell
        best = torch.full((len(cell), across * across), -1.0, device=cell.device)
        best = best.scatter_reduce(1, cell, priority, "amax")
        winner = inside & (priority == best.gather(1, cell))
        cells = self._rand(*inside.shape).masked_fill(~winner, -1.0)
        if self._keypoints_first:
            cells = cells + (winner & (priority >= 1))
        order = _first(cells, self.count)
        chosen = torch.stack([side.gather(1, order[..., None].expand(-1, -1, 2)) for side in positions])
        valid = _pad(winner.gather(1, order), self.count)
        points = torch.stack([_pad(side, self.count) for side in chosen])
        return torch.where(valid[..., None], points, torch.zeros_like(points)), valid


def _first(priority: Tensor, count: int) -> Tensor:
    """Indices of the largest entries of each row, at most count."""
    return priority.argsort(dim=1, descending=True)[:, :count]


def _pad(values: Tensor, count: int) -> Tensor:
    """(n, k, ...) filled up with zeros to (n, count, ...)."""
    missing = count - values.shape[1]
    return torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], dim=1) if missing else values
