"""Command-line options that several pipelines have, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.extractors import MODULES as EXTRACTORS
from samfeat_hloc.extractors import Extractor, get_extractor


class Distinct(argparse.Action):
    """Stores a tuple of the values given, each once, in the order given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Called by argparse."""
        setattr(namespace, self.dest, tuple(dict.fromkeys(values)))


def pipeline_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m MODULE`; the description is shown as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_outputs(parser: argparse.ArgumentParser, default: Path) -> None:
    """``--outputs``: the folder of everything a run writes."""
    parser.add_argument("--outputs", type=Path, default=default, help=f"default: {default}")


def add_features(parser: argparse.ArgumentParser, default: tuple[str, ...]) -> None:
    """``--features``: extractors' confs by name, side by side in one run."""
    parser.add_argument("--features", nargs="+", action=Distinct, default=default, choices=sorted(EXTRACTORS))


def add_weights(parser: argparse.ArgumentParser) -> None:
    """``--weights``: what `extractor_of` gets."""
    parser.add_argument("--weights", help="shipped name or checkpoint file, for SAMFeat")


def add_town_seed(parser: argparse.ArgumentParser, default: int) -> None:
    """``--seed`` of the town that stands in for a dataset."""
    parser.add_argument("--seed", type=int, default=default, help="of the embedded town (%(default)s)")


def extractor_of(name: str, weights: str | None, **overrides: Any) -> Extractor:
    """An extractor of ``--features``; ``--weights`` are for SAMFeat, and the others beside it have their own.

    Raises:
        ConfigError: an unknown name or key, or a bad value.
    """
    if weights is not None and name.startswith("samfeat"):
        overrides["weights"] = weights
    return get_extractor(name, **overrides)


def check_least(options: Any, least: Iterable[tuple[str, int]]) -> None:
    """Check that each named field of the options is at least so much.

    Raises:
        ConfigError: the first that is less, by its name on the command line.
    """
    values = vars(options)
    for name, smallest in least:
        if values[name] is not None and values[name] < smallest:
            raise ConfigError(f"--{name.replace('_', '-')} is {values[name]}; expected at least {smallest}")
