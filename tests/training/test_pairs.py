"""Batches: the crops really correspond, targets really repeat, teachers follow their image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kornia.geometry.linalg import transform_points

from samfeat_hloc.errors import InputError
from tests.training.photographs import smooth_photo
from training.bank import Bank
from training.batch import Batch, near
from training.config import HomographyConfig, LossConfig, PhotometricConfig, TrainingConfig
from training.homography import crop_around, random_photo_from_crop, warp
from training.pairs import PairSampler
from training.records import TeacherRow, View
from training.targets import given
from training.teacher_maps import teach

CPU = torch.device("cpu")
SHAPES = [(300, 400), (256, 256), (420, 280)]
CLEAN = TrainingConfig(size=128, pairs=4, points=150, photometric=PhotometricConfig(0.0, 0.0))


def bank_of(
    views: Sequence[View],
    sources: Sequence[int] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
    points: Sequence[np.ndarray] = (),
) -> Bank:
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    source = np.array(sources if sources is not None else [0] * len(views), np.int64)
    return Bank(len(views), views.__getitem__, source, ends, points.__getitem__, CPU)


def photos() -> list[View]:
    return [View(str(index), smooth_photo(index, *shape)) for index, shape in enumerate(SHAPES)]


def draw(bank: Bank, config: TrainingConfig, seed: int = 3, weights: Sequence[float] = (1.0,)) -> Batch:
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    return PairSampler(bank, weights, config, *generators).draw()


def colours_differ_by(batch: Batch) -> torch.Tensor:
    """Largest channel's difference (V,) between the two ends of each valid correspondence."""
    extent = torch.tensor([batch.images.shape[-1], batch.images.shape[-2]])
    both = [
        F.grid_sample(images, ((points * 2 + 1) / extent - 1)[:, :, None], align_corners=False)
        for images, points in zip(batch.images, batch.points, strict=True)
    ]
    return (both[0] - both[1]).abs().amax(dim=1)[..., 0][batch.valid]


def scene() -> tuple[list[View], np.ndarray, torch.Tensor]:
    """Two photographs of a plane, and where its points lie in both."""
    wide = torch.from_numpy(smooth_photo(7, 360, 420)).permute(2, 0, 1)[None].float()
    second_from_first = torch.tensor([[[0.8, 0.1, 20.0], [-0.1, 0.9, 40.0], [2e-4, 1e-4, 1.0]]])
    first_from_second = torch.linalg.inv(second_from_first)
    other = warp(wide, first_from_second, 320)
    grid = torch.stack(torch.meshgrid(torch.arange(5.0, 415, 6), torch.arange(5.0, 355, 6), indexing="xy"), -1)
    here = grid.reshape(1, -1, 2)
    there = transform_points(second_from_first, here)
    seen = ((there > 2) & (there < 317)).all(dim=-1)[0]
    points = torch.cat([here[0, seen], there[0, seen]], dim=1).numpy().astype(np.float32)
    images = [one[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy() for one in (wide, other)]
    return [View("a", images[0]), View("b", images[1])], points, second_from_first


def test_warp_samples_at_pixel_centres_and_averages_when_shrinking() -> None:
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(96.0), indexing="ij")
    ramp = torch.stack([x, y])[None]
    zoom, shift = 1.5, torch.tensor([7.0, 3.0])
    matrix = torch.tensor([[[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]]])
    crop = warp(ramp, matrix, 32)
    expected = torch.arange(32.0) * zoom
    torch.testing.assert_close(crop[0, 0, 5], expected + shift[0])
    torch.testing.assert_close(crop[0, 1, :, 5], expected + shift[1])


def test_crops_lie_inside_the_photograph() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([[512.0, 340.0]]).expand(64, 2)
    matrix = random_photo_from_crop(sizes, 192, HomographyConfig(), generator)
    corners = transform_points(matrix, torch.tensor([[[-0.5, -0.5], [191.5, 191.5]]]).expand(64, -1, -1))
    assert corners.min() >= -0.5 - 1e-3
    assert (corners[:, 1] <= sizes - 0.5 + 1e-3).all()


