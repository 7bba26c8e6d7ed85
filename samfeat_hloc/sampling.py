"""Reading a quarter-resolution map at pixels of the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(maps: Tensor, points: Tensor, image_size: tuple[int, int], sampling: str) -> Tensor:
    """Bilinear values of maps at points, the map's border repeated outside.

    Args:
        maps: (B, C, h, w).
        points: (B, N, 2) pixels x, y of the image the maps were made from; (0, 0) is the top-left pixel's centre.
        image_size: (W, H) of that image.
        sampling: ``exact`` or ``released``, see `samfeat_hloc.model.Architecture`.

    Returns:
        (B, N, C) float32.
    """
    grid = normalised(points, image_size, sampling)
    values = F.grid_sample(maps.float(), grid[:, :, None], padding_mode="border", align_corners=False)
    return values[..., 0].transpose(1, 2)


def cell_positions(points: Tensor, cells: tuple[int, int], image_size: tuple[int, int], sampling: str) -> Tensor:
    """Where points lie in a map, as `sample` reads it: (0, 0) is the centre of the top-left cell.

    Args:
        points: (..., 2) pixels x, y.
        cells: (w, h) of the map.
        image_size: (W, H) of the image.
        sampling: ``exact`` or ``released``.

    Returns:
        (..., 2) float32 x, y, within the map.
    """
    size = torch.tensor(cells, dtype=torch.float32, device=points.device)
    positions = ((normalised(points, image_size, sampling) + 1) * size - 1) / 2
    return torch.minimum(positions.clamp_min(0), size - 1)


def bilinear_taps(fractions: Tensor, taps: int) -> Tensor:
    """Weights that read `taps` values, one cell apart, from taps + 1 cells in a row.

    Args:
        fractions: (N,) in [0, 1), how far beyond the first cell the first value lies.
        taps: how many.

    Returns:
        (N, taps, taps + 1).
    """
    first = torch.eye(taps, taps + 1, device=fractions.device)
    second = first.roll(1, dims=1)
    return first + fractions[:, None, None] * (second - first)


def normalised(points: Tensor, image_size: tuple[int, int], sampling: str) -> Tensor:
    """Positions as `F.grid_sample` takes them: -1 and 1 are the outer borders of the map's cells.

    Args:
        points: (..., 2) pixels x, y.
        image_size: (W, H).
        sampling: ``exact`` or ``released``.
    """
    x, y = points.float().unbind(dim=-1)
    if sampling == "released":
        return torch.stack([side * 2 / (size - 1) - 1 for side, size in zip((x, y), image_size, strict=True)], dim=-1)
    return torch.stack([(side * 2 + 1) / size - 1 for side, size in zip((x, y), image_size, strict=True)], dim=-1)
