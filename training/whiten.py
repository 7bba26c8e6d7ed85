"""Whitens descriptors: directions in which true matches differ count for less, folded into the network's last layer.

    python -m training.whiten photos-4 --weights samfeat-photos-4 --source kind=photos,path=DIR --output OUT

A configuration's batches tell how the descriptors x and y of true matches differ: C = E[(x - y)(x - y)^T] / 2. Then
|C^(-1/2) (x - y)| is the distance that weighs every direction by how reliable it is (Mikolajczyk and Matas, Improving
descriptors for fast tree matching by optimal linear projection, ICCV 2007). Nothing is trained; the network keeps its
form and its speed.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from samfeat_hloc.atomic import refuse_folder
from samfeat_hloc.checkpoints import find_weights, load_weights, save_weights
from samfeat_hloc.config import to_dict
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import Runtime
from samfeat_hloc.sampling import sample
from training.batch_command import batch_parser, settings
from training.config import TrainingConfig
from training.feed import Feed
from training.team import join_team

FLOOR = 0.01
"""Added to the eigenvalues, as a share of the largest: what hardly ever differs is not trusted without limit."""
MATCHES_PER_CHANNEL = 20
"""Fewer true matches than this say too little of a covariance."""


def covariance_of_differences(model: SAMFeat, feed: Feed, batches: int, runtime: Runtime) -> tuple[Tensor, int]:
    """How the descriptors of true matches differ.

    Args:
        model: its unit-length descriptors are looked at.
        feed: of pairs with true matches.
        batches: how many to draw.
        runtime: where the network runs.

    Returns:
        (D, D) float64 on the CPU, and the number of matches.

    Raises:
        InputError: fewer than 20 matches for each of the D channels, or descriptors that are not finite.
    """
    network, sampling = runtime.prepare(model), model.architecture.sampling
    channels = model.architecture.descriptor_dim
    total, count = torch.zeros(channels, channels, dtype=torch.float64), 0
    for step in tqdm(range(batches), desc="descriptors", unit="batch"):
        batch = feed.draw(step)
        with torch.inference_mode(), runtime.autocast():
            maps = network(runtime.images(batch.images.flatten(0, 1) * 2 - 1)).descriptors
        size = (batch.images.shape[-1], batch.images.shape[-2])
        found = F.normalize(sample(maps, batch.points.flatten(0, 1), size, sampling), dim=-1)
        first, second = found.unflatten(0, (2, -1))
        difference = (first - second)[batch.valid].double()
        total += (difference.T @ difference).cpu()
        count += len(difference)
    if not torch.isfinite(total).all():
        raise InputError("the weights give descriptors that are not finite; check them, or try --precision float32")
    if count < MATCHES_PER_CHANNEL * channels:
        raise InputError(
            f"{batches} batches have {count} true matches; expected at least {MATCHES_PER_CHANNEL * channels}, for "
            f"descriptors of length {channels}; give more --batches or other photographs"
        )
    return total / (2 * count), count


def whitening(covariance: Tensor, floor: float = FLOOR) -> Tensor:
    """The inverse square root of a covariance.

    Args:
        covariance: (D, D), symmetric.
        floor: added to its eigenvalues, as a share of the largest.

    Returns:
        (D, D) symmetric, of the identity's Frobenius norm.

    Raises:
        InputError: all zero, as where both photographs of every pair are one.
    """
    values, directions = torch.linalg.eigh(covariance)
    if values[-1] <= 0:
        raise InputError("the descriptors of true matches do not differ at all; expected photographs under changes")
    root = directions @ torch.diag((values / values[-1] + floor) ** -0.5) @ directions.T
    return root * (len(root) ** 0.5 / root.norm())


def fold(model: SAMFeat, transform: Tensor) -> None:
    """Let a network give ``transform @ descriptor`` for each descriptor, (D, D); in place."""
    layer = model.conv_des
    transform = transform.to(layer.weight)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("po,oihw->pihw", transform, layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(transform @ layer.bias)


def whiten(name: str | None, config: TrainingConfig, batches: int, runtime: Runtime, output: Path | str) -> Path:
    """Write weights whose descriptors are whitened by a configuration's batches.

    Args:
        name: shipped name or file; None: the shipped default.
        config: what gives the batches; a ``labeller`` is left out, for keypoint targets matter little here.
        batches: how many.
        runtime: where the network runs.
        output: file to write.

    Raises:
        ConfigError: no batches.
        InputError: see `covariance_of_differences` and `whitening`; a source that cannot be read; an output that is a
            folder.
    """
    refuse_folder(output)
    if batches < 1:
        raise ConfigError(f"batches is {batches}; expected at least 1")
    weights = load_weights(name)
    model = weights.build()
    feed = Feed(config.unlabelled(), runtime.device, join_team())
    covariance, matches = covariance_of_differences(weights.build(), feed, batches, runtime)
    fold(model, whitening(covariance))
    described = {"of": [Path(find_weights(name)).stem, file_sha256(find_weights(name))], "matches": matches}
    described |= {"batches": batches, "floor": FLOOR, "photometric": to_dict(config.photometric), "seed": config.seed}
    kept = {key: value for key, value in weights.metadata.items() if key not in ("architecture", "validation")}
    save_weights(output, model, {**kept, "whitened": json.dumps(described)})
    return Path(output)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = batch_parser(__doc__, 40).parse_args(arguments)
    config, runtime = settings(options)
    print(whiten(options.weights, config, options.batches, runtime, options.output))


if __name__ == "__main__":
    run_cli(main)
