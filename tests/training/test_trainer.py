"""The training loop: learns, validates, refuses what does not fit."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.precision import choose_runtime
from tests.training.runs import EVERY_LOSS, homography_sequence, log, runtime
from training.config import LossConfig, TrainingConfig
from training.feed import Feed
from training.objective import losses
from training.records import SourceConfig
from training.schedule import learning_rate
from training.team import Team
from training.trainer import Trainer


def test_every_loss_falls(config: TrainingConfig) -> None:
    config = replace(config, steps=60, pairs=3, learning_rate=2e-3, warmup_steps=5, gradient_clip=2.0)
    Trainer(config, runtime()).run()
    lines = log(config)
    for name in EVERY_LOSS:
        values = [line[name] for line in lines]
        assert np.mean(values[-12:]) < 0.97 * np.mean(values[:12]), name


VARIANTS = [
    {"relations": "unweighted", "groups": "paper", "edges": "l1", "detector": "every-scale"},
    {"relations": "released", "groups": "released", "descriptor": "triplet", "safe_radius": 16.0},
    {"relations": "off", "groups": "off", "edges": "off"},
    {"attention": "learned", "positions": "soft-argmax", "ranking": "matches"},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains(config: TrainingConfig, variant: dict[str, str]) -> None:
    config = replace(config, steps=2, losses=LossConfig(**variant))  # type: ignore[arg-type]
    Trainer(config, runtime()).run()
    assert all(np.isfinite(list(line.values())).all() for line in log(config))


def test_steps_are_taken_with_the_phases_they_are_told(config: TrainingConfig) -> None:
    """The first step's detector loss is that of the mean over the phases, and nothing else of it differs."""
    lines = {}
    for phases in (1, 4):
        run = replace(config, steps=1, log_every=1, step_phases=phases, output=f"{config.output}-{phases}")
        trainer = Trainer(run, runtime())
        batch = Feed(run, runtime().device, Team()).draw(0)
        images = batch.images.flatten(0, 1) * 2 - 1
        model = copy.deepcopy(trainer.model)
        model.architecture = replace(config.architecture, phases=phases)
        with torch.no_grad():
            wanted = losses(model(images), batch, config.losses, config.architecture.sampling)
        trainer.run()
        (lines[phases],) = log(run)
        assert lines[phases]["detector"] == pytest.approx(float(wanted["detector"]), rel=1e-3)
    assert lines[1]["detector"] != pytest.approx(lines[4]["detector"], rel=1e-3)
    assert lines[1]["descriptor"] == lines[4]["descriptor"]
    with pytest.raises(ConfigError, match="step_phases is 3; expected one of 1, 2, 4"):
        replace(config, step_phases=3)


def test_steps_take_one_phase_and_the_weights_have_those_of_the_configuration(config: TrainingConfig) -> None:
    written = {}
    for phases in (1, 4):
        run = replace(config, steps=2, architecture=replace(config.architecture, phases=phases))
        run = replace(run, output=f"{config.output}-{phases}")
        written[phases] = load_weights(Trainer(run, runtime()).run()), log(run)
    (one, losses_of_one), (four, losses_of_four) = written.values()
    assert (one.architecture.phases, four.architecture.phases) == (1, 4)
    assert losses_of_one == losses_of_four
    assert all(torch.equal(value, four.state[name]) for name, value in one.state.items())


@pytest.mark.parametrize("loss", ["relations", "groups"])
@pytest.mark.parametrize("attention", ["held", "learned"])
def test_who_moves_the_attention(config: TrainingConfig, loss: str, attention: str) -> None:
    trainer = Trainer(config, runtime())
    batch = Feed(config, torch.device("cpu"), Team()).draw(0)
    form = LossConfig(attention=attention)  # type: ignore[arg-type]
    maps = trainer.model(batch.images.flatten(0, 1) * 2 - 1)
    found = losses(maps, batch, form, config.architecture.sampling)[loss]
    (gradient,) = torch.autograd.grad(found, trainer.model.scalemap.weight, allow_unused=True)
    assert (gradient is None) == (attention == "held")


@pytest.mark.parametrize("descriptor", ["dual-softmax", "triplet"])
def test_points_that_count_alike_leave_the_attention_out(config: TrainingConfig, descriptor: str) -> None:
    trainer = Trainer(config, runtime())
    batch = Feed(config, torch.device("cpu"), Team()).draw(0)
    maps = trainer.model(batch.images.flatten(0, 1) * 2 - 1)
    found = {}
    for points in ("even", "attention"):
        form = LossConfig(points=points, descriptor=descriptor)  # type: ignore[arg-type]
        found[points] = losses(maps, batch, form, config.architecture.sampling)["descriptor"]
        weight = trainer.model.scalemap.weight
        (gradient,) = torch.autograd.grad(found[points], weight, retain_graph=True, allow_unused=True)
        assert (gradient is None) == (points == "even")
    one = maps._replace(attention=torch.ones_like(maps.attention))
    alike = losses(one, batch, LossConfig(descriptor=descriptor), config.architecture.sampling)  # type: ignore[arg-type]
    torch.testing.assert_close(found["even"], alike["descriptor"])