def test_corresponding_points_show_the_same_colour() -> None:
    batch = draw(bank_of(photos()), CLEAN)
    assert batch.valid.float().mean() > 0.3
    for side in (0, 1):
        assert ((batch.points[side] > -0.51) & (batch.points[side] < 127.51))[batch.valid].all()
    assert colours_differ_by(batch).median() < 0.02


def test_points_of_a_real_pair_show_the_same_colour() -> None:
    views, points, _ = scene()
    bank = bank_of(views, pairs=[(0, 1)], points=[points])
    batch = draw(bank, replace(CLEAN, synthetic=0.0, size=96))
    assert batch.valid.sum(dim=1).min() > 20
    assert colours_differ_by(batch).median() < 0.03
    crossed = draw(bank_of(views, pairs=[(1, 0)], points=[points]), replace(CLEAN, synthetic=0.0, size=96))
    assert len(colours_differ_by(crossed)) == 0 or colours_differ_by(crossed).median() > 0.05


def test_crops_of_a_pair_show_things_at_a_like_size() -> None:
    ratio = torch.full((64,), 2.0)
    sizes = torch.tensor([[600.0, 500.0]]).expand(64, 2)
    anchors = [torch.full((64, 2), 250.0), torch.full((64, 2), 300.0)]
    still = HomographyConfig(rotation_deg=0.0, scale=1.0001, perspective=0.0, translation=0.0, source_zoom=(0.8, 1.2))
    first, second = crop_around(anchors, sizes.expand(2, -1, -1), ratio, 96, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(second[:, 0, 0] / first[:, 0, 0], ratio, rtol=1e-3, atol=0)
    middle = torch.full((64, 1, 2), 47.5)
    torch.testing.assert_close(transform_points(first, middle)[:, 0], anchors[0], atol=0.1, rtol=0)
    torch.testing.assert_close(transform_points(second, middle)[:, 0], anchors[1], atol=0.1, rtol=0)


def test_sources_are_drawn_by_weight() -> None:
    views, points, _ = scene()
    marked = [View("dark", np.zeros((200, 200, 3), np.uint8)), *views]
    bank = bank_of(marked, sources=[0, 1, 1], pairs=[(1, 2)], points=[points])
    config = replace(CLEAN, size=64, pairs=200, points=10)
    dark = (draw(bank, config, weights=(3.0, 1.0)).images.flatten(2).amax(dim=2) == 0).all(dim=0)
    assert 0.68 < dark.float().mean() < 0.82


def test_not_search_covers_neighbours_in_either_crop_and_invalid_points() -> None:
    points = torch.tensor([[[[0.0, 0], [3, 0], [50, 0], [90, 0]]], [[[0.0, 0], [40, 0], [43, 0], [90, 0]]]])
    mask = near(points, torch.tensor([[True, True, True, False]]), 6.0)[0]
    expected = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]]).bool()
    assert torch.equal(mask, expected)
    batch = draw(bank_of(photos()), replace(CLEAN, losses=LossConfig(safe_radius=16.0)))
    assert torch.equal(batch.not_search, near(batch.points, batch.valid, 16.0))


def test_targets_are_corners_both_crops_see() -> None:
    batch = draw(bank_of(photos()), CLEAN, seed=5)
    peaks = batch.keypoints > 0.5
    assert peaks.sum() > 20
    assert (peaks & ~batch.seen).sum() == 0


def test_given_keypoints_are_the_targets() -> None:
    keypoints = torch.tensor([[[40.25, 30.5], [90.0, 70.0], [900.0, 10.0], [float("nan")] * 2]])
    shift = torch.tensor([[[1.0, 0, 20], [0, 1, 10], [0, 0, 1]]])
    corners = given(keypoints, shift, 96)
    assert torch.nonzero(corners.mask[0, 0]).tolist() == [[20, 20], [60, 70]]
    assert corners.positions[0, :, 20, 20].tolist() == [20.25, 20.5]
    labelled = [replace(view, keypoints=np.zeros((0, 2), np.float32)) for view in photos()]
    assert draw(bank_of(labelled), CLEAN).keypoints.sum() == 0
    mixed = [labelled[0], *photos()[1:]]
    assert draw(bank_of(mixed), CLEAN).keypoints.sum() > 0


