"""Nearest neighbours by whole similarity matrices in float32, many second images at once: the way of CUDA.

The descriptors stay on the device. One product of the first image with all second images of a call gives the negative
costs (see `candidates.py`), twice their size; every further step has a fixed shape and works on all of them, so that
nothing waits for the device until the call's results have been copied. Memory: `LIMIT` similarities at a time, with
three temporary copies when a ratio is tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.matchers import Matches

LIMIT = 256 * 2**20
FAR = -1e30
ROUNDING = 1e-6  # of a squared distance, relative to the squared length of the descriptors


@dataclass(frozen=True)
class DenseOperand:
    """One image's descriptors on the device.

    Attributes:
        rows: (N, D + 2) descriptor, one, and the negative squared length, or 0 where dot products are compared.
        lengths: (N,) of the descriptors.
        scale: by which the product of two descriptors counts: 2 for distances, 1 for dot products.
    """

    rows: torch.Tensor
    lengths: torch.Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return self.rows.shape[1] - 2

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return int(self.rows.nbytes + self.lengths.nbytes)


def make_dense(descriptors: npt.NDArray[np.float32], metric: str, device: torch.device) -> DenseOperand:
    """Move (N, D) descriptors to the device, from pinned memory and without waiting."""
    source = torch.from_numpy(descriptors)
    moved = (source.pin_memory() if device.type == "cuda" else source).to(device, non_blocking=True)
    lengths = moved.norm(dim=1)
    squared = (moved * moved).sum(dim=1, keepdim=True) if metric == "l2" else torch.zeros_like(moved[:, :1])
    rows = torch.cat([moved, torch.ones_like(squared), -squared], dim=1)
    return DenseOperand(rows, lengths, 2.0 if metric == "l2" else 1.0)


def match_dense(
    first: DenseOperand, others: Sequence[DenseOperand], mutual: bool, ratio: float | None, distance: float | None
) -> list[Matches]:
    """Match one image with each of the others; see `nearest_neighbor.NearestNeighborConf` for the tests."""
    dimension = first.dimension
    left = torch.cat([first.scale * first.rows[:, :dimension], first.rows[:, -1:], first.rows[:, -2:-1]], dim=1)
    pending = []
    for group in _groups(len(first), others):
        values, index = _match(left, _stack(group), mutual, ratio, distance, ROUNDING * first.lengths**2)
        pending.append((group, _to_host(_scores(values, index, first, group)), _to_host(index.to(torch.int32))))
    if left.is_cuda:  # the one wait of a call, for its own work: what other threads have queued behind goes on
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(left.device))
        done.synchronize()
    found = []
    for group, scores, index in pending:
        for other, score, matches in zip(group, scores.numpy(), index.numpy(), strict=True):
            found.append(Matches(matches.copy(), score.copy(), len(other)))
    return found


def _groups(num0: int, others: Sequence[DenseOperand]) -> Iterator[list[DenseOperand]]:
    """Split the second images so that a group's padded matrices have at most `LIMIT` values, or it is one image."""
    group: list[DenseOperand] = []
    for other in others:
        if group and num0 * (len(group) + 1) * max(len(other), *map(len, group)) > LIMIT:
            yield group
            group = []
        group.append(other)
    yield group


def _stack(group: Sequence[DenseOperand]) -> torch.Tensor:
    """(P, N1, K) rows of several images; shorter ones are padded with rows that are nobody's neighbour."""
    stacked = group[0].rows.new_zeros((len(group), max(map(len, group)), group[0].rows.shape[1]))
    stacked[:, :, -1] = FAR
    for held, other in zip(stacked, group, strict=True):
        held[: len(other)] = other.rows
    return stacked


def _match(
    left: torch.Tensor,
    stacked: torch.Tensor,
    mutual: bool,
    ratio: float | None,
    distance: float | None,
    least: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, N0) similarity of each row's nearest, and its index or -1."""
    count, num1, _ = stacked.shape
    similarity = (left @ stacked.flatten(0, 1).T).view(len(left), count, num1)
    values, index = similarity.max(dim=2)
    keep = torch.ones_like(index, dtype=torch.bool)
    column = torch.arange(count, device=left.device) * num1 + index  # in the flattened (P, N1)
    row = torch.arange(len(left), device=left.device)[:, None].expand_as(index)
    if mutual:  # a row's neighbour is mutual when its value is its column's best; of equal ones, the first row
        best1 = similarity.amax(dim=0).flatten()
        claims = torch.where(values >= best1[column], row, len(left))
        winner = torch.full_like(best1, len(left), dtype=torch.int64)
        winner.scatter_reduce_(0, column.flatten(), claims.flatten(), "amin")
        keep &= winner[column] == row
    if ratio is not None:
        nearest = (-values).clamp(min=0)
        seconds = [similarity.scatter(2, index[..., None], -torch.inf).amax(dim=2)]
        if mutual:  # a column's best is a row's best only where the match is mutual; other columns are not asked for
            hidden = torch.where(keep, -torch.inf, values)
            others = similarity.scatter(2, index[..., None], hidden[..., None]).amax(dim=0).flatten()
            seconds.append(others[column])
        for second in seconds:
            squared = (-second).clamp(min=0)
            keep &= (nearest <= ratio**2 * squared) & (squared > least[:, None])
    if distance is not None:
        keep &= values >= -(distance**2)
    return values.T, torch.where(keep, index, -1).T


def _scores(
    values: torch.Tensor, index: torch.Tensor, first: DenseOperand, group: Sequence[DenseOperand]
) -> torch.Tensor:
    """(P, N0) (1 + cosine) / 2 of the matches, 0 where there is none."""
    longest = max(map(len, group))
    lengths = torch.stack([torch.nn.functional.pad(other.lengths, (0, longest - len(other))) for other in group])
    matched = lengths.gather(1, index.clamp(min=0))
    dots = values if first.scale == 1 else 0.5 * (values + first.lengths**2 + matched**2)
    cosine = dots / (first.lengths * matched).clamp(min=1e-12)
    return torch.where(index >= 0, (0.5 + 0.5 * cosine).clamp(0, 1), 0.0)


def _to_host(values: torch.Tensor) -> torch.Tensor:
    """Start the copy to pinned memory; it is there after the stream was waited for."""
    if not values.is_cuda:
        return values.contiguous()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)
