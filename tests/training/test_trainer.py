"""The training loop: learns, resumes to the same weights, refuses what does not fit, runs where little is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import InputError
from samfeat_hloc.precision import Runtime, choose_runtime
from tests.training.photographs import write_photos
from training.batch import Batch
from training.config import LossConfig, TrainingConfig
from training.feed import Feed
from training.objective import losses
from training.pack import pack
from training.records import SourceConfig
from training.schedule import learning_rate
from training.team import Team
from training.train import main
from training.trainer import Trainer

EVERY_LOSS = {"loss", "detector", "descriptor", "relations", "groups", "edges"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 3, segmented=True)


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> TrainingConfig:
    source = SourceConfig("photos", str(photos), teacher="segmentation")
    return TrainingConfig(
        sources=(source,), output=str(tmp_path / "run"), steps=6, pairs=2, size=64, points=40, log_every=1,
        tensorboard=False,
    )  # fmt: skip


def runtime() -> Runtime:
    return choose_runtime("cpu", "float32")


def log(config: TrainingConfig) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = (Path(config.output) / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "pairs_per_s"} for line in lines]


def stop_at(trainer: Trainer, step: int) -> Trainer:
    """A Ctrl-C between drawing a batch and learning from it."""
    learn = trainer.train_step

    def interrupted(batch: Batch) -> dict[str, Tensor]:
        if trainer.step == step:
            raise KeyboardInterrupt
        return learn(batch)

    trainer.train_step = interrupted  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize("log_every", [1, 4])
def test_interrupted_and_resumed_equals_uninterrupted(config: TrainingConfig, tmp_path: Path, log_every: int) -> None:
    config = replace(config, checkpoint_minutes=1e-9, log_every=log_every, steps=8)  # a checkpoint after every step
    whole = replace(config, output=str(tmp_path / "whole"))
    weights = load_weights(Trainer(whole, runtime()).run())
    assert set(log(whole)[0]) == {"step", "lr", *EVERY_LOSS}

    with pytest.raises(KeyboardInterrupt):
        stop_at(Trainer(config, runtime()), 3).run()
    resumed = Trainer(config, runtime())
    resumed.resume()
    assert resumed.step == 3
    again = load_weights(resumed.run())
    assert int(again.metadata["steps"]) == 8
    assert all(torch.equal(again.state[key], weights.state[key]) for key in weights.state)
    assert log(config) == log(whole)


def test_chapters_are_resumed_in_the_middle(config: TrainingConfig, tmp_path: Path) -> None:
    config = replace(config, checkpoint_minutes=1e-9, resident_views=2, chapter_steps=2)
    whole = replace(config, output=str(tmp_path / "whole"))
    Trainer(whole, runtime()).run()
    with pytest.raises(KeyboardInterrupt):
        stop_at(Trainer(config, runtime()), 3).run()
    resumed = Trainer(config, runtime())
    resumed.resume()
    resumed.run()
    assert log(config) == log(whole)


def arguments(config: TrainingConfig) -> list[str]:
    source = config.sources[0]
    changes = ["pairs=2", "size=64", "points=40", "log_every=1", "tensorboard=false", "checkpoint_minutes=0.02"]
    return [
        "photos", "--source", f"kind={source.kind},path={source.path},teacher={source.teacher}",
        "--output", config.output, "--device", "cpu", "--precision", "float32", "--set", *changes,
    ]  # fmt: skip


def test_killed_run_goes_on_to_the_curve_of_an_uninterrupted_one(config: TrainingConfig, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.train", *arguments(config), "steps=25"]
    state = Path(config.output) / "state.pt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if state.is_file() and state.stat().st_mtime < time.time() - 0.2:
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    subprocess.run(command, check=True, capture_output=True)
    whole = replace(config, output=str(tmp_path / "whole"))
    command[command.index(config.output)] = whole.output
    subprocess.run(command, check=True, capture_output=True)
    assert len(log(whole)) == 25
    assert log(config) == log(whole)
    assert not list(Path(config.output).glob("*.tmp"))


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


def homography_sequence(folder: Path) -> Path:
    import cv2

    from tests.training.photographs import smooth_photo

    sequence = folder / "v_moved"
    sequence.mkdir(parents=True)
    photo = smooth_photo(9, 150, 190)
    cv2.imwrite(str(sequence / "1.png"), photo[:140, :180])
    cv2.imwrite(str(sequence / "2.png"), photo[6:146, 8:188])
    (sequence / "H_1_2").write_text("1 0 -8\n0 1 -6\n0 0 1\n")
    return folder


def test_validation_keeps_the_best(config: TrainingConfig, tmp_path: Path) -> None:
    folder = homography_sequence(tmp_path / "sequences")
    config = replace(config, steps=4, validate_every=2, validation=(str(folder),))
    Trainer(config, runtime()).run()
    scores = {line["step"]: line["mma@3"] for line in log(config) if "mma@3" in line}
    assert set(scores) == {2, 4}
    best = load_weights(Path(config.output) / "best.safetensors")
    assert scores[int(best.metadata["steps"])] == max(scores.values())
    assert json.loads(best.metadata["validation"])["mma@3"] == max(scores.values())


def test_resume_refuses_another_configuration_and_nothing(config: TrainingConfig) -> None:
    trainer = Trainer(config, runtime())
    with pytest.raises(InputError, match="nothing to resume"):
        trainer.resume()
    trainer.run()
    with pytest.raises(InputError, match="another points"):
        Trainer(replace(config, points=41), runtime()).resume()
    with pytest.raises(InputError, match="made by 1 processes, these are 2"):
        Trainer(config, runtime(), Team(0, 2)).resume()


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


BLOCKED = ("pycolmap", "segment_anything", "torchvision", "scipy", "faiss", "safetensors", "tensorboard", "matplotlib")
BARE = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))  # importing them fails as if they were not installed
from training.train import main
main({arguments!r})
"""


