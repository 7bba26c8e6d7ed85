"""Local feature extractors by name. An extractor is one module with `CONFS` and `create`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from samfeat_hloc.config import resolve, to_dict
from samfeat_hloc.formats.features import Features

MODULES = {
    "samfeat": "samfeat_hloc.extractors.samfeat",
    "samfeat-aachen": "samfeat_hloc.extractors.samfeat",
    "samfeat-int8": "samfeat_hloc.extractors.samfeat",
    "samfeat-looks": "samfeat_hloc.extractors.samfeat",
    "samfeat-released": "samfeat_hloc.extractors.samfeat",
    "samfeat-onnx": "samfeat_hloc.extractors.samfeat_onnx",
    "sift": "samfeat_hloc.extractors.sift",
}
"""Conf name -> its module, which has `CONFS: dict[str, conf dataclass]` and `create(name, conf) -> Extractor`."""


class Extractor(Protocol):
    """Turns photographs into local features. A class that subclasses this needs the first three and `__call__` alone.

    Attributes:
        name: of the conf, as in `MODULES`.
        conf: a frozen dataclass; with `weights_sha256` it determines the features.
        weights_sha256: of the weights' file; "" for an extractor without weights.
        precision: number format of the network on this machine, where the conf leaves it open; a features file has
            features of one only. "" when there is no choice.
        default_batch: images of one size that are worth one call of `extract_many`.
        parallel: calls that are worth running at once, each in a thread that has called `share`.
    """

    name: str
    conf: Any
    weights_sha256: str
    precision: str = ""
    default_batch: int = 1
    parallel: int = 1

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        """Features of an (H, W, 3) uint8 RGB image, best score first."""
        ...

    def extract_many(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Features]:
        """Features of (H, W, 3) uint8 RGB images of one size; one after the other where nothing else is defined."""
        return [self(image) for image in images]

    def share(self, calls: int) -> None:
        """Let this thread's calls take one part in ``calls`` of the processor; 1: all of it."""
        return


def get_conf(conf: str | Mapping[str, Any], **overrides: Any) -> tuple[str, Any]:
    """Resolve a conf name, or a dict with "name" and fields that replace the named conf's.

    hloc's form `{"model": {"name": ..., ...}, "preprocessing": {"resize_max": ...}, "output": ...}` is
    accepted too.

    Returns:
        the name, and the extractor's frozen dataclass.

    Raises:
        ConfigError: unknown name or key, or a bad value.
    """
    return resolve("extractor", conf, MODULES, overrides)


def get_extractor(conf: str | Mapping[str, Any], **overrides: Any) -> Extractor:
    """Make an extractor from a conf name or dict (see `get_conf`); `overrides` replace fields.

    Raises:
        ConfigError: unknown name or key, or a bad value.
    """
    name, resolved = get_conf(conf, **overrides)
    extractor: Extractor = importlib.import_module(MODULES[name]).create(name, resolved)
    return extractor


def extractor_signature(extractor: Extractor) -> dict[str, Any]:
    """What features.h5 records as conf: the extractor's name and its settings, as JSON values.

    Where the weights were loaded from and what runs the network where are left out: the weights' sha256 is recorded
    beside, and a file may be continued on another machine.
    """
    conf = to_dict(extractor.conf)
    left_out = {"device", "compile", "threads", "providers"} | ({"weights"} if extractor.weights_sha256 else set())
    return {"name": extractor.name, **{key: value for key, value in conf.items() if key not in left_out}}
