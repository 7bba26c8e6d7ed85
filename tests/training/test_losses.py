"""Losses against hand-computed small cases, and the facts about the paper's and the release's forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from samfeat_hloc.errors import InputError
from training.losses import (
    attention_weights,
    average_grouping_loss,
    detector_loss,
    dual_softmax_loss,
    edge_loss,
    every_scale_detector_loss,
    feature_loss,
    grouping_loss,
    match_probability,
    position_loss,
    ranking_loss,
    relation_loss,
    released_grouping_loss,
    released_relation_loss,
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


def _maps(cells: int = 4, channels: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, channels, cells, cells, generator=generator)
    teacher = torch.randn(2, channels, cells, cells, generator=generator)
    attention = torch.rand(2, 1, cells, cells, generator=generator) * 3
    return student, teacher, attention, torch.ones(2, 1, cells, cells, dtype=torch.bool)


def _relations_by_hand(student: Tensor, teacher: Tensor, attention: Tensor, weighted: bool) -> float:
    """Eqs. 7 and 8, entry by entry, in double precision."""
    losses = []
    for one, two, looks in zip(student.double(), teacher.double(), attention.double(), strict=True):
        a, b, v = one.flatten(1).T, two.flatten(1).T, looks.flatten()
        top = bottom = 0.0
        for i in range(len(v)):
            for j in range(len(v)):
                mine = torch.dot(a[i], a[j]) / a[i].norm() / a[j].norm()
                theirs = torch.dot(b[i], b[j]) / b[i].norm() / b[j].norm()
                weight = math.exp(v[i] * v[j]) if weighted else 1.0
                top, bottom = top + weight * float((mine - theirs).abs()), bottom + weight
        losses.append(top / bottom)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("max_relations", [1 << 24, 40])
def test_relations_by_hand_whole_and_in_chunks(weighted: bool, max_relations: int) -> None:
    student, teacher, attention, valid = _maps()
    expected = _relations_by_hand(student, teacher, attention, weighted)
    loss = relation_loss(student, teacher, attention, valid, weighted, max_relations)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_chunks_have_the_same_gradient() -> None:
    student, teacher, attention, valid = _maps()
    gradients = []
    for limit in (1 << 24, 40):
        mine, looks = student.clone().requires_grad_(), attention.clone().requires_grad_()
        relation_loss(mine, teacher, looks, valid, True, limit).backward()
        gradients.append((mine.grad, looks.grad))
    close(gradients[0], gradients[1])


def test_the_released_relations_do_not_move_with_the_attention_and_the_papers_do() -> None:
    student, teacher, attention, valid = _maps()
    other = attention.flip(2) + 0.5
    released = [released_relation_loss(student, teacher, one, valid).item() for one in (attention, other)]
    assert released[0] == pytest.approx(released[1], abs=1e-6)
    assert released[0] == pytest.approx(relation_loss(student, teacher, attention, valid, False).item(), abs=1e-6)
    paper = [relation_loss(student, teacher, one, valid).item() for one in (attention, other)]
    assert abs(paper[0] - paper[1]) > 1e-3


def test_large_attention_does_not_overflow() -> None:
    student, teacher, attention, valid = _maps()
    loss = relation_loss(student, teacher, attention * 50, valid)  # exponents up to 20,000
    assert torch.isfinite(loss)
    assert 0 < loss < 2


def test_cells_without_a_teacher_do_not_count() -> None:
    student, teacher, attention, valid = _maps()
    valid[0, :, 2:] = False
    changed = teacher.clone()
    changed[0, :, 2:] = 7
    close(relation_loss(student, teacher, attention, valid), relation_loss(student, changed, attention, valid))
    close(feature_loss(student, teacher, valid), feature_loss(student, changed, valid))
    half = relation_loss(student[1:], teacher[1:], attention[1:], valid[1:])
    valid[0] = False
    close(relation_loss(student, teacher, attention, valid), half)


def test_features_by_hand_and_of_other_channels() -> None:
    student, teacher = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1), torch.tensor([0.0, 9.0]).reshape(1, 2, 1, 1)
    valid = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    close(feature_loss(student, teacher, valid), torch.tensor(0.6**2 + 0.2**2))
    with pytest.raises(InputError, match="channels"):
        feature_loss(student, torch.zeros(1, 3, 1, 1), valid)


def _points(gap: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Four points on a line: two of group 1, two of group 2."""
    positions = torch.tensor([0.0, 0.3, 1.0 + gap, 1.2 + gap])[None, :, None]
    return positions, torch.tensor([[1, 1, 2, 2]]), torch.eye(4, dtype=torch.bool)[None]


