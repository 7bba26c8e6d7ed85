"""Teacher rows under the crop, flip or homography that their image gets."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from torch import Tensor

from training.bank import Bank


class Taught(NamedTuple):
    """What the teachers say about n crops of S pixels."""

    embedding: Tensor  # (n, C, S/8, S/8)
    embedding_seen: Tensor  # (n, 1, S/8, S/8) bool
    groups: Tensor  # (n, N) int64
    edges: Tensor  # (n, 1, S/4, S/4) in [0, 1]
    edges_seen: Tensor  # (n, 1, S/4, S/4) bool


def cell_centres(size: int, cell: int, device: torch.device) -> Tensor:
    """Pixel centres (1, (size/cell)^2, 2) of the cells of a crop, row by row."""
    axis = (torch.arange(size // cell, device=device, dtype=torch.float32) + 0.5) * cell - 0.5
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(1, -1, 2)


def teach(bank: Bank, views: Tensor, photo_from_crop: Tensor, points: Tensor, size: int) -> Taught:
    """Look the teacher up where the pixels of the crops come from; cells from outside the photograph are not seen.

    Args:
        views: (n,) places in the bank.
        photo_from_crop: (n, 3, 3) homographies.
        points: (n, N, 2) pixels of the crops whose groups are wanted.
        size: S.
    """
    count, maps = len(views), bank.teacher
    eighth, quarter = size // 8, size // 4
    if not len(maps.embedding):
        return Taught(
            torch.zeros(count, 1, eighth, eighth, device=bank.device),
            torch.zeros(count, 1, eighth, eighth, dtype=torch.bool, device=bank.device),
            torch.full(points.shape[:2], -1, dtype=torch.int64, device=bank.device),
            torch.zeros(count, 1, quarter, quarter, device=bank.device),
            torch.zeros(count, 1, quarter, quarter, dtype=torch.bool, device=bank.device),
        )
    index = bank.teacher_index[views]
    known, index = index >= 0, index.clamp(min=0)

    def place(crop_points: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (n, M, 2) in [-1, 1] of the photograph, and which lie inside it."""
        positions = (transform_points(photo_from_crop, crop_points) * 2 + 1) / bank.sizes[views][:, None] - 1
        return positions, (positions.abs() <= 1).all(dim=-1)

    grid, inside = place(cell_centres(size, 8, bank.device).expand(count, -1, -1))
    shape = (count, eighth, eighth)
    embedding = F.grid_sample(
        maps.embedding[index].float(), grid.reshape(*shape, 2), padding_mode="border", align_corners=False
    )
    embedding_seen = (inside & (known & maps.has_embedding[index])[:, None]).reshape(count, 1, eighth, eighth)

    grid, inside = place(cell_centres(size, 2, bank.device).expand(count, -1, -1))
    fine = F.grid_sample(
        maps.edges[index].float() / 255,
        grid.reshape(count, size // 2, size // 2, 2),
        padding_mode="border",
        align_corners=False,
    )
    whole = F.avg_pool2d(inside.float().reshape(count, 1, size // 2, size // 2), 2) == 1
    edges_seen = whole & (known & maps.has_edges[index])[:, None, None, None]

    grid, inside = place(points)
    grid = grid[:, :, None]
    labels = F.grid_sample(maps.groups[index].float(), grid, mode="nearest", align_corners=False)[:, 0, :, 0]
    usable = inside & (known & maps.has_groups[index])[:, None]
    groups = torch.where(usable, labels.long(), torch.full_like(labels, -1, dtype=torch.int64))
    return Taught(embedding, embedding_seen, groups, F.avg_pool2d(fine, 2), edges_seen)
