"""What a teacher teaches, against small cases by hand, and the facts about the paper's and the release's forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from samfeat_hloc.errors import InputError
from training.teacher_losses import (
    average_grouping_loss,
    edge_loss,
    feature_loss,
    grouping_loss,
    relation_loss,
    released_grouping_loss,
    released_relation_loss,
)

close = torch.testing.assert_close


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
