"""``python -m training.train --photos DIR [DIR ...] --output OUT [--resume] [--set key=value ...]``."""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.errors import ConfigError, run_cli
from samfeat_hloc.precision import choose_runtime
from training.config import TrainingConfig


def with_changes(config: TrainingConfig, changes: list[str]) -> TrainingConfig:
    """The configuration with ``key=value`` or ``group.key=value`` replaced; values are JSON, or plain text.

    Raises:
        ConfigError: a change that is no ``key=value``, an unknown key, or a value of the wrong type.
    """
    values = to_dict(config)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set got {change!r}; expected key=value, as in steps=2000")
        *groups, leaf = key.split(".")
        target: dict[str, Any] = values
        for group in groups:
            if not isinstance(target.get(group), dict):
                raise ConfigError(f"--set names {key}; there is no group {group}")
            target = target[group]
        try:
            target[leaf] = json.loads(text)
        except json.JSONDecodeError:
            target[leaf] = text
    return from_dict(TrainingConfig, values)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description="Train SAMFeat on photographs.")
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photographs, searched recursively")
    parser.add_argument("--output", default="outputs/training", help="where checkpoints, log and weights go")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT/state.pt")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="fields of TrainingConfig")
    parser.add_argument("--device", help="cpu, cuda, cuda:N; default: CUDA where there is one")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16, float16")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    from training.trainer import Trainer

    config = TrainingConfig(photos=tuple(options.photos), output=options.output)
    trainer = Trainer(with_changes(config, options.set), choose_runtime(options.device, options.precision))
    if options.resume:
        trainer.resume()
    logging.info("weights: %s", trainer.run())


if __name__ == "__main__":
    run_cli(main)