def coordinate_row(height: int, width: int, padded: bool) -> TeacherRow:
    """A teacher that says of each place where it is."""
    across, down = width / 8, height / 8
    columns, rows = (64, 64) if padded else (round(across), round(down))
    x = (np.arange(columns) + 0.5) / across * width - 0.5
    y = (np.arange(rows) + 0.5) / down * height - 0.5
    embedding = np.stack(np.meshgrid(x, y)).astype(np.float16)
    groups = np.repeat(np.arange(1, width + 1, dtype=np.int16)[None], height, axis=0)
    edges = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None], height, axis=0)
    return TeacherRow(embedding, (across, down) if padded else None, groups, edges)


@pytest.mark.parametrize("padded", [False, True])
def test_teacher_rows_follow_the_crop(padded: bool) -> None:
    height, width, size = 240, 320, 96
    bank = bank_of([View("a", smooth_photo(0, height, width), coordinate_row(height, width, padded))])
    place = torch.tensor([[[1.1, -0.3, 120.0], [0.3, 1.1, 60.0], [0, 0, 1.0]]])
    points = torch.tensor([[[10.0, 20.0], [80.0, 90.0], [95.0, 95.0], [40.0, 5.0]]])
    taught = teach(bank, torch.zeros(1, dtype=torch.int64), place, points, size)
    centres = torch.stack(torch.meshgrid(*[torch.arange(12.0) * 8 + 3.5] * 2, indexing="xy"), -1).reshape(1, -1, 2)
    there = transform_points(place, centres)[0].reshape(12, 12, 2)
    seen = taught.embedding_seen[0, 0]
    inside = ((there >= -0.5) & (there <= torch.tensor([width - 0.5, height - 0.5]))).all(dim=-1)
    assert torch.equal(seen, inside)
    away = ((there > 8) & (there < torch.tensor([width - 9.0, height - 9]))).all(dim=-1)
    torch.testing.assert_close(taught.embedding[0].permute(1, 2, 0)[away], there[away], atol=1.5, rtol=0.01)
    x = transform_points(place, points)[0, :, 0]
    wanted = torch.where((x >= 0) & (x < width), x + 1, torch.full_like(x, -1))
    torch.testing.assert_close(taught.groups[0].float(), wanted, atol=2.6, rtol=0)
    quarter = torch.stack(torch.meshgrid(*[torch.arange(24.0) * 4 + 1.5] * 2, indexing="xy"), -1).reshape(1, -1, 2)
    ramp = transform_points(place, quarter)[0, :, 0].reshape(24, 24) / (width - 1)
    known = taught.edges_seen[0, 0]
    assert known.float().mean() > 0.3
    torch.testing.assert_close(taught.edges[0, 0][known], ramp[known], atol=0.02, rtol=0)


def test_views_without_a_row_are_switched_off() -> None:
    views = photos()
    mixed = [replace(views[0], teacher=coordinate_row(*SHAPES[0], False)), *views[1:]]
    bank = bank_of(mixed)
    points = torch.full((3, 4, 2), 40.0)
    place = torch.eye(3).expand(3, 3, 3)
    taught = teach(bank, torch.arange(3), place, points, 96)
    for seen in (taught.embedding_seen, taught.edges_seen, taught.groups >= 0):
        assert seen.flatten(1).any(dim=1).tolist() == [True, False, False]
    silent = draw(bank_of(views), CLEAN)
    assert not silent.embedding_seen.any() and not silent.edges_seen.any() and (silent.groups == -1).all()


def test_embeddings_of_different_teachers_are_not_mixed() -> None:
    views = photos()
    rows = [TeacherRow(np.zeros((channels, 4, 4), np.float16)) for channels in (8, 16)]
    mixed = [replace(view, teacher=row) for view, row in zip(views, rows, strict=False)]
    with pytest.raises(InputError, match="8, 16 channels"):
        bank_of(mixed)


def test_same_generator_states_give_the_same_batch() -> None:
    views, points, _ = scene()
    bank = bank_of(views, pairs=[(0, 1)], points=[points])
    generator, host = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    sampler = PairSampler(bank, (1.0,), replace(CLEAN, photometric=PhotometricConfig()), generator, host)
    sampler.draw()
    states = generator.get_state(), host.get_state()
    first = sampler.draw()
    generator.set_state(states[0])
    host.set_state(states[1])
    second = sampler.draw()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
