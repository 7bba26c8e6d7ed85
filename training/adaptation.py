"""Homographic adaptation: the points of one photograph that a detector finds again when the photograph is warped.

DeTone et al., CVPRW 2018 (SuperPoint) average heat maps over random homographies. Here the points themselves are
compared: a point is kept when a stated share of the views that show it also find it, at the mean of where they found
it. The mean is finer than a pixel: on a checkerboard with known corners it is off by 0.16 px with 8 views, 0.12 px with
24 and 0.08 px with 48 (tests/training/test_label.py has the checkerboard).

Pixels: the centre of the top-left pixel is (0, 0). Homographies are (B, 3, 3), ``target_from_source``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from kornia.geometry.linalg import transform_points
from torch import Tensor

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.keypoints import suppress
from training.config import HomographyConfig
from training.corners import RADIUS, TOLERANCE, Corners, look_up, spread
from training.homography import random_homographies, warp

MARGIN = RADIUS + 2
"""Pixels around the photograph's border where no view can be asked: a corner found there may be the border's."""
STRIDE = 16
"""Views have sides that are multiples of it, as the network wants them."""


@dataclass(frozen=True)
class AdaptationConfig:
    """Settings of the homographic adaptation.

    Attributes:
        views: of one photograph; the first is the photograph itself.
        min_agreement: share, in (0, 1], of the views showing a point that must find it.
        max_keypoints: those found most often are kept.
        homography: how far the views go; the change that training asks a detector to bear.
        seed: of the homographies, which are the same for every photograph of one size, in any order.
        at_once: views on the device at a time; does not change the result.
    """

    views: int = 24
    min_agreement: float = 0.5
    max_keypoints: int = 2048
    homography: HomographyConfig = field(default_factory=HomographyConfig)
    seed: int = 0
    at_once: int = 8

    def __post_init__(self) -> None:
        if self.views < 2:
            raise ConfigError(f"views is {self.views}; expected at least 2: agreement needs something to agree with")
        if not 0 < self.min_agreement <= 1:
            raise ConfigError(f"min_agreement is {self.min_agreement}; expected a share in (0, 1]")
        if self.max_keypoints < 1 or self.at_once < 1:
            raise ConfigError(f"max_keypoints is {self.max_keypoints}, at_once {self.at_once}; expected at least 1")


class Finder(Protocol):
    """What is adapted: it finds points in images; `training.corners.find_corners` is one."""

    def __call__(self, images: Tensor, valid: Tensor) -> Corners:
        """Points of (B, 3, S, S) images in [0, 1]; valid (B, 1, S, S) bool is where they show the photograph."""
        ...


class _View(NamedTuple):
    """Some views, and what was found in them."""

    view_from_photo: Tensor  # (B, 3, 3)
    photo_from_view: Tensor  # (B, 3, 3)
    found: Corners
    near: Tensor  # (B, 4, S, S) of each pixel: 1 next to a point, that point's x, y, and 1 where a point may be found


@torch.no_grad()
def repeatable_points(photo: Tensor, find: Finder, config: AdaptationConfig) -> tuple[Tensor, Tensor]:
    """The repeatable points of a photograph, best first.

    Args:
        photo: (3, H, W) float32 in [0, 1].
        find: the detector.
        config: settings.

    Returns:
        (K, 2) float32 x, y and (K,) float32 repeatability in [min_agreement, 1], on the photograph's device.
    """
    views = list(_views(photo, find, config))
    points = _candidates(views, photo.shape[1], photo.shape[2], 2 * config.max_keypoints)
    points, _, _ = _gather(views, points)
    points, found, seen = _gather(views, points)  # again from the mean: the first place was a whole pixel
    repeatability = found / seen.clamp(min=1)
    kept = (repeatability >= config.min_agreement) & (found >= 2) & (4 * seen >= config.views)
    order = repeatability.masked_fill(~kept, -1).argsort(descending=True, stable=True)[: int(kept.sum())]
    points, repeatability = points[order], repeatability[order]
    alone = _alone(points, photo.shape[1], photo.shape[2])[: config.max_keypoints]
    return points[alone], repeatability[alone]


def _views(photo: Tensor, find: Finder, config: AdaptationConfig) -> Iterator[_View]:
    height, width = photo.shape[1:]
    side = STRIDE * -(-max(height, width) // STRIDE)
    device = photo.device
    generator = torch.Generator().manual_seed(config.seed)  # on the CPU: the same views on every device
    change = random_homographies(config.views - 1, side, config.homography, generator).to(device)
    centring = torch.eye(3, device=device)
    centring[0, 2], centring[1, 2] = (side - width) // 2, (side - height) // 2
    view_from_photo = torch.cat([centring[None], change @ centring])
    photo_from_view = torch.linalg.inv(view_from_photo.double()).float()
    layers = torch.cat([photo, torch.ones_like(photo[:1])])[None]
    for start in range(0, config.views, config.at_once):
        some = slice(start, start + config.at_once)
        warped = warp(layers.expand(len(photo_from_view[some]), -1, -1, -1), photo_from_view[some], side)
        valid = warped[:, 3:] > 0.999
        found = find(warped[:, :3].clamp(0, 1), valid)
        inner = ~_grown(~valid, MARGIN)
        found = Corners(found.mask & inner, found.positions)
        around = spread(found)
        near = torch.cat([around.mask.float(), around.positions, inner.float()], dim=1)
        yield _View(view_from_photo[some], photo_from_view[some], found, near)


def _grown(mask: Tensor, pixels: int) -> Tensor:
    """A (B, 1, H, W) bool mask grown by some pixels, and over the border of the image."""
    padded = F.pad(mask.float(), [pixels] * 4, value=1.0)
    return F.max_pool2d(padded, 2 * pixels + 1, stride=1) > 0


def _candidates(views: list[_View], height: int, width: int, most: int) -> Tensor:
    """(K, 2) pixels of the photograph around which the views' points accumulate."""
    votes = torch.zeros(height * width, device=views[0].near.device)
    for view in views:
        batch, _, rows, columns = torch.nonzero(view.found.mask, as_tuple=True)
        positions = view.found.positions[batch, :, rows, columns]
        points = transform_points(view.photo_from_view[batch], positions[:, None])[:, 0]
        pixels = _pixels(points, height, width)
        votes.index_add_(0, pixels, torch.ones_like(pixels, dtype=votes.dtype))
    density = gaussian_blur2d(votes.reshape(1, 1, height, width), (5, 5), (1.0, 1.0))
    density = density.masked_fill(~suppress(density, RADIUS), 0)[0, 0]
    rows, columns = torch.nonzero(density, as_tuple=True)
    order = density[rows, columns].argsort(descending=True, stable=True)[:most]
    return torch.stack([columns[order], rows[order]], dim=-1).float()


