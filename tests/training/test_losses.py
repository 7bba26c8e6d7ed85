"""The detector's and the descriptor's losses against hand-computed small cases."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.losses import (
    attention_weights,
    detector_loss,
    dual_softmax_loss,
    every_scale_detector_loss,
    share_used,
    triplet_loss,
)

close = torch.testing.assert_close


def test_detector_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 2.0]]]])
    keypoints = torch.tensor([[[[1.0, 0.0]]]])
    seen = torch.tensor([[[[True, True]]]])
    expected = (200 * math.log(2) + math.log(1 + math.exp(2.0))) / 3
    close(detector_loss(logits, keypoints, seen), torch.tensor(expected))
    only_second = detector_loss(logits, keypoints, torch.tensor([[[[False, True]]]]))
    close(only_second, torch.tensor(math.log(1 + math.exp(2.0)) / 2))


def test_every_scale_is_supervised_like_the_fused_map() -> None:
    logits, scales = torch.randn(2, 1, 5, 6), torch.randn(2, 4, 5, 6, requires_grad=True)
    keypoints, seen = (torch.rand(2, 1, 5, 6) > 0.8).float(), torch.rand(2, 1, 5, 6) > 0.2
    loss = every_scale_detector_loss(logits, scales, keypoints, seen)
    each = [detector_loss(one, keypoints, seen) for one in (logits, *scales.split(1, dim=1))]
    close(loss, sum(each) / 5)  # type: ignore[arg-type]
    loss.backward()
    assert scales.grad is not None
    assert (scales.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


def test_share_used_by_hand() -> None:
    valid = torch.tensor([[True, True, True, True], [True, True, False, False], [False] * 4])
    even = attention_weights(torch.full((3, 4), 7.0), valid, 15.0)
    close(share_used(even, valid), torch.tensor(1.0))
    close(share_used(torch.tensor([[0, 1.0, 0, 0], [1, 0, 0, 0], [0] * 4]), valid), torch.tensor(2 / 6))
    grown = attention_weights(torch.tensor([[255.0, 30.0, 0.0, 0.0]]), valid[:1], 15.0)
    close(share_used(grown, valid[:1]), torch.tensor(0.25), atol=1e-3, rtol=0)


def test_attention_weights_sum_to_one_over_valid_points() -> None:
    attention = torch.tensor([[15.0, 0.0, 100.0], [1.0, 2.0, 3.0]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    weights = attention_weights(attention, valid, 15.0)
    close(weights[0], torch.tensor([math.e, 1.0, 0.0]) / (math.e + 1))
    assert weights[1].tolist() == [0, 0, 0]


def _case(count: int = 3) -> dict[str, Tensor]:
    descriptors = torch.eye(8)[:count].expand(2, 1, count, 8).clone()
    return {
        "descriptors": descriptors, "attention": torch.ones(2, 1, count),
        "valid": torch.ones(1, count, dtype=torch.bool), "not_search": torch.eye(count, dtype=torch.bool)[None],
    }  # fmt: skip


OPTIONS = {"temperature": 0.5, "attention_temperature": 15.0}


def test_dual_softmax_by_hand() -> None:
    expected = math.log(math.exp(2.0) + 2) - 2.0  # similarity 1 / 0.5 to itself, 0 to the two others
    close(dual_softmax_loss(**_case(), **OPTIONS), torch.tensor(expected))


def test_points_not_to_be_searched_are_no_negatives() -> None:
    case = _case()
    case["not_search"][0, 0, 1] = case["not_search"][0, 1, 0] = True
    near = dual_softmax_loss(**case, **OPTIONS)
    two, three = math.log(math.exp(2.0) + 1) - 2.0, math.log(math.exp(2.0) + 2) - 2.0
    close(near, torch.tensor((2 * two + three) / 3))


def test_points_of_other_pairs_are_negatives_and_invalid_points_are_not() -> None:
    axes = {"valid": 0, "not_search": 0}
    case = {key: torch.cat([value, value], dim=axes.get(key, 1)) for key, value in _case().items()}
    both = dual_softmax_loss(**case, **OPTIONS)
    expected = math.log(2 * math.exp(2.0) + 4) - 2.0  # the other pair repeats the same three descriptors
    close(both, torch.tensor(expected))
    case["valid"][1] = False
    one = dual_softmax_loss(**case, **OPTIONS)
    close(one, dual_softmax_loss(**_case(), **OPTIONS) / 2)


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


def test_triplet_by_hand() -> None:
    case = _case()
    case["attention"] = torch.tensor([[[2.0, 1.0, 1.0]], [[1.0, 1.0, 3.0]]])
    # y0 = 2 e0, e1, e2 against e0, e1, 3 e2: the positives are 1, 0 and 2 apart, the nearest negatives below
    positive = [1.0, math.sqrt(1e-5), 2.0]
    negative = [math.sqrt(5), math.sqrt(2), math.sqrt(2)]
    weights = torch.softmax(torch.tensor([2.0, 1.0, 1.0]) / 15, dim=0)
    expected = sum(float(w) * max(0.0, 1 + p - n) for w, p, n in zip(weights, positive, negative, strict=True))
    close(triplet_loss(**case, temperature=15.0), torch.tensor(expected))
    case["not_search"][0, 2, :2] = True  # nothing is left to tell the third point from
    without = triplet_loss(**case, temperature=15.0)
    close(without, torch.tensor(expected - float(weights[2]) * (3 - math.sqrt(2))))


def test_triplet_skips_invalid_points_as_anchors_and_as_negatives() -> None:
    case = _case()
    case["descriptors"][1, 0, 2] = case["descriptors"][0, 0, 0]  # would be the hardest negative of the first point
    hard = triplet_loss(**case, temperature=15.0)
    case["valid"][0, 2] = False
    assert triplet_loss(**case, temperature=15.0) < hard
