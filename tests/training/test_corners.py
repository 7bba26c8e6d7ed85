"""Corners: finer than a pixel, and only those that both renderings of a scene have."""

from __future__ import annotations

import pytest
import torch

from training.corners import Corners, agree, find_corners, pixel_map, target_map


def blob(x: float, y: float, size: int = 64) -> torch.Tensor:
    columns = torch.arange(float(size))
    return torch.exp(-((columns - x) ** 2 + (columns[:, None] - y) ** 2) / 8).expand(1, 3, size, size)


def test_corners_have_sub_pixel_positions() -> None:
    valid = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    corners = find_corners(blob(30.3, 25.8), valid)
    found = corners.positions.permute(0, 2, 3, 1)[corners.mask[:, 0]]
    distance = (found - torch.tensor([30.3, 25.8])).norm(dim=-1)
    assert distance.min() < 0.15


def test_agreeing_corners_meet_in_the_middle_and_others_go() -> None:
    like = torch.zeros(1, 1, 32, 32)
    here, there = (Corners(torch.zeros_like(like, dtype=torch.bool), pixel_map(like)) for _ in range(2))
    here.mask[0, 0, 10, 10] = here.mask[0, 0, 20, 20] = True
    there.mask[0, 0, 10, 16] = True  # shifted by 5 it lies one pixel beside the first corner
    shift = torch.tensor([[[1.0, 0, 5], [0, 1, 0], [0, 0, 1]]])
    both = agree(here, there, shift)
    assert torch.nonzero(both.mask[0, 0]).tolist() == [[10, 10]]
    assert both.positions[0, :, 10, 10].tolist() == [10.5, 10.0]
    target = target_map(both)[0, 0]
    assert target[10, 10] == pytest.approx(target[10, 11].item())
    assert target[10, 10] > target[11, 10] > 0
    assert (target > 0).sum() == 9


def test_flat_images_have_no_corners() -> None:
    valid = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    assert find_corners(torch.full((1, 3, 64, 64), 0.4), valid).mask.sum() == 0
