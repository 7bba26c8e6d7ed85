"""A detector learns what another says of every pixel, on the average over mirrored, smaller and larger looks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.looks import LOOKS
from samfeat_hloc.model import Maps
from samfeat_hloc.precision import choose_runtime
from tests.looking import logits_through
from tests.training.photographs import smooth_photo
from tests.training.runs import labelled
from tests.training.test_pairs import CLEAN, bank_of, scene
from training.batch import Batch
from training.config import LossConfig, TrainingConfig
from training.detector import Detector
from training.feed import Feed
from training.losses import distillation_loss
from training.pairs import PairSampler
from training.team import Team
from training.trainer import Trainer

CPU = torch.device("cpu")
LABELLER = "samfeat-photos-2"
close = torch.testing.assert_close


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return replace(labelled(tmp_path, LABELLER), losses=LossConfig(detector="distilled"), weights="samfeat-photos-1")


def test_distillation_loss_by_hand() -> None:
    scores, seen = torch.tensor([[[[0.5, 0.9, 0.2]]]]), torch.tensor([[[[True, True, False]]]])
    equal = torch.logit(scores)
    close(distillation_loss(equal, scores, seen), torch.tensor(0.0), atol=1e-6, rtol=0)
    flat = torch.zeros_like(scores)
    wrong = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)  # of the second pixel; the first is right
    close(distillation_loss(flat, scores, seen), torch.tensor(wrong / 3))
    certain = distillation_loss(flat, torch.tensor([[[[0.0, 1.0, 1.0]]]]), seen)
    close(certain, torch.tensor(2 * math.log(2) / 3), atol=1e-4, rtol=0)


def test_one_student_of_many_looks_learns_their_mean() -> None:
    """The gradient is linear in the scores: what is drawn one at a time is learned as the average."""
    each = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0)).clamp(0.05, 0.95)
    seen = torch.ones_like(each, dtype=torch.bool)
    student = torch.zeros(1, 1, 4, 4, requires_grad=True)
    optimizer = torch.optim.Adam([student], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        distillation_loss(student.expand(12, -1, -1, -1), each, seen).backward()
        optimizer.step()
    close(student.sigmoid().detach(), each.mean(dim=0, keepdim=True), atol=1e-3, rtol=0)


def photo(height: int, width: int) -> Tensor:
    image = torch.from_numpy(smooth_photo(5, height, width).copy()).permute(2, 0, 1).float()
    return (image / image.max())[None]


def labeller_says(images: Tensor) -> list[Tensor]:
    """The labeller's scores of crops, through every look."""
    network = Detector(LABELLER, choose_runtime("cpu")).network

    def logits(shown: Tensor) -> Tensor:
        return network(shown * 2 - 1).logits

    with torch.inference_mode():
        return [logits_through(logits, images, look).sigmoid() for look in LOOKS]


def looks_of(batch: Batch) -> list[int]:
    """Through which look the labeller gave the scores of the first and of the second crops."""
    looks = []
    for images, scores in zip(batch.images, batch.keypoints, strict=True):
        off = [float((said - scores).abs().max()) for said in labeller_says(images)]
        assert min(off) < 1e-3 < sorted(off)[1]
        looks.append(off.index(min(off)))
    return looks


def test_a_batch_has_the_labellers_scores_of_every_pixel(config: TrainingConfig) -> None:
    feed = Feed(config, CPU, Team())
    batch = feed.draw(0)
    looks = looks_of(batch) + looks_of(feed.draw(1)) + looks_of(feed.draw(2))
    assert len(set(looks)) > 1
    confirmed = Feed(replace(config, losses=LossConfig()), CPU, Team()).draw(0)
    assert torch.equal(batch.images, confirmed.images)
    assert batch.seen[confirmed.seen].all()
    assert batch.seen.sum() > confirmed.seen.sum()  # also what the other crop does not show
    assert batch.valid.any()


def test_real_pairs_have_them_too() -> None:
    """Without the warps that keypoint targets are confirmed by; and the points are the pair's."""
    views, points, _ = scene()
    bank = bank_of(views, pairs=[(0, 1)], points=[points])
    distilled = replace(CLEAN, synthetic=0.0, size=96, pairs=1, labeller=LABELLER)
    distilled = replace(distilled, losses=LossConfig(detector="distilled"))
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    find = Detector(LABELLER, choose_runtime("cpu"), looks=generators[1])
    batch = PairSampler(bank, (1.0,), distilled, *generators, find).draw()
    assert len(looks_of(batch)) == 2
    assert batch.valid.any()


def test_every_look_is_taken_and_a_seed_takes_the_same() -> None:
    """What the network is shown over many batches, by the mirrored halves' brightness and the size."""
    kinds = []
    for _ in range(2):
        find = Detector(LABELLER, choose_runtime("cpu"), looks=torch.Generator().manual_seed(1))
        shown: list[tuple[bool, bool, int]] = []

        def maps(images: Tensor, shown: list[tuple[bool, bool, int]] = shown) -> Maps:
            shown.append((bool(images[..., :16].mean() < 0.5), bool(images[:, :, :16].mean() < 0.5), images.shape[2]))
            grey = images.mean(dim=1, keepdim=True)
            return Maps(grey, images, grey, images, grey)

        find._maps = maps  # type: ignore[method-assign]
        image = torch.zeros(1, 3, 96, 96)
        image[:, :, 48:, :] += 0.45
        image[..., 48:] += 0.45
        for _ in range(60):
            find(image, torch.ones(1, 1, 96, 96, dtype=torch.bool))
        kinds.append(shown)
    assert kinds[0] == kinds[1]
    assert len(set(kinds[0])) == len(LOOKS)


def test_points_of_a_pair_are_seen_in_both_crops(config: TrainingConfig) -> None:
    batch = Feed(replace(config, pairs=4), CPU, Team()).draw(0)
    for points in batch.points:
        inside = ((points >= -0.5) & (points <= config.size - 0.5)).all(dim=-1)
        assert inside[batch.valid].all()


def test_training_brings_the_student_to_the_labeller(config: TrainingConfig) -> None:
    """samfeat-photos-1 becomes more like samfeat-photos-2 in what it finds, on a photograph it was not shown."""
    alone = replace(config.losses, detector_weight=100.0, relations="off", groups="off", edges="off")
    run = replace(config, steps=15, learning_rate=3e-4, warmup_steps=1, ema=0.0, losses=alone)
    trainer = Trainer(run, choose_runtime("cpu", "float32"))
    image = photo(96, 96)
    said = torch.stack(labeller_says(image)).mean(dim=0)

    def distance() -> float:
        with torch.inference_mode():
            logits = trainer.model(image * 2 - 1).logits
        return float(distillation_loss(logits, said, torch.ones_like(said, dtype=torch.bool)))

    first = distance()
    trainer.run()
    assert distance() < 0.7 * first


def test_what_does_not_go_with_distillation_is_refused(config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match="wants a labeller"):
        replace(config, labeller=None)
    with pytest.raises(ConfigError, match="positions soft-argmax"):
        replace(config, losses=LossConfig(detector="distilled", positions="soft-argmax"))