@pytest.mark.parametrize("also", ["cv2", "PIL"])
def test_trains_where_little_is_installed(config: TrainingConfig, photos: Path, tmp_path: Path, also: str) -> None:
    packed = pack(config.sources, tmp_path / "data.h5")  # what travels to such a machine
    given = arguments(config)
    given[2] = f"kind=pack,path={packed}"
    program = BARE.format(blocked=[*BLOCKED, also], arguments=[*given, "steps=2"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load_weights(Path(config.output) / "weights.pt").architecture == config.architecture


def run_team(command: Callable[[int], list[str]], size: int = 2) -> None:
    processes = []
    for rank in range(size):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29541", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        processes.append(subprocess.Popen(command(rank), env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def test_two_processes_train_one_network(config: TrainingConfig) -> None:
    command = [sys.executable, "-m", "training.train", *arguments(config)]
    run_team(lambda rank: [*command, "steps=3"])
    state = torch.load(Path(config.output) / "state.pt", weights_only=True)
    assert len(state["random"]) == 2
    assert not torch.equal(state["random"][0]["host"], state["random"][1]["host"])
    alone = replace(config, output=config.output + "-alone", steps=3)
    Trainer(alone, runtime()).run()
    assert log(config)[1]["loss"] != log(alone)[1]["loss"]  # the other process's gradient is in it


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


def test_a_run_that_is_there_goes_on_unless_it_is_overwritten(config: TrainingConfig) -> None:
    given = [*arguments(config), "steps=2"]
    main(given)
    before = log(config)
    main(given)  # the same command again: finished, nothing to do
    assert log(config) == before
    with pytest.raises(InputError, match=r"another steps; .* --overwrite"):
        main([*given, "steps=3"])
    assert log(config) == before
    main([*given, "steps=3", "--overwrite"])
    assert [line["step"] for line in log(config)] == [1, 2, 3]
