"""Our losses on keypoints against hand-computed small cases."""

from __future__ import annotations

import math

import pytest
import torch

from training.keypoint_losses import (
    match_probability,
    position_loss,
    ranking_loss,
)

close = torch.testing.assert_close


def test_positions_by_hand() -> None:
    offset = torch.tensor([0.3, -0.2])
    y, x = torch.meshgrid(*[torch.arange(9.0) - 4] * 2, indexing="ij")
    bell = 0.8 * torch.exp(-((x - offset[0]) ** 2 + (y - offset[1]) ** 2) / (2 * 0.8**2))
    near = (x.abs() <= 1) & (y.abs() <= 1)
    keypoints, seen = (bell * near)[None, None], torch.ones(1, 1, 9, 9, dtype=torch.bool)
    sharp = torch.where((x == 0) & (y == 0), 50.0, 0.0)[None, None]  # the soft-argmax stays at the centre
    close(position_loss(sharp, keypoints, seen), offset.norm(), rtol=1e-3, atol=1e-3)
    wide = -((x - offset[0]) ** 2 + (y - offset[1]) ** 2)[None, None] * 2
    assert position_loss(wide, keypoints, seen) < 0.05
    assert position_loss(sharp, keypoints, ~seen) == 0


def test_positions_pull_the_logits() -> None:
    keypoints, seen = torch.zeros(1, 1, 9, 9), torch.ones(1, 1, 9, 9, dtype=torch.bool)
    keypoints[0, 0, 4, 4:6] = torch.tensor([0.7, 0.6])
    logits = torch.zeros(1, 1, 9, 9, requires_grad=True)
    position_loss(logits, keypoints, seen).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 4, 6] < 0 < logits.grad[0, 0, 4, 2]  # it lies to the right


def test_a_match_is_likely_when_both_find_each_other() -> None:
    first = torch.eye(4)[None]
    second = first.clone()
    second[0, 1] = torch.eye(4)[0]  # the second point's partner looks like the first point
    chance = match_probability(
        torch.stack([first, second]), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool), 0.05
    )[0]
    close(chance[2:], torch.ones(2))
    assert chance[0] == pytest.approx(0.5, abs=1e-3)  # one of two that look the same
    assert chance[1] < 1e-3
    allowed = torch.zeros(1, 4, 4, dtype=torch.bool)
    allowed[0, 0, 1] = True  # they lie next to each other
    close(match_probability(torch.stack([first, second]), torch.ones(1, 4, dtype=torch.bool), allowed, 0.05)[0, 0],
          torch.tensor(1.0))  # fmt: skip
    valid = torch.tensor([[True, False, True, True]])
    alone = match_probability(torch.stack([first, second]), valid, torch.zeros(1, 4, 4, dtype=torch.bool), 0.05)[0]
    assert alone[0] == pytest.approx(1.0, abs=1e-3)
    assert alone[1] == 0


def test_ranking_by_hand() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.0]], requires_grad=True)
    chance, usable = torch.tensor([[0.9, 0.1, 0.4]]), torch.tensor([[True, True, True]])
    pairs = [(0.8, 3.0 - 1.0), (0.5, 0.0 - 1.0), (0.3, 3.0 - 0.0)]  # difference of chances, score of the worse ahead by
    expected = sum(weight * math.log(1 + math.exp(ahead)) for weight, ahead in pairs) / 1.6
    loss = ranking_loss(logits, chance, usable)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]
    assert logits.grad.sum().abs() < 1e-6  # the order is taught, not the level
    assert ranking_loss(logits, chance, torch.tensor([[True, False, False]])) == 0
