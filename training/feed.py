"""The data of a run: its sources in one pack, a chapter of it in memory, batches drawn from there."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.precision import choose_runtime
from training.adaptation import Finder
from training.bank import Bank
from training.batch import Batch
from training.config import TrainingConfig
from training.corners import find_corners
from training.detector import Detector
from training.pack import pack
from training.packing.chapters import Chapter
from training.packing.reader import Pack
from training.packing.writer import PackOptions
from training.pairs import PairSampler
from training.records import MAX_POINTS, SourceConfig
from training.team import Team

logger = logging.getLogger(__name__)


def open_pack(config: TrainingConfig, team: Team) -> Pack:
    """The pack a run reads: the one it names, or one that is made of its sources, once, in the output folder.

    Raises:
        ConfigError: no source.
        InputError: a source that cannot be read.
    """
    if not config.sources:
        raise ConfigError("no source of photographs; give --source kind=photos,path=DIR, or name sources in the file")
    if len(config.sources) == 1 and config.sources[0].kind == "pack":
        return Pack(config.sources[0].path)
    if team.leads:
        pack_once(config.sources, Path(config.output), cache_options(config))
    team.wait()
    return Pack(pack_once(config.sources, Path(config.output), cache_options(config)))


def cache_options(config: TrainingConfig) -> PackOptions:
    """What a run keeps of its teachers: a cell for each of the student's; all channels where they are copied."""
    channels = 256 if config.losses.relations == "features" else 64
    return PackOptions(cells=max(32, config.size // 8), channels=channels, pair_points=MAX_POINTS)


def pack_once(sources: Sequence[SourceConfig], folder: Path, options: PackOptions) -> Path:
    """The pack of the sources in a folder, made when it is not there; its name tells the sources and options apart."""
    described = json.dumps([[to_dict(source) for source in sources], to_dict(options)], sort_keys=True)
    path = folder / f"data-{hashlib.sha256(described.encode()).hexdigest()[:12]}.pack.h5"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pack(sources, path, limit_mib=None, options=options)
    return path


def part_of(chapter: Chapter, pack: Pack, config: TrainingConfig) -> Chapter:
    """The configured share of each source's views in a chapter, and the pairs whose both views are in it."""
    if config.share == 1:
        return chapter
    rng, kept = np.random.default_rng([config.seed, 5003]), []
    for source in range(len(pack.sources)):
        views = np.sort(chapter.views[pack.view_source[chapter.views] == source])
        if len(views):
            kept.append(rng.permutation(views)[: max(1, round(config.share * len(views)))])
    views = np.concatenate(kept)
    return Chapter(views, chapter.pairs[np.isin(pack.pair_views[chapter.pairs], views).all(axis=1)])


class Feed:
    """Batches of a run, by step; a step's batch depends on the seed and the steps before it alone.

    Attributes:
        generator, host: random states on the device and on the CPU; save both to go on.

    Raises:
        InputError: a labeller whose descriptors, which are to be imitated, have another length than the network's.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, team: Team) -> None:
        self.config, self.device = config, device
        self.generator = torch.Generator(device=device).manual_seed(config.seed + 7919 * team.rank)
        self.host = torch.Generator().manual_seed(config.seed + 7919 * team.rank)
        self._find: Finder = find_corners
        if config.labeller is not None:
            looks = self.host if config.losses.detector == "distilled" else None
            labeller = Detector(
                config.labeller, choose_runtime(str(device)), density=config.label_density, radius=config.label_radius,
                looks=looks,
            )  # fmt: skip
            mine, theirs = config.architecture.descriptor_dim, labeller.descriptor_dim
            if config.losses.imitation != "off" and mine != theirs:
                raise InputError(
                    f"descriptors of length {mine} cannot imitate {config.labeller}'s of length {theirs}; "
                    f"give architecture.descriptor_dim={theirs}, or another labeller"
                )
            self._find = labeller
        self._pack = open_pack(config, team)
        self._chapter = -1

    def draw(self, step: int) -> Batch:
        """The batch of a step; loads the chapter that step lies in."""
        chapter = step // self.config.chapter_steps
        chapters = self._pack.num_chapters(self.config.resident_views, self.config.seed)
        if self._chapter < 0 or chapter % chapters != self._chapter % chapters:
            vars(self).pop("_sampler", None)  # gives its memory back before the next is loaded
            which = self._pack.chapter(chapter, self.config.resident_views, self.config.seed)
            bank = Bank.of_pack(self._pack, part_of(which, self._pack, self.config), self.device)
            counts = (len(bank), len(bank.pair_views), chapter % chapters + 1, chapters)
            logger.info("%d views and %d pairs in memory, chapter %d of %d", *counts)
            weights = self._pack.weights.tolist()
            self._sampler = PairSampler(bank, weights, self.config, self.generator, self.host, self._find)
        self._chapter = chapter
        return self._sampler.draw()
