"""The training loop: one step, averaged weights, validation, checkpoints that resume exactly."""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.checkpoints import load_weights, save_weights, weights_suffix
from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import InputError
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import Runtime
from training.batch import Batch
from training.config import TrainingConfig
from training.feed import Feed
from training.logbook import Logbook
from training.objective import losses
from training.schedule import learning_rate
from training.team import Team
from training.validation import matching_accuracy

logger = logging.getLogger(__name__)
UNCHANGING = ("output", "checkpoint_minutes", "tensorboard", "compile", "start_share")
"""What may differ when a run is resumed: nothing that is learned depends on it."""


class Trainer:
    """Trains one network; everything it needs to go on after a kill lies in ``output/state.pt``.

    Raises:
        InputError: weights of another architecture than the configuration's.
    """

    def __init__(self, config: TrainingConfig, runtime: Runtime, team: Team | None = None) -> None:
        self.config, self.runtime, self.team = config, runtime, team or Team()
        self.output = Path(config.output)
        torch.manual_seed(config.seed)
        model = load_weights(config.weights).build().train() if config.weights else SAMFeat(config.architecture)
        refinement, phases = config.architecture.refinement, config.architecture.phases
        model.architecture = replace(model.architecture, refinement=refinement, phases=phases)  # no weight in these
        if model.architecture != config.architecture:
            raise InputError(f"{config.weights} has {model.architecture}, the configuration {config.architecture}")
        self.model = runtime.prepare(model)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.start = copy.deepcopy(self.average) if config.start_share else None
        self.model.architecture = replace(config.architecture, phases=config.step_phases)
        self.network = torch.compile(self.model) if config.compile else self.model
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        self.seconds = 0.0
        self.best: float | None = None
        self._sums: dict[str, Tensor] = {}  # of the steps since the last line of the log
        self._unchecked: tuple[Tensor, Batch] | None = None
        self._states: list[dict[str, Any]] | None = None

    def run(self) -> Path:
        """Train to the last step and export; returns the exported weights' path."""
        config = self.config
        self.output.mkdir(parents=True, exist_ok=True)
        self.feed = Feed(config, self.runtime.device, self.team)
        if self._states is not None:
            mine = self._states[self.team.rank]
            self.feed.generator.set_state(mine["generator"])
            self.feed.host.set_state(mine["host"])
        logbook = Logbook(self.output, self.step, config.tensorboard) if self.team.leads else None
        saved = logged = started = time.monotonic()
        with tqdm(total=config.steps, initial=self.step, desc="train", unit="step", disable=not self.team.leads) as bar:
            since = self.step
            while self.step < config.steps:
                batch = self.feed.draw(self.step)
                for name, value in self.train_step(batch).items():
                    self._sums[name] = self._sums[name] + value.double() if name in self._sums else value.double()
                bar.update()
                if self.step % config.log_every == 0:
                    now = time.monotonic()
                    rate = config.pairs * self.team.size * (self.step - since) / (now - logged)
                    self._log(logbook, rate, bar)
                    logged, since = now, self.step
                if config.validation and (self.step % config.validate_every == 0 or self.step == config.steps):
                    paused = time.monotonic()
                    self._validate(logbook, batch)
                    paused = time.monotonic() - paused
                    started, logged = started + paused, logged + paused
                if time.monotonic() - saved > config.checkpoint_minutes * 60:
                    self.seconds, started = self.seconds + time.monotonic() - started, time.monotonic()
                    self.save()
                    saved = time.monotonic()
        self.seconds += time.monotonic() - started
        self.save()
        if logbook:
            logbook.close()
        return self.export()

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step; returns the losses, still on the device.

        Raises:
            InputError: the loss of the step before was not finite; its batch is saved. The loss is looked at one step
                late, so that a GPU is never waited for.
        """
        self._check_finite()
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        every_scale = config.losses.detector == "every-scale"
        with self.runtime.autocast():
            maps = self.network(self.runtime.images(batch.images.flatten(0, 1) * 2 - 1), every_scale)
        parts = losses(maps, batch, config.losses, config.architecture.sampling)
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        self.team.average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10)) if config.ema else 0.0
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        self._unchecked = (parts["loss"].detach(), batch)
        return {name: value.detach() for name, value in parts.items()}

    def _check_finite(self) -> None:
        if self._unchecked is None:
            return
        (loss, batch), self._unchecked = self._unchecked, None
        if torch.isfinite(loss):
            return
        path = self.output / "nan_batch.pt"
        torch.save(batch._asdict(), path)
        raise InputError(
            f"the loss is {loss.item()} at step {self.step}; its batch is saved in {path}; "
            "resume from the last checkpoint with a lower learning_rate"
        )

    def _log(self, logbook: Logbook | None, rate: float, bar: Any) -> None:
        means = {name: float(value) / self.config.log_every for name, value in self._sums.items()}
        self._sums = {}
        if logbook:
            rates = {"lr": learning_rate(self.config, self.step), "pairs_per_s": rate}
            logbook.write(self.step, "train", {**means, **rates})
        bar.set_postfix_str(f"loss {means['loss']:.3f}, {rate:.1f} pairs/s")

    def _validate(self, logbook: Logbook | None, batch: Batch) -> None:
        if not logbook:
            return
        self._check_finite()
        result = matching_accuracy(self.exported(), self.config.validation, self.runtime)
        logbook.write(self.step, "validation", result)
        logger.info("step %d: mean matching accuracy at 3 px %.3f", self.step, result["mma@3"])
        if logbook.shows_pictures:
            from training.pictures import batch_picture

            logbook.picture(self.step, "maps", batch_picture(self.exported(), batch, self.runtime))
        if self.best is None or result["mma@3"] > self.best:
            self.best = result["mma@3"]
            self._write(self.output / f"best{weights_suffix()}", result)

    def save(self) -> None:
        """Write everything needed to resume, atomically."""
        self._check_finite()
        states = self.team.gather(
            {"generator": self.feed.generator.get_state().cpu(), "host": self.feed.host.get_state()}
        )
        if not self.team.leads:
            return
        self.output.mkdir(parents=True, exist_ok=True)
        with replace_file(self.output / "state.pt") as path:
            torch.save(
                {
                    "config": json.dumps(to_dict(self.config)),
                    "step": self.step,
                    "seconds": self.seconds,
                    "best": self.best,
                    "sums": {name: value.cpu() for name, value in self._sums.items()},
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "random": states,
                },
                path,
            )

    def resume(self) -> None:
        """Go on from ``output/state.pt``.

        Raises:
            InputError: there is none, or it was made with another configuration or number of processes.
        """
        path = self.output / "state.pt"
        if not path.is_file():
            raise InputError(f"nothing to resume: {path} does not exist; start without --resume")
        if self.team.leads:
            for partial in self.output.glob(f".{path.name}.*.tmp"):  # what a kill in the middle of a checkpoint left
                partial.unlink()
        state = torch.load(path, map_location=self.runtime.device, weights_only=True)
        mine, theirs = json.loads(json.dumps(to_dict(self.config))), json.loads(state["config"])
        changed = [key for key in mine if mine[key] != theirs.get(key) and key not in UNCHANGING]
        if changed:
            what = ", ".join(changed)
            raise InputError(
                f"{path} was made with another {what}; give the same options, another output, or --overwrite"
            )
        if len(state["random"]) != self.team.size:
            raise InputError(
                f"{path} was made by {len(state['random'])} processes, these are {self.team.size}; use as many"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._states = [{name: value.cpu() for name, value in one.items()} for one in state["random"]]
        self._sums = {name: value.to(self.runtime.device) for name, value in state["sums"].items()}
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def export(self) -> Path:
        """Write the weights of `exported`."""
        path = self.output / f"weights{weights_suffix()}"
        if self.team.leads:
            self._write(path, {})
        self.team.wait()
        return path

    def exported(self) -> SAMFeat:
        """The network that is validated and written: the averaged weights, and of the start its ``start_share``."""
        if self.start is None:
            return self.average
        model = copy.deepcopy(self.average)
        for mean, first in zip(model.parameters(), self.start.parameters(), strict=True):
            mean.lerp_(first, self.config.start_share)
        return model

    def _write(self, path: Path, validation: dict[str, float]) -> None:
        metadata = {
            "steps": str(self.step),
            "training_seconds": f"{self.seconds:.0f}",
            "training_config": json.dumps(to_dict(self.config)),
            "validation": json.dumps(validation),
            "torch": str(torch.__version__),
        }
        save_weights(path, self.exported(), metadata)