def test_grouping_by_hand() -> None:
    descriptors, groups, near = _points()
    temperature, margin = 0.5, 0.25
    x = descriptors[0, :, 0].tolist()
    expected = 0.0
    for i, partner, others in ((0, 1, (2, 3)), (1, 0, (2, 3)), (2, 3, (0, 1)), (3, 2, (0, 1))):
        pull = math.exp(-max(margin, abs(x[i] - x[partner])) / temperature)
        push = sum(math.exp(-abs(x[i] - x[j]) / temperature) for j in others)
        expected += -math.log(pull / (pull + push)) / 4
    close(grouping_loss(descriptors, groups, near, temperature, margin), torch.tensor(expected))


def test_average_grouping_by_hand() -> None:
    descriptors, groups, near = _points()
    inside, across = (0.3 + 0.2) / 2, (2.0 + 2.2 + 1.7 + 1.9) / 4
    expected = math.log(1 + math.exp((max(inside, 0.07) - across) / 5))
    close(average_grouping_loss(descriptors, groups, near, 5.0, 0.07), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def _padded(count: int, masked: int) -> tuple[Tensor, Tensor, Tensor]:
    descriptors, groups, _ = _points()
    more = torch.rand(1, masked, 1, generator=torch.Generator().manual_seed(1))
    whole = torch.cat([descriptors, more], dim=1)
    labels = torch.cat([groups, torch.full((1, masked), -1)], dim=1)
    return whole, labels, torch.eye(count + masked, dtype=torch.bool)[None]


@pytest.mark.parametrize("loss", [grouping_loss, average_grouping_loss])
def test_masked_grouping_does_not_depend_on_how_many_entries_are_masked(loss: Callable[..., Tensor]) -> None:
    few, many = loss(*_padded(4, 0), 5.0, 0.07), loss(*_padded(4, 60), 5.0, 0.07)
    close(few, many)


def test_the_released_grouping_does() -> None:
    few = released_grouping_loss(*_padded(4, 0), 5.0, 0.07)
    many = released_grouping_loss(*_padded(4, 60), 5.0, 0.07)
    assert abs(few - many) > 0.03
    assert many.item() == pytest.approx(math.log(2), abs=0.02)


def test_masked_entries_weaken_the_released_grouping() -> None:
    """400 points in 20 groups: groups at right angles against everything alike, by hand."""
    groups, near = torch.arange(400)[None] // 20, torch.eye(400, dtype=torch.bool)[None]
    angles, alike = torch.eye(20)[groups[0]][None], torch.ones(1, 400, 1)
    pull, push, itself = math.exp(-0.07 / 5), math.exp(-math.sqrt(2) / 5), math.exp(-10 / 5)
    up = 19 * pull + itself + 380  # the 380 are points of other groups, each counted as exp(0)
    expected = [-math.log(up / (up + 380 * push + 20)), -math.log(up / (up + 380 + 20))]
    released = [released_grouping_loss(one, groups, near, 5.0, 0.07).item() for one in (angles, alike)]
    assert released == pytest.approx(expected, abs=1e-3)
    proper = [-math.log(19 * pull / (19 * pull + 380 * push)), -math.log(19 * pull / (19 * pull + 380))]
    masked = [grouping_loss(one, groups, near, 5.0, 0.07).item() for one in (angles, alike)]
    assert masked == pytest.approx(proper, abs=1e-3)
    assert masked[1] - masked[0] > 2 * (released[1] - released[0])


def test_near_points_are_no_negatives_of_a_group() -> None:
    descriptors, groups, near = _points(gap=-0.6)
    crowded = grouping_loss(descriptors, groups, near, 0.5, 0.07)
    near[0, 1, 2] = near[0, 2, 1] = True
    assert grouping_loss(descriptors, groups, near, 0.5, 0.07) < crowded


def test_edges_by_hand() -> None:
    predicted, target = torch.tensor([[[[0.2, 0.9]]]]), torch.tensor([[[[1.0, 0.4]]]])
    both, first = torch.tensor([[[[True, True]]]]), torch.tensor([[[[True, False]]]])
    close(edge_loss(predicted, target, both, False), torch.tensor((0.8 + 0.5) / 2))
    close(edge_loss(predicted, target, both, True), torch.tensor((0.64 + 0.25) / 2))
    close(edge_loss(predicted, target, first, False), torch.tensor(0.8))


def test_without_any_teacher_every_guidance_is_zero_with_a_gradient() -> None:
    student, teacher, attention, valid = _maps()
    student.requires_grad_()
    descriptors, groups, near = _points()
    descriptors.requires_grad_()
    nothing = torch.full_like(groups, -1)
    losses = [
        relation_loss(student, teacher, attention, ~valid),
        feature_loss(student, teacher, ~valid),
        edge_loss(student[:, :1], teacher[:, :1], ~valid, True),
        grouping_loss(descriptors, nothing, near, 5.0, 0.07),
        average_grouping_loss(descriptors, nothing, near, 5.0, 0.07),
    ]
    assert [loss.item() for loss in losses] == [0] * 5
    torch.stack(losses).sum().backward()
    assert student.grad is not None and descriptors.grad is not None
    assert torch.isfinite(student.grad).all() and torch.isfinite(descriptors.grad).all()


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
