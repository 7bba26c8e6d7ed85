"""Sets how sure a detector is: as many keypoints pass the extractor's threshold as with other weights.

    python -m training.calibrate photos-10 --weights W --like samfeat-photos-5 --source … --output OUT

A detector that was taught the mean of what another says (``losses.detector=distilled``) ranks pixels well and is less
sure of each, so that fewer pass a threshold. On a configuration's crops, with no photometric change, both detectors'
best pixels are put in order, and a constant is added to the logits: none changes its rank, its place or its descriptor.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from samfeat_hloc.atomic import refuse_folder
from samfeat_hloc.checkpoints import find_weights, load_weights, save_weights
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.extractors.samfeat import SAMFeatConf
from samfeat_hloc.keypoints import suppress
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import Runtime
from training.batch_command import batch_parser, settings
from training.config import PhotometricConfig, TrainingConfig
from training.feed import Feed
from training.team import join_team

CONF = SAMFeatConf()
LEAST = 100
"""Fewer keypoints than this say too little of how many there are."""


def peaks(model: SAMFeat, images: Tensor, runtime: Runtime) -> Tensor:
    """Keypoint logits (N,) on the CPU, of the pixels of (B, 3, H, W) images that the extractor's suppression leaves."""
    with torch.inference_mode(), runtime.autocast():
        logits = model(runtime.images(images) * 2 - 1).logits.float()
    if not torch.isfinite(logits).all():
        raise InputError("the weights give keypoint scores that are not finite; check them, or try --precision float32")
    kept = suppress(torch.sigmoid(logits), CONF.nms_radius, 2)
    inside = torch.zeros_like(kept)
    inside[..., CONF.border : -CONF.border, CONF.border : -CONF.border] = True
    return logits[kept & inside].cpu()


def constant_between(mine: Tensor, others: Tensor, threshold: float) -> float:
    """What is to be added to logits for as many of them to pass a threshold as of others.

    Args:
        mine, others: (N,), (M,) logits of the same images' pixels.
        threshold: a probability.

    Raises:
        InputError: fewer than 100 of the others pass, or there are fewer of mine.
    """
    bar = math.log(threshold / (1 - threshold))
    count = int((others >= bar).sum())
    if not LEAST <= count < len(mine):
        raise InputError(
            f"{count} keypoints of the weights to be like pass {threshold}, and the others have {len(mine)} in all; "
            f"expected at least {LEAST} and fewer than those; give more --batches or other photographs"
        )
    best = mine.sort(descending=True).values
    return bar - float(best[count - 1] + best[count]) / 2


def add(model: SAMFeat, constant: float) -> None:
    """Let a network give all keypoint logits a constant more; in place, by the bias of the scale that weighs most."""
    scales = (model.heatmap1, model.heatmap2, model.heatmap3, model.heatmap4)
    weights = (model.fuse_weight_1, model.fuse_weight_2, model.fuse_weight_3, model.fuse_weight_4)
    head, weight = max(zip(scales, weights, strict=True), key=lambda pair: abs(float(pair[1].detach())))
    with torch.no_grad():
        head.bias.add_(constant / weight.detach())  # type: ignore[union-attr]


def calibrate(
    name: str | None, like: str, config: TrainingConfig, batches: int, runtime: Runtime, output: Path | str
) -> Path:
    """Write weights that are as sure of their keypoints as others.

    Args:
        name: shipped name or file; None: the shipped default.
        like: the same, of the others.
        config: what gives the crops; its photometric change and its ``labeller`` are left out.
        batches: how many.
        runtime: where the networks run.
        output: file to write.

    Raises:
        ConfigError: no batches.
        InputError: see `constant_between`; a source that cannot be read; an output that is a folder.
    """
    refuse_folder(output)
    if batches < 1:
        raise ConfigError(f"batches is {batches}; expected at least 1")
    weights, others = load_weights(name), load_weights(like)
    still = replace(config.unlabelled(), photometric=PhotometricConfig(strength=0.0))
    feed = Feed(still, runtime.device, join_team())
    networks = [runtime.prepare(each.build()) for each in (weights, others)]
    found: list[list[Tensor]] = [[], []]
    for step in tqdm(range(batches), desc="keypoints", unit="batch"):
        images = feed.draw(step).images.flatten(0, 1)
        for logits, network in zip(found, networks, strict=True):
            logits.append(peaks(network, images, runtime))
    constant = constant_between(torch.cat(found[0]), torch.cat(found[1]), CONF.threshold)
    model = weights.build()
    add(model, constant)
    parents = [[Path(find_weights(each)).stem, file_sha256(find_weights(each))] for each in (name, like)]
    described = {"of": parents[0], "like": parents[1], "constant": constant, "threshold": CONF.threshold}
    described |= {"batches": batches, "seed": config.seed}
    kept = {key: value for key, value in weights.metadata.items() if key not in ("architecture", "validation")}
    save_weights(output, model, {**kept, "calibrated": json.dumps(described)})
    return Path(output)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = batch_parser(__doc__, 20)
    parser.add_argument("--like", required=True, help="shipped name or file of the weights to be like")
    options = parser.parse_args(arguments)
    config, runtime = settings(options)
    print(calibrate(options.weights, options.like, config, options.batches, runtime, options.output))


if __name__ == "__main__":
    run_cli(main)
