"""The data of a run: its sources in one pack, a chapter of it in memory, batches drawn from there."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import torch

from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import ConfigError
from training.bank import Bank
from training.batch import Batch
from training.config import TrainingConfig
from training.packs import Pack
from training.pairs import PairSampler
from training.team import Team

logger = logging.getLogger(__name__)


def open_pack(config: TrainingConfig, team: Team) -> Pack:
    """The pack a run reads: the one it names, or one that is made of its sources, once, in the output folder.

    Raises:
        ConfigError: no source.
        InputError: a source that cannot be read.
    """
    if not config.sources:
        raise ConfigError("no source of photographs; give --source kind=photos,path=DIR, or sources in the configuration")
    if len(config.sources) == 1 and config.sources[0].kind == "pack":
        return Pack(config.sources[0].path)
    described = json.dumps([to_dict(source) for source in config.sources], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:12]
    path = Path(config.output) / f"data-{digest}.pack.h5"
    if team.leads and not path.is_file():
        from training.pack import pack

        pack(config.sources, path, limit_mib=None)
    team.wait()
    return Pack(path)


class Feed:
    """Batches of a run, by step; a step's batch depends on the seed and the steps before it alone.

    Attributes:
        generator, host: random states on the device and on the CPU; save both to go on.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, team: Team) -> None:
        self.config, self.device = config, device
        self.generator = torch.Generator(device=device).manual_seed(config.seed + 7919 * team.rank)
        self.host = torch.Generator().manual_seed(config.seed + 7919 * team.rank)
        self._pack = open_pack(config, team)
        self._chapter = -1

    def draw(self, step: int) -> Batch:
        """The batch of a step; loads the chapter that step lies in."""
        chapter = step // self.config.chapter_steps
        chapters = self._pack.num_chapters(self.config.resident_views, self.config.seed)
        if self._chapter < 0 or chapter % chapters != self._chapter % chapters:
            self._sampler = None  # gives its memory back before the next is loaded
            which = self._pack.chapter(chapter, self.config.resident_views, self.config.seed)
            bank = Bank.of_pack(self._pack, which, self.device)
            pairs = len(bank.pair_views)
            logger.info("%d views and %d pairs in memory, chapter %d of %d", len(bank), pairs, chapter % chapters + 1, chapters)
            weights = self._pack.weights.tolist()
            self._sampler = PairSampler(bank, weights, self.config, self.generator, self.host)
        self._chapter = chapter
        assert self._sampler is not None
        return self._sampler.draw()

    _sampler: PairSampler | None = None