def _gather(views: list[_View], points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the views find points (K, 2) of the photograph: their mean, how many do, and how many could have."""
    total = torch.zeros_like(points)
    found, seen = points.new_zeros(len(points)), points.new_zeros(len(points))
    for view in views:
        there = transform_points(view.view_from_photo, points.expand(len(view.near), -1, -1))
        near = look_up(view.near, there)
        position = near[..., 1:3]
        close = (near[..., 0] > 0) & (near[..., 3] > 0) & ((position - there).norm(dim=-1) <= TOLERANCE)
        back = transform_points(view.photo_from_view, position)
        total += torch.where(close[..., None], back, torch.zeros_like(back)).sum(dim=0)
        found += close.sum(dim=0)
        seen += (near[..., 3] > 0).sum(dim=0)
    return torch.where(found[:, None] > 0, total / found[:, None].clamp(min=1), points), found, seen


def _alone(points: Tensor, height: int, width: int) -> Tensor:
    """Indices, in order, of the points (K, 2), given best first, that have no better one within `RADIUS` pixels."""
    value = torch.arange(len(points), 0, -1, device=points.device, dtype=torch.float32)
    best = torch.zeros(height * width, device=points.device)
    best.scatter_reduce_(0, _pixels(points, height, width), value, "amax")
    best = best.reshape(1, 1, height, width)
    left = best[suppress(best, RADIUS, rounds=None)]
    return (len(points) - left).long().sort().values


def _pixels(points: Tensor, height: int, width: int) -> Tensor:
    """(K,) index of the pixel nearest to each point (K, 2); of the nearest inside for one outside."""
    pixels = points.round().long()
    return pixels[:, 1].clamp(0, height - 1) * width + pixels[:, 0].clamp(0, width - 1)
