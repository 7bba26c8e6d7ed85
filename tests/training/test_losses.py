"""Losses against hand-computed small cases."""

from __future__ import annotations

import math

import torch

from training.losses import attention_weights, detector_loss, dual_softmax_loss


def test_detector_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 2.0]]]])
    keypoints = torch.tensor([[[[1.0, 0.0]]]])
    seen = torch.tensor([[[[True, True]]]])
    expected = (200 * math.log(2) + math.log(1 + math.exp(2.0))) / 3
    torch.testing.assert_close(detector_loss(logits, keypoints, seen), torch.tensor(expected))
    only_second = detector_loss(logits, keypoints, torch.tensor([[[[False, True]]]]))
    torch.testing.assert_close(only_second, torch.tensor(math.log(1 + math.exp(2.0)) / 2))


def test_attention_weights_sum_to_one_over_valid_points() -> None:
    attention = torch.tensor([[15.0, 0.0, 100.0], [1.0, 2.0, 3.0]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    weights = attention_weights(attention, valid, 15.0)
    torch.testing.assert_close(weights[0], torch.tensor([math.e, 1.0, 0.0]) / (math.e + 1))
    assert weights[1].tolist() == [0, 0, 0]


def _case(count: int = 3) -> dict[str, torch.Tensor]:
    descriptors = torch.eye(8)[:count].expand(2, 1, count, 8).clone()
    points = (torch.arange(count) * 50.0)[:, None].expand(2, 1, count, 2).clone()
    return {
        "descriptors": descriptors, "attention": torch.ones(2, 1, count), "points": points,
        "valid": torch.ones(1, count, dtype=torch.bool),
    }  # fmt: skip


OPTIONS = {"temperature": 0.5, "safe_radius": 6.0, "attention_temperature": 15.0}


def test_dual_softmax_by_hand() -> None:
    expected = math.log(math.exp(2.0) + 2) - 2.0  # similarity 1 / 0.5 to itself, 0 to the two others
    torch.testing.assert_close(dual_softmax_loss(**_case(), **OPTIONS), torch.tensor(expected))


def test_neighbours_of_the_true_match_are_no_negatives() -> None:
    case = _case()
    case["points"][:, 0, 1] = case["points"][:, 0, 0] + 3
    near = dual_softmax_loss(**case, **OPTIONS)
    two, three = math.log(math.exp(2.0) + 1) - 2.0, math.log(math.exp(2.0) + 2) - 2.0
    torch.testing.assert_close(near, torch.tensor((2 * two + three) / 3))


def test_points_of_other_pairs_are_negatives_and_invalid_points_are_not() -> None:
    case = {key: torch.cat([value, value], dim=1 if key != "valid" else 0) for key, value in _case().items()}
    both = dual_softmax_loss(**case, **OPTIONS)
    expected = math.log(2 * math.exp(2.0) + 4) - 2.0  # the other pair repeats the same three descriptors
    torch.testing.assert_close(both, torch.tensor(expected))
    case["valid"][1] = False
    one = dual_softmax_loss(**case, **OPTIONS)
    torch.testing.assert_close(one, dual_softmax_loss(**_case(), **OPTIONS) / 2)


def test_attention_moves_away_from_points_that_do_not_match() -> None:
    case = _case()
    case["descriptors"][1, 0, 0] = case["descriptors"][1, 0, 1]
    case["attention"].requires_grad_()
    dual_softmax_loss(**case, **OPTIONS).backward()
    gradient = case["attention"].grad
    assert gradient is not None
    assert gradient[0, 0, 0] > 0  # lowering this point's attention lowers the loss
    assert gradient[0, 0, 2] < 0


def test_no_valid_point_gives_zero_with_a_gradient() -> None:
    case = _case()
    case["valid"][:] = False
    case["descriptors"].requires_grad_()
    loss = dual_softmax_loss(**case, **OPTIONS)
    loss.backward()
    assert loss == 0
