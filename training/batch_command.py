"""The command lines of `training.whiten` and `training.calibrate`, which look at a configuration's batches."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from samfeat_hloc.precision import Runtime
from training.config import TrainingConfig
from training.train import configuration, training_runtime


def batch_parser(description: str | None, batches: int) -> argparse.ArgumentParser:
    """The options that all of them have.

    Args:
        description: of the command.
        batches: how many it looks at by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="what gives the batches: a preset of training.train, or a JSON file")
    parser.add_argument("--weights", help="shipped name or file; default: the shipped default")
    parser.add_argument("--source", action="append", default=[], metavar="KEY=VALUE,...", help="as of training.train")
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="likewise")
    parser.add_argument("--batches", type=int, default=batches, help=f"how many are looked at ({batches})")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", help="cpu, cuda, cuda:N; default: CUDA where there is one")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    return parser


def settings(options: argparse.Namespace) -> tuple[TrainingConfig, Runtime]:
    """What the options ask for; packs are made beside the output.

    Raises:
        ConfigError: see `training.train.configuration` and `training.train.training_runtime`.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    config = configuration(options.config, options.source, str(options.output.parent), options.set)
    return config, training_runtime(options.device, options.precision)
