"""Training records: the two crops really correspond, targets really repeat."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from kornia.geometry.linalg import transform_points

from samfeat_hloc.errors import InputError
from training.config import HomographyConfig, PhotometricConfig, TrainingConfig
from training.corners import Corners, agree, find_corners, pixel_map, target_map
from training.homography import random_homographies, random_photo_from_crop, warp
from training.pairs import PhotoPairs
from training.photometric import Photometric
from training.photos import PhotoBank


def smooth_photo(seed: int, height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    noise = cv2.GaussianBlur(noise, (0, 0), 4)
    return (128 + 400 * noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, shape in enumerate([(300, 400), (256, 256), (420, 280)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), smooth_photo(index, *shape))
    return tmp_path


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


def test_corresponding_points_show_the_same_colour(photos: Path) -> None:
    unchanged = PhotometricConfig(0.0, 0.0)
    config = TrainingConfig(photos=(str(photos),), size=128, pairs=4, points=150, photometric=unchanged)
    bank = PhotoBank.read(config.photos, 512, torch.device("cpu"))
    pairs = PhotoPairs(bank, config, torch.Generator().manual_seed(3)).draw()
    assert pairs.valid.float().mean() > 0.3
    extent = torch.tensor([128.0, 128.0])
    for side in (0, 1):
        assert ((pairs.points[side] > -0.51) & (pairs.points[side] < 127.51))[pairs.valid].all()
    colours = [
        torch.nn.functional.grid_sample(images, ((points * 2 + 1) / extent - 1)[:, :, None], align_corners=False)
        for images, points in zip(pairs.images, pairs.points, strict=True)
    ]
    difference = (colours[0] - colours[1]).abs().amax(dim=1)[..., 0][pairs.valid]
    assert difference.median() < 0.02


def test_targets_are_corners_both_crops_see(photos: Path) -> None:
    config = TrainingConfig(photos=(str(photos),), size=128, pairs=3)
    bank = PhotoBank.read(config.photos, 512, torch.device("cpu"))
    pairs = PhotoPairs(bank, config, torch.Generator().manual_seed(5)).draw()
    peaks = pairs.keypoints > 0.5
    assert peaks.sum() > 20
    assert (peaks & ~pairs.seen).sum() == 0


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


def test_same_generator_state_gives_the_same_batch(photos: Path) -> None:
    config = TrainingConfig(photos=(str(photos),), size=64, pairs=2)
    bank = PhotoBank.read(config.photos, 512, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    source = PhotoPairs(bank, config, generator)
    source.draw()
    state = generator.get_state()
    first = source.draw()
    generator.set_state(state)
    second = source.draw()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_photometric_stays_in_range_and_strength_zero_changes_nothing() -> None:
    images = torch.rand(8, 3, 48, 48)
    changed = Photometric(PhotometricConfig(1.0, 0.5), torch.Generator().manual_seed(0))(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed, images)
    same = Photometric(PhotometricConfig(0.0, 0.0), torch.Generator().manual_seed(0))(images)
    assert torch.equal(same, images)


def test_homographies_keep_orientation() -> None:
    matrices = random_homographies(200, 128, HomographyConfig(), torch.Generator().manual_seed(0))
    assert (torch.linalg.det(matrices[:, :2, :2]) > 0).all()


def test_unreadable_photographs_are_skipped_and_none_is_an_error(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    bank = PhotoBank.read([photos], 256, torch.device("cpu"))
    assert len(bank) == 3
    assert [Path(name).name for name in bank.skipped] == ["broken.jpg"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no readable photograph"):
        PhotoBank.read([empty], 256, torch.device("cpu"))
