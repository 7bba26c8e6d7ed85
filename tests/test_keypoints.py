"""Keypoints from score maps: suppression equals the greedy rule, borders, top-k, sub-pixel fit; descriptor sampling."""

from __future__ import annotations

import pytest
import torch

from samfeat_hloc.keypoints import detect, refine, suppress
from samfeat_hloc.sampling import sample


def greedy(scores: torch.Tensor, radius: int) -> set[tuple[int, int]]:
    """Take pixels in the order of their score, each removing its window."""
    width = scores.shape[1]
    free = torch.ones_like(scores, dtype=torch.bool)
    kept = set()
    for index in scores.flatten().argsort(descending=True).tolist():
        y, x = divmod(index, width)
        if free[y, x]:
            kept.add((x, y))
            free[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = False
    return kept


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_suppression_equals_the_greedy_rule(radius: int) -> None:
    torch.manual_seed(radius)
    scores = torch.rand(1, 1, 40, 53)
    kept = suppress(scores, radius)[0, 0]
    found = {(x, y) for y, x in torch.nonzero(kept).tolist()}
    expected = greedy(scores[0, 0], radius)
    local_minima = {(x, y) for x, y in expected - found}
    assert found <= expected
    for x, y in local_minima:  # the only difference: pits are never keypoints
        window = scores[0, 0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        assert scores[0, 0, y, x] == window.min()


def test_flat_regions_and_ties_give_one_keypoint_or_none() -> None:
    assert not suppress(torch.full((1, 1, 20, 20), 0.7), 2).any()
    scores = torch.zeros(1, 1, 20, 20)
    scores[0, 0, 10, 9:11] = 1.0
    assert suppress(scores, 2).sum() == 1


def test_threshold_border_top_k_and_padding() -> None:
    scores = torch.zeros(1, 1, 40, 48)
    places = {(20, 20): 0.9, (10, 30): 0.8, (2, 20): 0.95, (44, 20): 0.99, (30, 10): 0.2}
    for (x, y), score in places.items():
        scores[0, 0, y, x] = score
    options = {"radius": 2, "threshold": 0.5, "border": 4}
    found = detect(scores, max_keypoints=10, **options, image_sizes=torch.tensor([[44, 40]]))[0]
    assert found.points.tolist() == [[20, 20], [10, 30]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert len(detect(scores, max_keypoints=1, **options)[0].points) == 1


def test_refinement_finds_the_vertex_of_a_quadratic() -> None:
    y, x = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    truth = torch.tensor([10.3, 9.8])
    dx, dy = x - truth[0], y - truth[1]
    logits = -(dx**2 + 0.6 * dy**2 + 0.4 * dx * dy)
    torch.testing.assert_close(refine(logits, torch.tensor([[10.0, 10.0]]))[0], truth, atol=1e-4, rtol=0)


def test_refinement_moves_at_most_half_a_pixel_and_leaves_saddles() -> None:
    saddle = torch.arange(25.0).reshape(5, 5)
    assert refine(saddle, torch.tensor([[2.0, 2.0]])).tolist() == [[2.0, 2.0]]
    assert refine(saddle, torch.zeros(0, 2)).shape == (0, 2)


def test_exact_sampling_reads_the_cell_under_the_pixel() -> None:
    width, height = 64, 40
    columns = torch.arange(width // 4, dtype=torch.float32) * 4 + 1.5  # pixel at the centre of each cell
    rows = torch.arange(height // 4, dtype=torch.float32) * 4 + 1.5
    maps = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))])[None]
    points = torch.rand(1, 50, 2) * torch.tensor([width - 5.0, height - 5.0]) + 2
    torch.testing.assert_close(sample(maps, points, (width, height), "exact"), points)


def test_released_sampling_stretches_by_an_eighth_of_a_cell() -> None:
    width, height = 64, 64
    cells = torch.arange(16, dtype=torch.float32)
    maps = cells.expand(1, 1, 16, 16)
    points = torch.tensor([[[16.0, 30.0], [31.5, 30.0], [63.0, 30.0]]])
    got = sample(maps, points, (width, height), "released")[0, :, 0]
    normalised = points[0, :, 0] * 2 / (width - 1) - 1
    expected = (((normalised + 1) * 16 - 1) / 2).clamp(0, 15)
    torch.testing.assert_close(got, expected)
    exact = sample(maps, points, (width, height), "exact")[0, :, 0]
    assert got[1] == pytest.approx(exact[1].item(), abs=1e-5)
    assert abs(got[0] - exact[0]) > 0.05


def test_soft_refinement_finds_the_middle_of_a_bell_and_repeats_the_border() -> None:
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    truth = torch.tensor([10.3, 8.8])
    logits = -((x - truth[0]) ** 2 + (y - truth[1]) ** 2)
    torch.testing.assert_close(refine(logits, torch.tensor([[10.0, 9.0]]), "soft")[0], truth, atol=0.02, rtol=0)
    corner = refine(torch.zeros(20, 24), torch.tensor([[0.0, 0.0], [23.0, 19.0]]), "soft")
    torch.testing.assert_close(corner, torch.tensor([[0.0, 0.0], [23.0, 19.0]]))
