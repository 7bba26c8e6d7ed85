"""The stages for one kind of features: photographs to poses. Reads like the drawing in docs/architecture.md."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.aachen_world import World
from pipelines.clock import Clock
from samfeat_hloc import (
    extract_features,
    global_descriptors,
    localize_sfm,
    match_features,
    pairs_from_covisibility,
    pairs_from_poses,
    pairs_from_retrieval,
    triangulation,
)
from samfeat_hloc.errors import InputError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.pairs import read_pairs, write_pairs
from samfeat_hloc.localization import Localization
from samfeat_hloc.map import write_map

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Where the stages of one kind of features leave their files; what ``--resume`` finds again."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        files = {
            "features": "features.h5",
            "global_descriptors": "global.h5",
            "codebook": "codebook.npz",
            "pairs_db": "pairs-db.txt",
            "pairs_query": "pairs-query.txt",
            "matches_db": "matches-db.h5",
            "matches_query": "matches-query.h5",
            "model": "sfm",
            "poses": "poses.txt",
            "map": "map",
            "pictures": "pictures",
        }
        if name not in files:
            raise AttributeError(name)
        return self.folder / files[name]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the stages are given, by whichever runtime they run.

    Attributes:
        world: the opened dataset.
        extractor: of the features.
        matcher: conf name.
        files: where results go.
        clock: adds up the seconds of the stages.
        num_covis: database pairs an image.
        num_loc: images retrieved a query.
        pair_list: given pairs instead of covisibility and retrieval.
        resume: keep what an earlier run finished.
    """

    world: World
    extractor: Extractor
    matcher: str
    files: Files
    clock: Clock
    num_covis: int
    num_loc: int
    pair_list: Path | None
    resume: bool = True


def localize(task: Task) -> Localization:
    """Run every stage; each continues what an earlier run left.

    Raises:
        InputError: an input is missing or damaged.
    """
    world, extractor, matcher, files, clock = task.world, task.extractor, task.matcher, task.files, task.clock
    overwrite = not task.resume
    with clock("extract"):
        extract_features.main(
            extractor.name,
            world.layout.images,
            feature_path=files.features,
            image_list=world.image_names,
            extractor=extractor,
            overwrite=overwrite,
        )
    with FeatureReader(files.features) as reader:
        readable = {name for name in world.image_names if name in reader}
    database = [name for name in world.database if name in readable]
    queries = [query.name for query in world.queries if query.name in readable]
    if not database:
        raise InputError(f"no photograph of the map in {world.layout.images} can be read; see {files.features}")

    with clock("pairs"):
        _write_database_pairs(task, readable)
    with clock("match"):
        match_features.main(matcher, files.pairs_db, files.features, matches=files.matches_db, overwrite=overwrite)
    with clock("triangulate"):
        triangulation.main(
            files.model,
            world.reference,
            world.layout.images,
            files.pairs_db,
            files.features,
            files.matches_db,
            overwrite=overwrite,
        )

    with clock("retrieve"):
        global_descriptors.main(
            files.features,
            files.global_descriptors,
            codebook=files.codebook,
            image_list=[*database, *queries],
            codebook_list=database,
            overwrite=overwrite,
        )
        if task.pair_list is None:
            pairs_from_retrieval.main(
                files.global_descriptors, files.pairs_query, task.num_loc, query_list=queries, db_list=database
            )
        else:
            write_pairs(files.pairs_query, given_query_pairs(task.pair_list, set(queries), set(database)))
    with clock("match"):
        match_features.main(
            matcher, files.pairs_query, files.features, matches=files.matches_query, overwrite=overwrite
        )
    with clock("localize"):
        found = localize_sfm.main(
            files.model,
            world.queries,
            files.pairs_query,
            files.features,
            files.matches_query,
            files.poses,
            overwrite=overwrite,
        )
    with clock("map"):
        write_map(
            files.map,
            files.model,
            files.features,
            files.global_descriptors,
            files.codebook,
            matcher,
            overwrite=overwrite,
        )
    return found


def _write_database_pairs(task: Task, readable: set[str]) -> None:
    world, output = task.world, task.files.pairs_db
    if task.pair_list is not None:
        pairs = [pair for pair in read_pairs(task.pair_list) if set(pair) <= set(world.database)]
        source = str(task.pair_list)
    elif world.has_points:
        pairs = read_pairs(pairs_from_covisibility.main(world.reference, output, task.num_covis))
        source = "covisibility"
    else:
        pairs = read_pairs(pairs_from_poses.main(world.reference, output, task.num_covis))
        source = "camera poses"
    kept = [pair for pair in pairs if set(pair) <= readable]
    if not kept:
        raise InputError(
            f"no pair of database images from {source}; expected pairs of the names in the reference model"
        )
    logger.info("%d database pairs from %s", len(kept), source)
    write_pairs(output, kept)


def given_query_pairs(pair_list: Path, queries: set[str], database: set[str]) -> Iterable[tuple[str, str]]:
    """Pairs (query, database image) of a list, in either order there."""
    for first, second in read_pairs(pair_list):
        if first in queries and second in database:
            yield first, second
        elif second in queries and first in database:
            yield second, first
