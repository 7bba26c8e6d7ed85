"""The embedded town: rendered where it is not there yet, then read as any RGB-D folder."""

from __future__ import annotations

from pathlib import Path

from datasets.town.frames import PLACES, check_seed, read_manifest, write_frames
from samfeat_hloc.errors import InputError
from training.records import SourceConfig
from training.sources.rgbd import RgbdSource


class TownSource(RgbdSource):
    """Frames of a town by day and by night; pairs mix both. Depth and masks are exact.

    A town that is not there yet is rendered at no more places than the configuration's limit of pairs.

    Day and night of one place overlap entirely: they are a pair only when the configuration's overlap goes up to 1.

    Raises:
        ConfigError: the seed of a town that is evaluated.
        InputError: the folder holds something else, or the town of another seed.
    """

    may_be_unregistered = False

    def __init__(self, config: SourceConfig) -> None:
        check_seed(config.seed)
        folder = Path(config.path)
        found = read_manifest(folder)
        if found is None and folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} holds no town and is not empty; give another folder, or use kind=rgbd")
        if found is not None and found["seed"] != config.seed:
            raise InputError(f"{folder} holds town {found['seed']} and seed is {config.seed}; give another folder")
        if found is not None:
            write_frames(folder, config.seed, places=found["places"], detail=found["detail"])
        else:
            write_frames(folder, config.seed, places=min(PLACES, config.limit or PLACES))
        super().__init__(config)
