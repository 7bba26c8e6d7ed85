"""Keypoint targets found by a network while it trains another: its own points, seen in both crops, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.precision import choose_runtime
from tests.training.runs import labelled
from tests.training.test_pairs import CLEAN, bank_of, scene
from training.batch import Batch
from training.config import HomographyConfig, TrainingConfig
from training.corners import Corners, look_up, pixel_map
from training.detector import Detector
from training.feed import Feed
from training.pairs import PairSampler
from training.team import Team
from training.trainer import Trainer

CPU = torch.device("cpu")
LABELLER = "samfeat-photos-2"


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return labelled(tmp_path, LABELLER)


def drawn(config: TrainingConfig) -> Batch:
    return Feed(config, CPU, Team()).draw(0)


def test_targets_are_what_the_labeller_finds_in_both_crops(config: TrainingConfig) -> None:
    """Of one crop twice: the labeller's own points. Of two crops: fewer, and each is near one of its points."""
    still = drawn(replace(config, homography=HomographyConfig(identity=1.0)))
    moved = drawn(config)
    find = Detector(LABELLER, choose_runtime("cpu"), density=config.label_density, radius=config.label_radius)
    for batch, all_of_them in ((still, True), (moved, False)):
        images, keypoints = batch.images.flatten(0, 1), batch.keypoints.flatten(0, 1)
        found = find(images, torch.ones_like(keypoints, dtype=torch.bool))
        for target, mask in zip(keypoints[:, 0] > 0.5, found.mask[:, 0], strict=True):
            rows, columns = target.nonzero(as_tuple=True)
            there = torch.stack([columns, rows], dim=-1).float()[None]
            near = torch.nn.functional.max_pool2d(mask[None, None].float(), 5, 1, 2)
            assert (look_up(near, there) > 0).all()
            if all_of_them:
                assert int(target.sum()) >= 0.5 * int(mask.sum()) > 0
    assert 0 < int((moved.keypoints > 0.5).sum()) < int((still.keypoints > 0.5).sum())


def test_density_bounds_the_targets(config: TrainingConfig) -> None:
    few = drawn(replace(config, label_density=1 / 1000))
    bells = (few.keypoints > 0.5).flatten(0, 1).flatten(1).sum(dim=1)
    assert (bells <= 9 * (96 * 96 // 1000)).all() and bells.sum() > 0
    assert (drawn(config).keypoints > 0.5).sum() > 2 * bells.sum()


def test_crops_of_real_pairs_have_the_labellers_targets_too() -> None:
    """Each of the two crops, and a warp of each, is asked; what finds nothing leaves no target."""
    asked = []

    def none(images: torch.Tensor, valid: torch.Tensor) -> Corners:
        asked.append(images)
        return Corners(torch.zeros_like(valid), pixel_map(images))

    views, points, _ = scene()
    bank = bank_of(views, pairs=[(0, 1)], points=[points])
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    batch = PairSampler(bank, (1.0,), replace(CLEAN, synthetic=0.0, size=96), *generators, none).draw()
    assert len(asked) == 4
    assert batch.keypoints.sum() == 0


def test_targets_keep_their_distance(config: TrainingConfig) -> None:
    still = replace(config, homography=HomographyConfig(identity=1.0), label_density=1.0)
    counts = []
    for radius in (2, 8):
        peaks = drawn(replace(still, label_radius=radius)).keypoints.flatten(0, 1)[:, 0]
        peaks = (peaks == torch.nn.functional.max_pool2d(peaks, 3, 1, 1)) & (peaks > 0.5)
        for image in peaks:
            points = image.nonzero().float()
            apart = torch.cdist(points, points, p=torch.inf) + 1e3 * torch.eye(len(points))
            assert apart.min() >= radius - 1  # two rounds of suppression, and the mean of two crops' positions
        counts.append(int(peaks.sum()))
    assert counts[1] < 0.6 * counts[0]


def test_one_seed_is_one_run(config: TrainingConfig) -> None:
    def trained(config: TrainingConfig) -> dict[str, torch.Tensor]:
        return load_file(Trainer(config, choose_runtime("cpu", "float32")).run())

    whole, again = trained(config), trained(replace(config, output=config.output + "-2"))
    corners = trained(replace(config, output=config.output + "-3", labeller=None))
    assert all(torch.equal(value, again[key]) for key, value in whole.items())
    assert not all(torch.equal(value, corners[key]) for key, value in whole.items())


def test_bad_labellers_are_refused(config: TrainingConfig) -> None:
    with pytest.raises(InputError, match="no-such-weights"):
        drawn(replace(config, labeller="no-such-weights"))
    with pytest.raises(ConfigError, match="label_density is 0"):
        replace(config, label_density=0.0)
    with pytest.raises(ConfigError, match="label_radius 0"):
        replace(config, label_radius=0)
