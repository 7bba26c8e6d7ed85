"""The mean of two weights of one lineage: what fine-tuning gained, and much of what it forgot.

    python -m training.average samfeat-photos-1 OUT/weights.safetensors --share 0.75 --output averaged.safetensors

The result is (1 - share) * first + share * second (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from samfeat_hloc.checkpoints import find_weights, load_weights, save_weights
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, run_cli


def average(first: str, second: str, share: float, output: Path | str) -> Path:
    """Write the mean of two weights; metadata and refinement are the second's.

    Args:
        first: shipped name or file, what the second was trained from.
        second: shipped name or file.
        share: of the second, between 0 and 1.
        output: file to write.

    Raises:
        ConfigError: a share outside [0, 1].
        InputError: weights of different networks.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share is {share}; expected a number between 0 and 1")
    before, after = load_weights(first), load_weights(second)
    if before.architecture != replace(after.architecture, refinement=before.architecture.refinement):
        raise InputError(f"{first} has {before.architecture}, {second} {after.architecture}; expected one network")
    model = after.build()
    model.load_state_dict({name: before.state[name].lerp(value, share) for name, value in after.state.items()})
    kept = {name: value for name, value in after.metadata.items() if name not in ("architecture", "validation")}
    parents = [[Path(name).name, file_sha256(find_weights(name))] for name in (first, second)]
    save_weights(output, model, {**kept, "average": json.dumps({"share": share, "of": parents})})
    return Path(output)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="what the second was trained from")
    parser.add_argument("second")
    parser.add_argument("--share", type=float, default=0.5, help="of the second (0.5)")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    print(average(options.first, options.second, options.share, options.output))


if __name__ == "__main__":
    run_cli(main)
