"""Keypoint targets of crops: those given with the photograph, or corners that are found again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points
from torch import Tensor

from samfeat_hloc.errors import InputError
from samfeat_hloc.sampling import sample
from training.corners import Corners, agree, look_up, pixel_map, target_map
from training.homography import invert


def confirmed(
    corners: Corners, other: Corners, shows: Tensor, other_shows: Tensor, other_from_this: Tensor
) -> tuple[Corners, Tensor]:
    """The corners that another rendering of the scene has too, and the pixels (B, 1, S, S) it can speak about.

    A pixel the other does not show can be neither confirmed nor refuted as a keypoint.

    Args:
        shows, other_shows: (B, 1, S, S) bool: pixels that show the photograph.
        other_from_this: (B, 3, 3) homography.
    """
    pixels = pixel_map(shows).flatten(2).transpose(1, 2)
    there = transform_points(other_from_this, pixels)
    shared = shows & (look_up(other_shows, there) > 0).reshape(shows.shape)
    return agree(corners, other, other_from_this), shared


def given(keypoints: Tensor, photo_from_crop: Tensor, size: int) -> Corners:
    """Given keypoints (B, K, 2) of photographs, NaN where there is none, in their crops of ``size`` pixels."""
    batch, device = len(keypoints), keypoints.device
    positions = pixel_map(torch.zeros(batch, 1, size, size, device=device)).flatten(2)
    mask = torch.zeros(batch, size * size + 1, dtype=torch.bool, device=device)
    if not keypoints.shape[1]:
        empty = torch.zeros(batch, 1, size, size, dtype=torch.bool, device=device)
        return Corners(empty, positions.reshape(batch, 2, size, size))
    there = transform_points(invert(photo_from_crop), keypoints)
    pixel = there.round()
    inside = ((pixel >= 1) & (pixel <= size - 2)).all(dim=-1)  # false for NaN
    flat = pixel.nan_to_num().clamp(0, size - 1).long()
    place = torch.where(inside, flat[..., 1] * size + flat[..., 0], size * size)  # the others go beyond the end
    mask = mask.scatter(1, place, inside)[:, :-1]
    positions = F.pad(positions, (0, 1)).scatter(2, place[:, None].expand(-1, 2, -1), there.transpose(1, 2))[..., :-1]
    return Corners(mask.reshape(batch, 1, size, size), positions.reshape(batch, 2, size, size))


def merge(chosen: Tensor, first: Corners, second: Corners) -> Corners:
    """The first corners for the images chosen (B,), the second for the others."""
    pick = chosen[:, None, None, None]
    return Corners(torch.where(pick, first.mask, second.mask), torch.where(pick, first.positions, second.positions))


def every_pixel(corners: Corners) -> Tensor:
    """What pixels of the crops are taught, (B, 1, S, S) in [0, 1]: the scores where every pixel has one, else bells."""
    return target_map(corners) if corners.scores is None else corners.scores


def given_descriptors(corners: Corners, points: Tensor) -> Tensor:
    """The unit descriptors (B, N, D) that a network which found the corners gives to points (B, N, 2); 0 where none.

    Raises:
        InputError: nothing that describes points found the corners.
    """
    if corners.descriptors is None:
        raise InputError("what finds keypoint targets describes no points; losses.imitation wants a labeller's network")
    size = (corners.mask.shape[3], corners.mask.shape[2])
    return F.normalize(sample(corners.descriptors, points, size, "exact"), dim=-1)
