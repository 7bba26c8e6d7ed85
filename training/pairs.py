"""Batches drawn from a bank on the training device: which views, which crops, which points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from kornia.geometry.linalg import transform_points
from torch import Tensor

from training.adaptation import Finder
from training.bank import POINT_STEPS, Bank
from training.batch import Batch, join, near
from training.config import TrainingConfig
from training.corners import Corners, find_corners
from training.homography import crop_around, invert, random_homographies, random_photo_from_crop, warp
from training.photometric import Photometric
from training.points import PointSampler
from training.targets import confirmed, every_pixel, given, given_descriptors, merge
from training.teacher_maps import cell_centres, teach


class _Crops(NamedTuple):
    """Two clean crops of each of n pairs."""

    views: Tensor  # (2, n)
    photo_from_crop: Tensor  # (2, n, 3, 3)
    images: Tensor  # (2, n, 3, S, S)
    shows: Tensor  # (2, n, 1, S, S) bool: pixels that show the photograph


class PairSampler:
    """Endless batches, reproducible from the states of the two generators.

    Args:
        bank: of views and pairs.
        weights: of the sources.
        config: of the run.
        generator: on the training device, for everything that is drawn there.
        host: on the CPU, for what decides shapes, so that a GPU is never waited for.
        find: what finds keypoint targets in clean crops.
    """

    def __init__(
        self,
        bank: Bank,
        weights: Sequence[float],
        config: TrainingConfig,
        generator: torch.Generator,
        host: torch.Generator,
        find: Finder = find_corners,
    ) -> None:
        self.bank, self.config, self.generator, self.host, self._find = bank, config, generator, host, find
        self.photometric = Photometric(config.photometric, generator)
        self._distilled = config.losses.detector == "distilled"
        self._imitated = config.losses.imitation != "off"
        self._points = PointSampler(config, self._rand)
        sources = range(len(weights))
        self._views = [(bank.view_source == source).nonzero().flatten() for source in sources]
        self._pairs = [(bank.pair_source == source).nonzero().flatten() for source in sources]
        present = [len(self._views[source]) > 0 for source in sources]
        self._labelled = bool(bank.has_keypoints.any())
        self._weights = torch.tensor(weights, dtype=torch.float64) * torch.tensor(present)

    def draw(self) -> Batch:
        """The next batch."""
        views, pairs = self._choose()
        batches = []
        if len(views):
            batches.append(self._one_photograph(torch.stack(views).to(self.bank.device)))
        if len(pairs):
            batches.append(self._two_photographs(torch.stack(pairs).to(self.bank.device)))
        batch = join(batches)
        return batch._replace(images=self.photometric(batch.images.flatten(0, 1)).unflatten(0, (2, -1)))

    def _choose(self) -> tuple[list[Tensor], list[Tensor]]:
        """Which views get two random crops, and which real pairs are shown."""
        views, pairs = list[Tensor](), list[Tensor]()
        for source in torch.multinomial(self._weights, self.config.pairs, replacement=True, generator=self.host):
            real = len(self._pairs[source]) > 0 and self._host() >= self.config.synthetic
            among = self._pairs[source] if real else self._views[source]
            chosen = among[int(self._host() * len(among))]
            (pairs if real else views).append(chosen)
        return views, pairs

    def _host(self) -> float:
        return float(torch.rand((), generator=self.host, dtype=torch.float64))

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def _one_photograph(self, views: Tensor) -> Batch:
        """Two crops of each photograph, related by a random homography."""
        config, size = self.config, self.config.size
        second_from_first = random_homographies(len(views), size, config.homography, self.generator)
        still = self._rand(len(views), 1, 1) < config.homography.identity
        second_from_first = torch.where(still, torch.eye(3, device=views.device), second_from_first)
        first_from_second = invert(second_from_first)
        place = random_photo_from_crop(self.bank.sizes[views], size, config.homography, self.generator)
        crops = self._crop(views.expand(2, -1), torch.stack([place, place @ first_from_second]))
        found = [self._find(image, shows) for image, shows in zip(crops.images, crops.shows, strict=True)]
        first, first_seen = confirmed(found[0], found[1], crops.shows[0], crops.shows[1], second_from_first)
        second, second_seen = confirmed(found[1], found[0], crops.shows[1], crops.shows[0], first_from_second)
        shared = torch.stack([first_seen, second_seen])
        corners, seen = (found, crops.shows) if self._distilled else self._targets(crops, [first, second], shared)
        first_points, valid = self._points.anywhere(corners[0].mask, shared[0])
        points = torch.stack([first_points, transform_points(second_from_first, first_points)])
        return self._batch(crops, points, valid, corners, seen)

    def _two_photographs(self, pairs: Tensor) -> Batch:
        """One crop of each photograph of real pairs, around a point that both see."""
        config, size, bank = self.config, self.config.size, self.bank
        views = bank.pair_views[pairs].T
        matches = bank.pair_points[pairs].float() / POINT_STEPS  # (n, M, 4)
        used = torch.arange(matches.shape[1], device=matches.device) < bank.pair_counts[pairs][:, None]
        chance = self._rand(*used.shape).masked_fill(~used, -1)
        anchor = matches.gather(1, chance.argmax(dim=1)[:, None, None].expand(-1, 1, 4))[:, 0]
        ratio = _spread(matches[..., 2:], used) / _spread(matches[..., :2], used)
        gentle = replace(
            config.homography,
            rotation_deg=config.homography.rotation_deg / 2,
            scale=config.homography.scale**0.5,
            perspective=config.homography.perspective / 2,
        )
        places = crop_around(
            [anchor[:, :2], anchor[:, 2:]], [bank.sizes[side] for side in views], ratio, size, gentle, self.generator
        )
        crops = self._crop(views, torch.stack(places))
        if self._distilled:
            corners, seen = [self._find(crops.images[side], crops.shows[side]) for side in (0, 1)], crops.shows
        else:
            adapted = [self._adapted_corners(crops, side) for side in (0, 1)]
            corners, seen = self._targets(crops, [one[0] for one in adapted], torch.stack([one[1] for one in adapted]))
        positions = torch.stack(
            [
                transform_points(invert(place), matches[..., 2 * side : 2 * side + 2])
                for side, place in enumerate(crops.photo_from_crop)
            ]
        )
        inside = ((positions >= 0) & (positions <= size - 1)).all(dim=-1).all(dim=0) & used
        points, valid = self._points.among(positions, inside, corners[0].mask)
        return self._batch(crops, points, valid, corners, seen)

    def _crop(self, views: Tensor, photo_from_crop: Tensor) -> _Crops:
        size, shown = self.config.size, []
        pixels = cell_centres(size, 1, views.device).expand(views.shape[1], -1, -1)
        images = []
        for side in (0, 1):
            photos, photo_sizes = self.bank.take(views[side])
            images.append(warp(photos, photo_from_crop[side], size))
            shown.append(_shows(transform_points(photo_from_crop[side], pixels), photo_sizes, size))
        return _Crops(views, photo_from_crop, torch.stack(images), torch.stack(shown))

    def _adapted_corners(self, crops: _Crops, side: int) -> tuple[Corners, Tensor]:
        """Corners of one crop that are found again under a homography of its own photograph."""
        size = self.config.size
        other_from_this = random_homographies(crops.views.shape[1], size, self.config.homography, self.generator)
        place = crops.photo_from_crop[side] @ invert(other_from_this)
        again = self._crop(crops.views[side].expand(2, -1), place.expand(2, -1, -1, -1))
        mine = self._find(crops.images[side], crops.shows[side])
        theirs = self._find(again.images[0], again.shows[0])
        return confirmed(mine, theirs, crops.shows[side], again.shows[0], other_from_this)

    def _targets(self, crops: _Crops, found: list[Corners], seen: Tensor) -> tuple[list[Corners], Tensor]:
        """Given keypoints where a view has them, else those found."""
        if not self._labelled:
            return found, seen
        size, targets = self.config.size, []
        has = self.bank.has_keypoints[crops.views]
        for side in (0, 1):
            labels = given(self.bank.keypoints[crops.views[side]], crops.photo_from_crop[side], size)
            targets.append(merge(has[side], labels, found[side]))
        return targets, torch.where(has[:, :, None, None, None], crops.shows, seen)

    def _batch(self, crops: _Crops, points: Tensor, valid: Tensor, corners: list[Corners], seen: Tensor) -> Batch:
        config = self.config
        taught = [
            teach(self.bank, crops.views[side], crops.photo_from_crop[side], points[side], config.size)
            for side in (0, 1)
        ]
        embedding, embedding_seen, groups, edges, edges_seen = (torch.stack(part) for part in zip(*taught, strict=True))
        described = [
            given_descriptors(one, at) if self._imitated else at[..., :0]
            for one, at in zip(corners, points, strict=True)
        ]
        return Batch(
            crops.images, points, valid, near(points, valid, config.losses.safe_radius),
            torch.stack([every_pixel(one) for one in corners]), seen,
            embedding, embedding_seen, torch.where(valid, groups, -1), edges, edges_seen,
            torch.stack(described),
        )  # fmt: skip


def _spread(points: Tensor, used: Tensor) -> Tensor:
    """Root mean square distance (n,) of points (n, M, 2) from their middle, pixels."""
    share = used[..., None] / used.sum(dim=1).clamp(min=1)[:, None, None]
    middle = (points * share).sum(dim=1, keepdim=True)
    return ((points - middle).square() * share).sum(dim=(1, 2)).sqrt().clamp(min=1.0)


def _shows(points: Tensor, photo_sizes: Tensor, size: int) -> Tensor:
    """Pixels whose place in the photograph (B, S * S, 2) lies inside it -> (B, 1, S, S) bool."""
    within = ((points >= 0) & (points <= photo_sizes[:, None] - 1)).all(dim=-1)
    return within.reshape(-1, 1, size, size)