def test_direct_feature_distillation_keeps_all_channels(config: TrainingConfig) -> None:
    config = replace(config, steps=1, losses=LossConfig(relations="features"))
    Trainer(config, runtime()).run()
    assert log(config)[0]["relations"] > 0


def test_a_loss_that_is_not_finite_stops_and_keeps_its_batch(config: TrainingConfig) -> None:
    trainer = Trainer(config, runtime())
    trainer.model.conv_des.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"step 1; its batch is saved in .*nan_batch\.pt"):
        trainer.run()
    kept = torch.load(Path(config.output) / "nan_batch.pt", weights_only=True)
    assert kept["images"].shape == (2, 2, 3, 64, 64)
    assert not (Path(config.output) / "state.pt").exists()


def test_validation_keeps_the_best(config: TrainingConfig, tmp_path: Path) -> None:
    folder = homography_sequence(tmp_path / "sequences")
    config = replace(config, steps=4, validate_every=2, validation=(str(folder),))
    Trainer(config, runtime()).run()
    scores = {line["step"]: line["mma@3"] for line in log(config) if "mma@3" in line}
    assert set(scores) == {2, 4}
    best = load_weights(Path(config.output) / "best.safetensors")
    assert scores[int(best.metadata["steps"])] == max(scores.values())
    assert json.loads(best.metadata["validation"])["mma@3"] == max(scores.values())


def test_warm_start_takes_weights_and_checks_the_architecture(config: TrainingConfig) -> None:
    path = Trainer(replace(config, steps=1), runtime()).run()
    warm = Trainer(replace(config, weights=str(path)), runtime())
    assert torch.equal(warm.model.conv_des.weight, load_weights(path).state["conv_des.weight"])
    other = replace(config.architecture, attention="released")
    with pytest.raises(InputError, match="attention"):
        Trainer(replace(config, weights=str(path), architecture=other), runtime())


def test_share_takes_a_part_of_the_views(config: TrainingConfig) -> None:
    feed = Feed(replace(config, share=0.34), runtime().device, Team())
    assert all(torch.isfinite(feed.draw(0).images).flatten())
    assert len(feed._sampler.bank) == 1


def test_schedules_warm_up_and_decay(config: TrainingConfig) -> None:
    for schedule in ("cosine", "linear"):
        one = replace(config, steps=100, warmup_steps=10, schedule=schedule)  # type: ignore[arg-type]
        rates = [learning_rate(one, step) for step in range(101)]
        assert rates[0] == pytest.approx(one.learning_rate / 10)
        assert max(rates) == pytest.approx(one.learning_rate)
        assert rates[-1] == pytest.approx(one.final_learning_rate)
        assert all(a >= b for a, b in pairwise(rates[10:]))
    straight = replace(config, steps=100, warmup_steps=0, schedule="linear", final_learning_rate=0.0)
    assert learning_rate(straight, 50) == pytest.approx(straight.learning_rate / 2)


def test_tensorboard_gets_curves_and_pictures(config: TrainingConfig, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = homography_sequence(tmp_path / "sequences")
    config = replace(config, steps=2, validate_every=2, validation=(str(folder),), tensorboard=True)
    Trainer(config, runtime()).run()
    events = accumulator.EventAccumulator(str(Path(config.output) / "tensorboard"))
    events.Reload()
    assert {f"train/{name}" for name in EVERY_LOSS} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    assert [event.step for event in events.Images("maps")] == [2]


def test_a_seed_gives_one_run(config: TrainingConfig, tmp_path: Path) -> None:
    seeds = {"a": 0, "b": 0, "c": 1}
    runs = [replace(config, steps=3, output=str(tmp_path / name), seed=seed) for name, seed in seeds.items()]
    for run in runs:
        Trainer(run, runtime()).run()
    assert log(runs[0]) == log(runs[1])
    assert log(runs[0]) != log(runs[2])


@pytest.mark.slow
def test_every_loss_falls_in_200_steps_on_photographs(shared_data: Path, tmp_path: Path) -> None:
    """About four minutes of one core."""
    source = SourceConfig("photos", str(shared_data / "bsds"), teacher="segmentation", limit=200)
    config = TrainingConfig(
        sources=(source,), output=str(tmp_path), steps=200, pairs=4, size=128, points=250, warmup_steps=20,
        log_every=10, tensorboard=False,
    )  # fmt: skip
    Trainer(config, choose_runtime("cpu")).run()
    lines = log(config)
    for name in EVERY_LOSS:
        values = [line[name] for line in lines]
        assert np.mean(values[-4:]) < 0.95 * np.mean(values[:4]), name
