"""Keypoint targets from photographs alone: corners that are found again under the pair's homography."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.feature import gftt_response
from kornia.filters import gaussian_blur2d
from torch import Tensor

RADIUS = 3
"""Non-maximum suppression radius in pixels."""
DENSITY = 1 / 90
"""At most this many corners per pixel."""


def corner_map(images: Tensor, valid: Tensor) -> Tensor:
    """Corners of clean crops.

    The response is the smaller eigenvalue of the structure tensor (Shi-Tomasi) at two scales, each normalised by its
    mean, so that fine and coarse corners compete.

    Args:
        images: (B, 3, H, W) in [0, 1].
        valid: (B, 1, H, W) bool, where the crop shows the photograph.

    Returns:
        (B, 1, H, W) bool.
    """
    grey = rgb_to_grayscale(images)
    response = torch.zeros_like(grey)
    for sigma in (0.7, 1.8):
        size = 2 * round(3 * sigma) + 1
        blurred = gaussian_blur2d(grey, (size, size), (sigma, sigma))
        scale = gftt_response(blurred).clamp(min=0).sqrt()
        response = torch.maximum(response, scale / scale.mean(dim=(2, 3), keepdim=True).clamp(min=1e-6))
    edge = F.max_pool2d((~valid).float(), 2 * RADIUS + 3, stride=1, padding=RADIUS + 1) > 0
    response = response.masked_fill(edge, 0)
    peak = response == F.max_pool2d(response, 2 * RADIUS + 1, stride=1, padding=RADIUS)
    response = torch.where(peak & (response > 1.0), response, torch.zeros_like(response))
    count = max(1, int(response[0].numel() * DENSITY))
    threshold = response.flatten(1).topk(count, dim=1).values[:, -1]
    return (response >= threshold[:, None, None, None]) & (response > 0)


def look_up(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, N) of maps (B, 1, H, W) at the pixels nearest to points (B, N, 2); 0 outside."""
    height, width = maps.shape[2:]
    extent = torch.tensor([width, height], device=maps.device)
    grid = ((points * 2 + 1) / extent - 1)[:, :, None]
    return F.grid_sample(maps.float(), grid, mode="nearest", align_corners=False)[:, 0, :, 0]


def repeated(corners: Tensor, other: Tensor, points_in_other: Tensor) -> Tensor:
    """The corners (B, 1, H, W) whose image in the other crop lies within 1.5 px (Chebyshev) of a corner there.

    Args:
        points_in_other: (B, H * W, 2), where each pixel of the crop lies in the other.
    """
    near = F.max_pool2d(other.float(), 3, stride=1, padding=1)
    return corners & (look_up(near, points_in_other) > 0).reshape(corners.shape)
