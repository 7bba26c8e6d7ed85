"""Random pairs of crops of one photograph, related by a known homography.

Pixels: the centre of the top-left pixel is (0, 0). Homographies are (B, 3, 3), ``target_from_source``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from kornia.geometry.transform import get_perspective_transform
from torch import Tensor

from training.config import HomographyConfig


def invert(matrices: Tensor) -> Tensor:
    """Inverse of (B, 3, 3), without waiting for a GPU to say whether there is one."""
    return torch.linalg.inv_ex(matrices).inverse


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def _corners(batch: int, size: int, device: torch.device) -> Tensor:
    side = float(size - 1)
    corners = torch.tensor([[0.0, 0.0], [side, 0.0], [side, side], [0.0, side]], device=device)
    return corners.expand(batch, 4, 2)


def random_photo_from_crop(
    photo_sizes: Tensor, size: int, config: HomographyConfig, generator: torch.Generator
) -> Tensor:
    """Similarities (B, 3, 3) that place an upright crop of ``size`` pixels in photographs of (B, 2) width, height."""
    batch = photo_sizes.shape[0]
    largest = photo_sizes.amin(dim=1) / size  # a larger zoom would not fit the photograph
    low, high = config.source_zoom
    zoom = torch.minimum(_uniform((batch,), low, high, generator), largest.clamp(min=0.3))
    slack = (photo_sizes - zoom[:, None] * size).clamp(min=0)
    offset = slack * torch.rand((batch, 2), generator=generator, device=generator.device)
    matrix = torch.zeros(batch, 3, 3, device=generator.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = zoom
    matrix[:, :2, 2] = offset + (zoom[:, None] - 1) / 2
    matrix[:, 2, 2] = 1
    return matrix


def crop_around(
    anchors: Sequence[Tensor],
    photo_sizes: Sequence[Tensor],
    ratio: Tensor,
    size: int,
    config: HomographyConfig,
    generator: torch.Generator,
) -> list[Tensor]:
    """Homographies (B, 3, 3), photo_from_crop, of two crops that both show a point near their middle.

    Args:
        anchors: (B, 2) pixel of that point in the first and in the second photograph.
        photo_sizes: (B, 2) width, height of each.
        ratio: (B,) pixels of the second photograph per pixel of the first, so that both crops show things alike.
        size: of the crops.
        config: of what each crop gets by itself.
        generator: of the draws.
    """
    batch = len(ratio)
    low, high = config.source_zoom
    zoom = _uniform((batch,), low, high, generator)
    places = []
    for anchor, sizes, factor in zip(anchors, photo_sizes, (torch.ones_like(ratio), ratio), strict=True):
        scale = torch.minimum(zoom * factor, sizes.amin(dim=1) / size).clamp(min=0.3)
        shift = _uniform((batch, 2), -config.translation * size, config.translation * size, generator)
        corner = anchor - scale[:, None] * ((size - 1) / 2 + shift)
        furthest = (sizes - 1 - scale[:, None] * (size - 1)).clamp(min=0)
        matrix = torch.zeros(batch, 3, 3, device=generator.device)
        matrix[:, 0, 0] = matrix[:, 1, 1] = scale
        matrix[:, :2, 2] = torch.minimum(corner.clamp(min=0), furthest)
        matrix[:, 2, 2] = 1
        turned = random_homographies(batch, size, replace(config, translation=0.0, tilt=1.0), generator)
        places.append(matrix @ invert(turned))
    return places


def random_homographies(batch: int, size: int, config: HomographyConfig, generator: torch.Generator) -> Tensor:
    """Homographies (B, 3, 3) from the first crop to the second in pixels: zoom, rotation, shift, perspective, tilt."""
    device = generator.device
    source = _corners(batch, size, device)
    centre = (size - 1) / 2
    angle = _uniform((batch, 1), -config.rotation_deg, config.rotation_deg, generator) * math.pi / 180
    log_scale = math.log(config.scale)
    zoom = torch.exp(_uniform((batch, 1), -log_scale, log_scale, generator))
    shift = _uniform((batch, 1, 2), -config.translation * size, config.translation * size, generator)
    jitter = _uniform((batch, 4, 2), -config.perspective * size, config.perspective * size, generator) / 2
    local = source + jitter - centre
    if config.tilt > 1:
        local = local @ _stretches(batch, config.tilt, generator)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    x, y = local[..., 0], local[..., 1]
    target = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1) + centre + shift
    return get_perspective_transform(source, target)


def _stretches(batch: int, tilt: float, generator: torch.Generator) -> Tensor:
    """Symmetric matrices (B, 2, 2) of determinant 1: a stretch along a random axis, 1 to ``tilt`` against the other."""
    axis = _uniform((batch, 1), 0.0, math.pi, generator)
    along = torch.exp(_uniform((batch, 1), 0.0, math.log(tilt), generator) / 2)
    cos, sin = torch.cos(axis), torch.sin(axis)
    first = torch.cat([cos, sin], dim=1)[:, :, None]
    second = torch.cat([-sin, cos], dim=1)[:, :, None]
    return first @ first.mT * along[..., None] + second @ second.mT / along[..., None]


def warp(images: Tensor, image_from_crop: Tensor, size: int) -> Tensor:
    """Sample crops (B, C, size, size) of images (B, C, H, W) at ``image_from_crop`` @ pixel; zeros outside.

    Rendered at twice the resolution and averaged, so that zooms up to two source pixels per crop pixel do not alias.
    """
    fine = torch.arange(2 * size, device=images.device, dtype=torch.float32) / 2 - 0.25
    grid = torch.stack(torch.meshgrid(fine, fine, indexing="xy"), dim=-1).reshape(1, -1, 2)
    points = transform_points(image_from_crop, grid.expand(images.shape[0], -1, -1))
    extent = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    normalised = ((points * 2 + 1) / extent - 1).reshape(images.shape[0], 2 * size, 2 * size, 2)
    sampled = F.grid_sample(images, normalised, mode="bilinear", align_corners=False)
    return F.avg_pool2d(sampled, 2)
