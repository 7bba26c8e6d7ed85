"""What `benchmarks.vs_hloc` measures on: the setting, its files, and their preparation from a dataset."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The sizes of one comparison; equal settings share their prepared inputs and their measurements.

    Attributes:
        dataset: folder in Aachen's layout; None: the embedded town.
        num_database: images of the map, spread evenly over the dataset's; matched exhaustively.
        num_queries: day queries.
        num_retrieved: database images a query is matched with.
        num_extract: images whose features are extracted while the clock runs, and matched by COLMAP: at least two.
        max_keypoints: an image.
    """

    dataset: str | None = None
    num_database: int = 60
    num_queries: int = 25
    num_retrieved: int = 20
    num_extract: int = 20
    max_keypoints: int = 4096

    def __post_init__(self) -> None:
        lowest = {"num_database": 3, "num_queries": 1, "num_retrieved": 1, "num_extract": 2, "max_keypoints": 16}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected at least {least}")

    @property
    def digest(self) -> str:
        """Short name of the setting, for its folder."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


class Files:
    """Where the inputs and results of one setting lie.

    Args:
        root: the setting's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        inputs = root / "inputs"
        self.inputs = inputs
        self.plan = inputs / "plan.json"
        self.reference = inputs / "reference"
        self.queries = inputs / "queries_with_intrinsics.txt"
        self.truth = inputs / "truth.txt"
        self.pairs_db = inputs / "pairs-db.txt"
        self.pairs_query = inputs / "pairs-query.txt"
        self.pairs = inputs / "pairs.txt"
        self.features = inputs / "features.h5"
        self.global_descriptors = inputs / "global.h5"
        self.matches = inputs / "matches.h5"
        self.model = inputs / "sfm"
        self.results = root / "results"
        self.comparison = root / "comparison.json"

    def result(self, side: str, job: str, run: int) -> Path:
        """The measurement of one run."""
        return self.results / f"{side}-{job}-{run}.json"

    def output(self, side: str, job: str, run: int) -> Path:
        """Folder of what one run writes."""
        return self.root / "outputs" / f"{side}-{job}-{run}"

    def read_plan(self) -> dict[str, Any]:
        """Image folder, names, and numbers of pairs; see `prepare`."""
        plan: dict[str, Any] = json.loads(self.plan.read_text())
        return plan


def prepare(setting: Setting, files: Files) -> None:
    """Make the inputs of every stage with our runtime: features, pairs, matches and model. Goes on where it was killed.

    Raises:
        InputError: the dataset is missing, damaged or too small.
    """
    from datasets.aachen import database_images, reference_model
    from samfeat_hloc import (
        extract_features,
        global_descriptors,
        match_features,
        pairs_from_exhaustive,
        pairs_from_retrieval,
        triangulation,
    )
    from samfeat_hloc._pycolmap import read_model
    from samfeat_hloc.errors import InputError
    from samfeat_hloc.extractors import get_extractor
    from samfeat_hloc.formats.pairs import read_pairs, write_pairs
    from samfeat_hloc.formats.poses import write_poses
    from samfeat_hloc.formats.queries import write_queries
    from samfeat_hloc.layout import AachenLayout
    from samfeat_hloc.scene import posed_images

    files.inputs.mkdir(parents=True, exist_ok=True)
    layout = AachenLayout.find(_dataset(setting, files.inputs))
    reference = read_model(reference_model(layout, files.inputs / "nvm_model"))
    database = spread(database_images(reference, layout), setting.num_database)
    queries = layout.queries("day")[: setting.num_queries]
    if len(database) < setting.num_database or len(queries) < setting.num_queries:
        raise InputError(
            f"{layout.root} has {len(database)} of {setting.num_database} database images and {len(queries)} of "
            f"{setting.num_queries} day queries; give --num-database and --num-queries that it has"
        )
    names = [query.name for query in queries]
    files.reference.mkdir(exist_ok=True)
    posed_images(reference, database).write_binary(files.reference)
    write_queries(files.queries, queries)
    truth = layout.true_poses()
    write_poses(files.truth, {name.rsplit("/", 1)[-1]: truth[name] for name in names if name in truth})

    extractor = get_extractor("samfeat", max_keypoints=setting.max_keypoints)
    extract_features.main(
        "samfeat", layout.images, feature_path=files.features, image_list=[*database, *names], extractor=extractor
    )
    pairs_from_exhaustive.main(files.pairs_db, image_list=database)
    global_descriptors.main(
        files.features, files.global_descriptors, image_list=[*database, *names], codebook_list=database
    )
    num_retrieved = min(setting.num_retrieved, len(database))
    pairs_from_retrieval.main(
        files.global_descriptors, files.pairs_query, num_retrieved, query_list=names, db_list=database
    )
    pairs_db, pairs_query = read_pairs(files.pairs_db), read_pairs(files.pairs_query)
    write_pairs(files.pairs, [*pairs_db, *pairs_query])
    match_features.main("nn-mutual", files.pairs, files.features, matches=files.matches)
    triangulation.main(files.model, files.reference, layout.images, files.pairs_db, files.features, files.matches)
    plan = {
        "images": str(layout.images.resolve()),
        "database": database,
        "queries": names,
        "extract": spread([*database, *names], setting.num_extract),
        "pairs_db": len(pairs_db),
        "pairs_query": len(pairs_query),
        "max_keypoints": setting.max_keypoints,
    }
    with replace_file(files.plan) as path:
        path.write_text(json.dumps(plan, indent=1))


def spread(names: list[str], count: int) -> list[str]:
    """At most ``count`` of the names, in order and evenly spread."""
    if count >= len(names):
        return list(names)
    return [names[index * len(names) // count] for index in range(count)]


def _dataset(setting: Setting, inputs: Path) -> Path:
    if setting.dataset is not None:
        return Path(setting.dataset)
    from datasets.town import write_town

    return write_town(inputs / "town", database=setting.num_database, day=setting.num_queries, night=0)
