"""The mean of two weights of one lineage: what fine-tuning gained, and much of what it forgot.

    python -m training.average samfeat-photos-1 OUT/weights.safetensors --share 0.75 --output averaged.safetensors

The result is (1 - share) * first + share * second (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
A share above 1 goes on beyond the second. Layers whose channels mean other things in both, as the descriptors' after
`training.whiten`, are kept as the second has them:

    python -m training.average samfeat-photos-2 samfeat-photos-5 --share 1.333 --keep conv_des --output OUT.safetensors
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from samfeat_hloc.checkpoints import find_weights, load_weights, save_weights
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, run_cli


def average(
    first: str, second: str, share: float, output: Path | str, keep: Sequence[str] = (), phases: int | None = None
) -> Path:
    """Write the mean of two weights; metadata, refinement and phases are the second's.

    Args:
        first: shipped name or file, what the second was trained from.
        second: shipped name or file.
        share: of the second, between 0 and 2.
        output: file to write.
        keep: layers that are taken from the second as they are.
        phases: that the result has in place of the second's, see `samfeat_hloc.phases`.

    Raises:
        ConfigError: a share outside [0, 2], a layer that there is not, or another number of phases than there are.
        InputError: weights of different networks.
    """
    if not 0 <= share <= 2:
        raise ConfigError(f"share is {share}; expected a number between 0 and 2, above 1 beyond the second")
    before, after = load_weights(first), load_weights(second)
    mine = before.architecture
    if mine != replace(after.architecture, refinement=mine.refinement, phases=mine.phases):  # no weight in these
        raise InputError(f"{first} has {before.architecture}, {second} {after.architecture}; expected one network")
    layers = {name: name.split(".")[0] for name in after.state}
    unknown = sorted(set(keep) - set(layers.values()))
    if unknown:
        known = ", ".join(sorted(set(layers.values())))
        raise ConfigError(f"there is no layer {unknown[0]} to keep; expected some of {known}")
    model, given = after.build(), after.state
    model.load_state_dict(
        {
            name: given[name] if layer in keep else before.state[name].lerp(given[name], share)
            for name, layer in layers.items()
        }
    )
    if phases is not None:
        model.architecture = replace(model.architecture, phases=phases)
    kept = {name: value for name, value in after.metadata.items() if name not in ("architecture", "validation")}
    parents = [[Path(name).name, file_sha256(find_weights(name))] for name in (first, second)]
    described = {"share": share, "of": parents} | ({"kept": list(keep)} if keep else {})
    save_weights(output, model, {**kept, "average": json.dumps(described)})
    return Path(output)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="what the second was trained from")
    parser.add_argument("second")
    parser.add_argument("--share", type=float, default=0.5, help="of the second (0.5), at most 2")
    parser.add_argument("--keep", nargs="+", default=[], metavar="LAYER", help="taken from the second as they are")
    parser.add_argument("--phases", type=int, help="of the result: 1, 2 or 4 (the second's)")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    print(average(options.first, options.second, options.share, options.output, options.keep, options.phases))


if __name__ == "__main__":
    run_cli(main)
