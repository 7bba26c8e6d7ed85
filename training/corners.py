"""Keypoint targets from photographs alone: corners that are found again under the pair's homography.

A corner has a position finer than a pixel. The target is a small bell around the mean of where the two crops see it, so
that the quadratic fit at inference finds that position again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.feature import gftt_response
from kornia.filters import gaussian_blur2d
from kornia.geometry.linalg import transform_points
from torch import Tensor

from samfeat_hloc.keypoints import cut_windows, vertex_offset
from training.homography import invert

RADIUS = 3
"""Non-maximum suppression radius in pixels."""
DENSITY = 1 / 90
"""At most this many corners per pixel."""
TOLERANCE = 1.5
"""Pixels between a corner and where the other crop sees it."""
BELL_PEAK, BELL_SIGMA = 0.8, 0.8
"""Height, and width in pixels, of a target."""


class Corners(NamedTuple):
    """Corners of B crops."""

    mask: Tensor  # (B, 1, H, W) bool, the pixels that hold a corner
    positions: Tensor  # (B, 2, H, W) x, y of the corner a pixel holds; the pixel itself elsewhere
    scores: Tensor | None = None  # (B, 1, H, W) in [0, 1], of every pixel, where a network found them
    descriptors: Tensor | None = None  # (B, D, h, w) that network's, to be read at pixels; 0 where it has none to teach


def find_corners(images: Tensor, valid: Tensor) -> Corners:
    """Corners of clean crops.

    The response is the smaller eigenvalue of the structure tensor (Shi-Tomasi) at two scales, each normalised by its
    mean, so that fine and coarse corners compete.

    Args:
        images: (B, 3, H, W) in [0, 1].
        valid: (B, 1, H, W) bool, where the crop shows the photograph.
    """
    grey = rgb_to_grayscale(images)
    response = torch.zeros_like(grey)
    for sigma in (0.7, 1.8):
        size = 2 * round(3 * sigma) + 1
        blurred = gaussian_blur2d(grey, (size, size), (sigma, sigma))
        scale = gftt_response(blurred).clamp(min=0).sqrt()
        response = torch.maximum(response, scale / scale.mean(dim=(2, 3), keepdim=True).clamp(min=1e-6))
    edge = F.max_pool2d((~valid).float(), 2 * RADIUS + 3, stride=1, padding=RADIUS + 1) > 0
    edge[:, :, :1], edge[:, :, -1:], edge[:, :, :, :1], edge[:, :, :, -1:] = True, True, True, True
    inner = response.masked_fill(edge, 0)
    peak = inner == F.max_pool2d(inner, 2 * RADIUS + 1, stride=1, padding=RADIUS)
    inner = torch.where(peak & (inner > 1.0), inner, torch.zeros_like(inner))
    count = max(1, int(inner[0].numel() * DENSITY))
    best, place = inner.flatten(1).topk(count, dim=1)  # always as many: a GPU is not waited for to count them
    mask = torch.zeros_like(inner, dtype=torch.bool).flatten(1).scatter(1, place, best > 0).reshape(inner.shape)

    width = inner.shape[3]
    pixels = torch.stack([place % width, place // width], dim=-1).flatten(0, 1)
    which = torch.arange(len(images), device=images.device).repeat_interleave(count)
    offsets = vertex_offset(cut_windows(response[:, 0], which, pixels, 1)) * (best > 0).flatten()[:, None]
    moved = offsets.reshape(len(images), count, 2).transpose(1, 2)
    positions = pixel_map(images).flatten(2).scatter_add(2, place[:, None].expand(-1, 2, -1), moved)
    return Corners(mask, positions.reshape(len(images), 2, *inner.shape[2:]))


def pixel_map(like: Tensor) -> Tensor:
    """The position x, y of each pixel of (B, C, H, W) -> (B, 2, H, W)."""
    x = torch.arange(like.shape[3], device=like.device, dtype=torch.float32)
    y = torch.arange(like.shape[2], device=like.device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).repeat(len(like), 1, 1, 1)


def spread(corners: Corners) -> Corners:
    """Each pixel next to a corner (3x3) learns of it."""
    near, index = F.max_pool2d(corners.mask.float(), 3, stride=1, padding=1, return_indices=True)
    index = index.flatten(2).expand(-1, 2, -1)
    positions = corners.positions.flatten(2).gather(2, index).reshape(corners.positions.shape)
    return Corners(near > 0, positions)


def look_up(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, N, C) of maps (B, C, H, W) at the pixels nearest to points (B, N, 2); 0 outside."""
    extent = torch.tensor([maps.shape[3], maps.shape[2]], device=maps.device)
    grid = ((points * 2 + 1) / extent - 1)[:, :, None]
    return F.grid_sample(maps.float(), grid, mode="nearest", align_corners=False)[..., 0].transpose(1, 2)


def agree(corners: Corners, other: Corners, other_from_this: Tensor) -> Corners:
    """The corners that the other crop sees at the same place, moved to the mean of the two positions.

    Args:
        other_from_this: (B, 3, 3) homography.
    """
    positions = corners.positions.flatten(2).transpose(1, 2)
    there = transform_points(other_from_this, positions)
    around = spread(other)
    seen = look_up(torch.cat([around.mask.float(), around.positions], dim=1), there)
    close = (seen[..., 0] > 0) & ((seen[..., 1:] - there).norm(dim=-1) <= TOLERANCE)
    back = transform_points(invert(other_from_this), seen[..., 1:])
    mean = torch.where(close[..., None], (positions + back) / 2, positions)
    mask = corners.mask & close.reshape(corners.mask.shape)
    return Corners(mask, mean.transpose(1, 2).reshape(corners.positions.shape))


def target_map(corners: Corners) -> Tensor:
    """Targets (B, 1, H, W) in [0, 1]: a bell around each corner, cut to the 3x3 pixels around its own."""
    around = spread(corners)
    distance2 = (around.positions - pixel_map(around.mask)).square().sum(dim=1, keepdim=True)
    return BELL_PEAK * torch.exp(-distance2 / (2 * BELL_SIGMA**2)) * around.mask
