"""The training loop: one step, averaged weights, checkpoints that resume exactly."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.checkpoints import load_weights, save_weights
from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import InputError
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import Runtime
from samfeat_hloc.sampling import sample
from training.config import TrainingConfig
from training.losses import detector_loss, dual_softmax_loss
from training.pairs import Pairs, PhotoPairs
from training.photos import PhotoBank

logger = logging.getLogger(__name__)


class Trainer:
    """Trains one network; everything it needs to go on after a kill lies in ``output/state.pt``."""

    def __init__(self, config: TrainingConfig, runtime: Runtime) -> None:
        self.config, self.runtime = config, runtime
        self.output = Path(config.output)
        torch.manual_seed(config.seed)
        model = load_weights(config.weights).build().train() if config.weights else SAMFeat(config.architecture)
        if model.architecture != config.architecture:
            raise InputError(f"{config.weights} has {model.architecture}, the configuration {config.architecture}")
        self.model = runtime.prepare(model)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.generator = torch.Generator(device=runtime.device).manual_seed(config.seed)
        self.step = 0
        self.seconds = 0.0

    def run(self) -> Path:
        """Train to the last step and export; returns the exported weights' path."""
        config = self.config
        self.output.mkdir(parents=True, exist_ok=True)
        bank = PhotoBank.read(config.photos, config.max_side, self.runtime.device, config.max_photos)
        logger.info("%d photographs; step %d of %d", len(bank), self.step, config.steps)
        source = PhotoPairs(bank, config, self.generator)
        saved, logged, sums, count = time.monotonic(), time.monotonic(), dict[str, float](), 0
        with tqdm(total=config.steps, initial=self.step, desc="train", unit="step") as bar:
            while self.step < config.steps:
                for name, value in self.train_step(source.draw()).items():
                    sums[name] = sums.get(name, 0.0) + value
                bar.update()
                count += 1
                if self.step % config.log_every == 0:
                    now = time.monotonic()
                    self.seconds += now - logged
                    rate = 2 * config.pairs * count / (now - logged)
                    self._log({name: value / count for name, value in sums.items()}, rate)
                    bar.set_postfix_str(f"loss {sums['loss'] / count:.3f}, {rate:.1f} images/s")
                    sums, logged, count = {}, now, 0
                if time.monotonic() - saved > config.checkpoint_minutes * 60:
                    self.save()
                    saved = time.monotonic()
        self.save()
        return self.export()

    def train_step(self, pairs: Pairs) -> dict[str, float]:
        """One optimizer step; returns the losses."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        with self.runtime.autocast():
            maps = self.model(self.runtime.images(pairs.images.flatten(0, 1) * 2 - 1))
        detector = detector_loss(maps.logits.float(), pairs.keypoints.flatten(0, 1), pairs.seen.flatten(0, 1))
        descriptor = self._descriptor_loss(maps.descriptors, maps.attention, pairs)
        loss = config.detector_weight * detector + config.descriptor_weight * descriptor
        if not torch.isfinite(loss):
            torch.save(pairs._asdict(), self.output / "nan_batch.pt")
            raise InputError(
                f"the loss is {loss.item()} at step {self.step}; the batch is saved in {self.output}/nan_batch.pt; "
                "resume from the last checkpoint with a lower learning_rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return {"loss": loss.item(), "detector": detector.item(), "descriptor": descriptor.item()}

    def _descriptor_loss(self, descriptors: Tensor, attention: Tensor, pairs: Pairs) -> Tensor:
        config = self.config
        points = pairs.points.flatten(0, 1)
        sampling, size = config.architecture.sampling, (config.size, config.size)
        sampled = torch.nn.functional.normalize(sample(descriptors, points, size, sampling), dim=-1)
        weights = sample(attention, points, size, sampling)[..., 0]
        return dual_softmax_loss(
            sampled.unflatten(0, (2, -1)), weights.unflatten(0, (2, -1)), pairs.points, pairs.valid,
            config.temperature, config.safe_radius, config.attention_temperature,
        )  # fmt: skip

    def _log(self, losses: dict[str, float], rate: float) -> None:
        record = {"step": self.step, **losses, "lr": learning_rate(self.config, self.step), "images_per_s": rate}
        with (self.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save(self) -> None:
        """Write everything needed to resume, atomically."""
        self.output.mkdir(parents=True, exist_ok=True)
        with replace_file(self.output / "state.pt") as path:
            torch.save(
                {
                    "config": json.dumps(to_dict(self.config)),
                    "step": self.step,
                    "seconds": self.seconds,
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "generator": self.generator.get_state(),
                },
                path,
            )

    def resume(self) -> None:
        """Go on from ``output/state.pt``.

        Raises:
            InputError: there is none, or it belongs to another configuration.
        """
        path = self.output / "state.pt"
        if not path.is_file():
            raise InputError(f"nothing to resume: {path} does not exist; start without --resume")
        for partial in self.output.glob(f".{path.name}.*.tmp"):  # what a kill in the middle of a checkpoint left
            partial.unlink()
        state = torch.load(path, map_location=self.runtime.device, weights_only=True)
        mine, theirs = json.loads(json.dumps(to_dict(self.config))), json.loads(state["config"])
        changed = [key for key in mine if mine[key] != theirs.get(key)]
        if changed:
            raise InputError(f"{path} was made with another {', '.join(changed)}; use the same options to resume")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]

    def export(self) -> Path:
        """Write the averaged weights as safetensors."""
        path = self.output / "weights.safetensors"
        metadata = {
            "steps": str(self.step),
            "training_seconds": f"{self.seconds:.0f}",
            "training_config": json.dumps(to_dict(self.config)),
            "torch": torch.__version__,
        }
        save_weights(path, self.average, metadata)
        return path


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine
