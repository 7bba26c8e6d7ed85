"""Descriptors learn those that a labeller gives the same places of clean crops, on the average over sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.looks import LOOKS, Look, show
from samfeat_hloc.precision import choose_runtime
from samfeat_hloc.sampling import sample
from tests.training.runs import labelled
from tests.training.test_pairs import CLEAN, bank_of, photos, scene
from training.batch import Batch
from training.config import LossConfig, PhotometricConfig, TrainingConfig
from training.detector import Detector
from training.feed import Feed
from training.losses import imitation_loss
from training.pairs import PairSampler
from training.team import Team
from training.trainer import Trainer

CPU = torch.device("cpu")
LABELLER = "samfeat-photos-2"
TAUGHT = LossConfig(detector="distilled", imitation="labeller")
RESIZED = [look for look in LOOKS if not look.mirrored]
close = torch.testing.assert_close


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return replace(labelled(tmp_path, LABELLER), losses=TAUGHT, weights="samfeat-photos-1")


def described_through(look: Look, images: Tensor, points: Tensor, labeller: str = LABELLER) -> Tensor:
    """A labeller's unit descriptors of points of crops, as it sees the crops through a look."""
    network = Detector(labeller, choose_runtime("cpu", "float32")).network
    shown = show(images, look)
    extent = torch.tensor([shown.shape[3], shown.shape[2]])
    there = (points + 0.5) * (extent / images.shape[3]) - 0.5
    with torch.inference_mode():
        maps = network(shown * 2 - 1)
    return F.normalize(sample(maps.descriptors, there, (shown.shape[3], shown.shape[2]), "exact"), dim=-1)


def says_something(batch: Batch) -> list[bool]:
    """Of the first crops and of the second: whether the labeller described their points, all or none."""
    lengths = batch.described.norm(dim=-1)
    close(lengths, lengths.round(), atol=1e-4, rtol=0)
    assert all(float(side.std()) < 1e-3 for side in lengths)
    return [bool(side.mean() > 0.5) for side in lengths]


def test_imitation_loss_by_hand() -> None:
    axes = torch.eye(3)
    mine = torch.stack([axes[[0, 1, 2, 0]], axes[[0, 0, 0, 0]]])[:, None]
    theirs = torch.stack([axes[[0, 2, 0, 0]], torch.zeros(4, 3)])[:, None]  # nothing is said of the second crop
    theirs[1, 0, 3] = -axes[0]
    valid = torch.tensor([[True, True, False, True]])
    close(imitation_loss(mine, theirs, valid), torch.tensor((0 + 1 + 0 + 2) / 4))
    close(imitation_loss(mine, torch.zeros_like(theirs), valid), torch.tensor(0.0))


def test_what_is_said_one_at_a_time_is_learned_as_the_average() -> None:
    each = F.normalize(torch.randn(9, 1, 5, 8, generator=torch.Generator().manual_seed(0)) + 1, dim=-1)
    mine = torch.randn(1, 1, 5, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    optimizer = torch.optim.Adam([mine], lr=0.05)
    valid = torch.ones(1, 5, dtype=torch.bool)
    for step in range(900):
        optimizer.zero_grad()
        imitation_loss(F.normalize(mine, dim=-1), each[step % 9][None], valid).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 900)
    close(F.normalize(mine.detach(), dim=-1)[0], F.normalize(each.mean(dim=0), dim=-1), atol=0.02, rtol=0)


def test_a_batch_has_what_the_labeller_says_of_its_points(config: TrainingConfig) -> None:
    """Of the clean crops, through the look their keypoints were found through; nothing where that was mirrored."""
    feed, said = Feed(config, CPU, Team()), list[bool]()
    through = set[int]()
    for step in range(5):
        batch = feed.draw(step)
        assert batch.described.shape == (*batch.points.shape[:3], 128)
        for side, speaks in enumerate(says_something(batch)):
            said.append(speaks)
            if not speaks:
                continue
            here, there = batch.images[side], batch.points[side]
            off = [
                float((described_through(look, here, there) - batch.described[side]).abs().max()) for look in RESIZED
            ]
            assert min(off) < 1e-3 < sorted(off)[1]
            through.add(off.index(min(off)))
    assert len(set(said)) == 2
    assert len(through) > 1


def test_they_are_the_clean_crops_and_real_pairs_have_them_too() -> None:
    views, points, _ = scene()
    bank = bank_of(views, pairs=[(0, 1)], points=[points])
    clean = replace(CLEAN, synthetic=0.0, size=96, pairs=1, labeller=LABELLER, losses=TAUGHT)
    described = []
    for run in (clean, replace(clean, photometric=PhotometricConfig(1.0, 1.0))):
        generators = [torch.Generator().manual_seed(4) for _ in range(2)]
        find = Detector(LABELLER, choose_runtime("cpu", "float32"), looks=generators[1])
        described.append(PairSampler(bank, (1.0,), run, *generators, find).draw().described)
    assert any(side.norm() > 0 for side in described[0])
    close(*described)


def test_without_imitation_nothing_is_described(config: TrainingConfig) -> None:
    batch = Feed(replace(config, losses=LossConfig(detector="distilled")), CPU, Team()).draw(0)
    assert batch.described.shape == (*batch.points.shape[:3], 0)


def test_training_brings_the_descriptors_to_the_labellers(config: TrainingConfig) -> None:
    """samfeat-photos-1's become like samfeat-photos-5's, which are whitened, on a photograph it was not shown."""
    alone = replace(TAUGHT, detector_weight=0.0, descriptor_weight=0.0, relations="off", groups="off", edges="off")
    run = replace(config, labeller="samfeat-photos-5", losses=alone, steps=20, learning_rate=3e-4, warmup_steps=1)
    run = replace(run, ema=0.0)
    trainer = Trainer(run, choose_runtime("cpu", "float32"))
    image = torch.from_numpy(photos()[0].image[:96, :96].copy()).permute(2, 0, 1).float()[None] / 255
    points = torch.rand(1, 60, 2, generator=torch.Generator().manual_seed(2)) * 80 + 8
    each = [described_through(look, image, points, "samfeat-photos-5") for look in RESIZED]
    said = F.normalize(torch.stack(each).mean(dim=0), dim=-1)

    def distance() -> float:
        with torch.inference_mode():
            maps = trainer.model(image * 2 - 1)
        mine = F.normalize(sample(maps.descriptors, points, (96, 96), "exact"), dim=-1)
        return float((1 - (mine * said).sum(dim=-1)).mean())

    first = distance()
    trainer.run()
    assert distance() < 0.8 * first
    assert '"imitation": ' in (Path(run.output) / "log.jsonl").read_text()


def test_what_does_not_go_with_imitation_is_refused(config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match="detector=distilled, got fused"):
        replace(config, losses=LossConfig(imitation="labeller"))
    short = replace(config.architecture, descriptor_dim=64)
    with pytest.raises(InputError, match="length 64 cannot imitate samfeat-photos-2's of length 128"):
        Feed(replace(config, architecture=short), CPU, Team())
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    with pytest.raises(InputError, match="describes no points"):
        PairSampler(bank_of(photos()), (1.0,), replace(CLEAN, losses=TAUGHT, labeller=LABELLER), *generators).draw()
