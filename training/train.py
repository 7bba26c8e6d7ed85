"""``python -m training.train CONFIG``: a preset's name or a JSON file; with torchrun, on several GPUs.

python -m training.train photos --source kind=photos,path=DIR --output OUT
torchrun --nproc-per-node 4 -m training.train paper --source kind=megadepth,path=DIR,teacher=STORE
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

import torch

from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.errors import ConfigError, run_cli
from samfeat_hloc.precision import Precision, Runtime, choose_runtime
from training.config import TrainingConfig
from training.presets import PRESETS, read_config
from training.records import SourceConfig
from training.team import join_team, leave_team


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
        target[leaf] = _value(text)
    return from_dict(TrainingConfig, values)


def parse_source(text: str) -> SourceConfig:
    """``kind=photos,path=DIR,weight=2,overlap=0.2:0.7`` as a source.

    Raises:
        ConfigError: a part that is no ``key=value``, an unknown key, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"--source got {part!r}; expected key=value parts, as in kind=photos,path=DIR,weight=1")
        if key in ("path", "images", "teacher", "keypoints"):
            values[key] = value
        else:
            values[key] = [_value(item) for item in value.split(":")] if key == "overlap" else _value(value)
    for needed in ("kind", "path"):
        if needed not in values:
            raise ConfigError(f"--source {text!r} has no {needed}; expected kind=photos,path=DIR")
    return from_dict(SourceConfig, values)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def configuration(name: str, sources: list[str], output: str | None, changes: list[str]) -> TrainingConfig:
    """What a command line asks for: a preset or JSON file, its sources and output replaced where given, then changes.

    Raises:
        ConfigError: as `read_config`, `parse_source` and `with_changes`.
    """
    values = to_dict(read_config(name))
    if sources:
        values["sources"] = [to_dict(parse_source(text)) for text in sources]
    if output:
        values["output"] = output
    return with_changes(from_dict(TrainingConfig, values), changes)


def training_runtime(device: str | None, precision: Precision) -> Runtime:
    """As `choose_runtime`, but bfloat16 on a GPU: float16's gradients vanish without a loss scale."""
    runtime = choose_runtime(device, precision)
    if precision == "auto" and runtime.device.type == "cuda":
        if runtime.device.index is None:
            runtime = Runtime(torch.device("cuda", torch.cuda.current_device()), runtime.dtype)
        return Runtime(runtime.device, torch.bfloat16)
    return runtime


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description="Train SAMFeat.")
    parser.add_argument("config", help=f"{', '.join(PRESETS)}, or a JSON file")
    parser.add_argument(
        "--source", action="append", default=[], metavar="KEY=VALUE,...",
        help="kind=photos|rgbd|colmap|megadepth|mtldesc|town|pack,path=...[,weight=][,teacher=][,keypoints=]; "
        "replaces the sources of CONFIG",
    )  # fmt: skip
    parser.add_argument("--output", help="where checkpoints, log and weights go")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT/state.pt, which must be there")
    parser.add_argument("--overwrite", action="store_true", help="start anew; without it, a run that is there goes on")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="fields of TrainingConfig"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:N; default: CUDA where there is one")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    from training.trainer import Trainer

    config = configuration(options.config, options.source, options.output, options.set)
    team = join_team()
    if not team.leads:
        logging.getLogger().setLevel(logging.WARNING)
    try:
        trainer = Trainer(config, training_runtime(options.device, options.precision), team)
        if options.resume or ((trainer.output / "state.pt").is_file() and not options.overwrite):
            trainer.resume()
        logging.info("weights: %s", trainer.run())
    finally:
        leave_team()


if __name__ == "__main__":
    run_cli(main)
