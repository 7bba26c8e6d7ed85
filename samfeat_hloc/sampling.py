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
    extent = torch.tensor(image_size, dtype=torch.float32, device=points.device)
    grid = points.float() * 2 / (extent - 1) - 1 if sampling == "released" else (points.float() * 2 + 1) / extent - 1
    values = F.grid_sample(maps.float(), grid[:, :, None], padding_mode="border", align_corners=False)
    return values[..., 0].transpose(1, 2)
