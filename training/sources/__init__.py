"""Where training's photographs and correspondences come from: one module a kind, all of them `records.Source`."""

from __future__ import annotations

import importlib

from training.records import Source, SourceConfig

MODULES = {
    "photos": ("training.sources.photos", "PhotoSource"),
    "rgbd": ("training.sources.rgbd", "RgbdSource"),
    "colmap": ("training.sources.colmap", "ColmapSource"),
    "megadepth": ("training.sources.megadepth", "MegaDepthSource"),
    "mtldesc": ("training.sources.mtldesc", "MtldescSource"),
    "town": ("training.sources.town", "TownSource"),
    "pack": ("training.sources.packed", "PackSource"),
}


def open_source(config: SourceConfig) -> Source:
    """The source of a configuration; what it needs is imported now, its files are read when its views are asked for.

    Raises:
        InputError: its folder or file is not there, or holds nothing of that kind.
        ConfigError: a setting that this kind cannot have.
        MissingDependencyError: this kind needs a package that is not installed.
    """
    module, name = MODULES[config.kind]
    source: Source = getattr(importlib.import_module(module), name)(config)
    return source


__all__ = ["open_source"]
