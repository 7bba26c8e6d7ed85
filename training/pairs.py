"""One record of training: two crops, where their points correspond, and where their keypoints are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from torch import Tensor

from training.config import TrainingConfig
from training.corners import agree, find_corners, look_up, target_map
from training.homography import random_homographies, random_photo_from_crop, warp
from training.photometric import Photometric
from training.photos import PhotoBank

CELL = 8
"""One point at most is drawn from each cell of this many pixels."""


class Pairs(NamedTuple):
    """A batch of B pairs with N correspondences each."""

    images: Tensor  # (2, B, 3, S, S) in [0, 1], photometrically changed
    points: Tensor  # (2, B, N, 2) pixels x, y
    valid: Tensor  # (B, N) bool: the point is seen in both crops
    keypoints: Tensor  # (2, B, 1, S, S) in [0, 1]: keypoint targets
    seen: Tensor  # (2, B, 1, S, S) bool: pixels that show the photograph and count in the detector's loss


class PhotoPairs:
    """Pairs of crops of photographs under random homographies; endless, reproducible from the generator's state."""

    def __init__(self, bank: PhotoBank, config: TrainingConfig, generator: torch.Generator) -> None:
        self.bank, self.config, self.generator = bank, config, generator
        self.photometric = Photometric(config.photometric, generator)

    def draw(self) -> Pairs:
        """The next batch."""
        config, generator = self.config, self.generator
        size, device = config.size, generator.device
        indices = torch.randint(len(self.bank), (config.pairs,), generator=generator, device=device)
        photos, photo_sizes = self.bank.take(indices)
        second_from_first = random_homographies(config.pairs, size, config.homography, generator)
        photo_from_first = random_photo_from_crop(photo_sizes, size, config.homography, generator)
        photo_from_second = photo_from_first @ torch.linalg.inv(second_from_first)

        both = [warp(photos, photo_from_crop, size) for photo_from_crop in (photo_from_first, photo_from_second)]
        pixels = _pixel_grid(size, device).expand(config.pairs, -1, -1)
        seen = [
            _seen(transform_points(photo_from_crop, pixels), photo_sizes, size)
            for photo_from_crop in (photo_from_first, photo_from_second)
        ]
        first_from_second = torch.linalg.inv(second_from_first)
        corners = [find_corners(image, mask) for image, mask in zip(both, seen, strict=True)]
        repeated = [
            agree(corners[0], corners[1], second_from_first),
            agree(corners[1], corners[0], first_from_second),
        ]
        first_in_second = transform_points(second_from_first, pixels)
        second_in_first = transform_points(first_from_second, pixels)
        # A pixel the other crop does not show can be neither confirmed nor refuted as a keypoint.
        shared = torch.stack(
            [
                seen[0] & (look_up(seen[1], first_in_second) > 0).reshape(seen[0].shape),
                seen[1] & (look_up(seen[0], second_in_first) > 0).reshape(seen[1].shape),
            ]
        )
        first, valid = self._points(repeated[0].mask, shared[0])
        points = torch.stack([first, transform_points(second_from_first, first)])
        keypoints = torch.stack([target_map(found) for found in repeated])
        images = self.photometric(torch.cat(both)).unflatten(0, (2, config.pairs))
        return Pairs(images, points, valid, keypoints, shared)

    def _points(self, keypoints: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, N, 2) of the first crop, at most one a cell, keypoints preferred, and which are seen in both."""
        size, generator = self.config.size, self.generator
        chance = torch.rand(keypoints.shape, generator=generator, device=generator.device)
        prefer = torch.rand(keypoints.shape, generator=generator, device=generator.device) < 0.7
        priority = (chance + (keypoints & prefer)).masked_fill(~shared, -1.0)
        best, index = F.max_pool2d(priority, CELL, return_indices=True)
        best, index = best.flatten(1), index.flatten(1)
        cells = torch.rand(best.shape, generator=generator, device=generator.device).masked_fill(best < 0, -1.0)
        order = cells.argsort(dim=1, descending=True)[:, : self.config.points]
        index, valid = index.gather(1, order), best.gather(1, order) >= 0
        return torch.stack([index % size, index // size], dim=-1).float(), valid


def _pixel_grid(size: int, device: torch.device) -> Tensor:
    axis = torch.arange(size, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(1, -1, 2)


def _seen(points: Tensor, photo_sizes: Tensor, size: int) -> Tensor:
    """Pixels whose place in the photograph (B, S * S, 2) lies inside it -> (B, 1, S, S) bool."""
    within = ((points >= 0) & (points <= photo_sizes[:, None] - 1)).all(dim=-1)
    return within.reshape(-1, 1, size, size)
