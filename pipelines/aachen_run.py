"""One run of the Aachen pipeline: the world, the stages for each kind of features, the table and the summary."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.aachen_pictures import draw
from pipelines.aachen_stages import Files, Task, localize
from pipelines.aachen_world import World
from pipelines.clock import Clock
from pipelines.common_options import check_least, extractor_of
from pipelines.estimate import estimate, peak_memory_mb
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.evaluation import Summary, format_table, summarize
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.poses import validate_submission
from samfeat_hloc.layout import CONDITIONS, PAIR_LISTS
from samfeat_hloc.localization import Localization, QueryResult
from samfeat_hloc.match_features import DEFAULT_CACHE_MB
from samfeat_hloc.matchers import get_matcher

logger = logging.getLogger(__name__)
RUNTIMES = ("native", "hloc")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The pipeline's options; see ``--help``."""

    dataset: Path | None = None
    outputs: Path = Path("outputs/aachen")
    num_covis: int = 20
    num_loc: int = 30
    max_keypoints: int | None = None
    features: tuple[str, ...] = ("samfeat",)
    matcher: str = "nn-mutual"
    weights: str | None = None
    resume: bool = True
    protocol: str = "hloc"
    pairs: Path | None = None
    seed: int = 0
    num_pictures: int = 6
    runtime: str = "native"

    def __post_init__(self) -> None:
        check_least(self, (("num_covis", 1), ("num_loc", 1), ("max_keypoints", 1)))
        if self.runtime not in RUNTIMES:
            raise ConfigError(f"--runtime is '{self.runtime}'; expected one of {', '.join(RUNTIMES)}")

    @property
    def results(self) -> Path:
        """Where results go: those of hloc beside ours, never among them."""
        return self.outputs / "hloc" if self.runtime == "hloc" else self.outputs


def run(options: Options) -> dict[str, Any]:
    """Run the pipeline; prints the table and returns what ``summary.json`` holds.

    Raises:
        InputError: the dataset is missing or damaged, or the outputs belong to another run.
        MissingDependencyError: ``runtime`` is hloc, and there is none to import.
    """
    clock = Clock()
    stages, runtime = _stages(options)
    dataset = options.dataset
    if dataset is None:
        from datasets.town import write_town

        dataset = options.outputs / f"town-seed{options.seed}"
        with clock("town"):
            write_town(dataset, seed=options.seed)
    local_features = options.protocol == "local-features"
    world = World.open(dataset, options.outputs, ("night",) if local_features else CONDITIONS)
    pair_list = _pair_list(world, options) if local_features else None
    max_keypoints = options.max_keypoints or (3072 if options.dataset is None else 4096)

    features: dict[str, Any] = {}
    rows: dict[str, dict[str, Summary]] = {}
    for name in options.features:
        extractor = extractor_of(name, options.weights, max_keypoints=max_keypoints)
        files = Files(options.results / name)
        _announce(world, extractor, options, max_keypoints, pair_list)
        task = Task(
            world=world,
            extractor=extractor,
            matcher=options.matcher,
            files=files,
            clock=clock,
            num_covis=options.num_covis,
            num_loc=options.num_loc,
            pair_list=pair_list,
            resume=options.resume,
        )
        found = stages(task).results
        validate_submission(files.poses, [query.name for query in world.queries])
        with clock("pictures"):
            draw(world, files, found, options.num_pictures)
        rows[name] = _rows(world, found)
        features[name] = {"poses": str(files.poses), **_conditions(world, found, rows[name])}

    summary = {
        "dataset": str(dataset),
        "features": features,
        "seconds": clock.rounded(),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }
    if options.runtime != "native":
        summary["runtime"] = runtime
    with replace_file(options.results / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=2) + "\n")
    _print(options, world, rows, features, summary)
    return summary


def _stages(options: Options) -> tuple[Callable[[Task], Localization], str]:
    """The stages of the chosen runtime, and its name for the summary; hloc is looked for before any work."""
    if options.runtime == "native":
        return localize, "native"
    from pipelines import aachen_hloc

    return aachen_hloc.localize, f"hloc {aachen_hloc.check_hloc()}"


def _pair_list(world: World, options: Options) -> Path:
    path = options.pairs or world.layout.pair_list
    if path is None or not path.is_file():
        raise InputError(
            f"the local-features protocol needs a pair list; expected {' or '.join(PAIR_LISTS)} in {world.layout.root} "
            "(it comes with the visuallocalizationbenchmark), or --pairs FILE"
        )
    return path


def _announce(world: World, extractor: Extractor, options: Options, max_keypoints: int, pair_list: Path | None) -> None:
    """Say what will be done and what it will take."""
    camera = next(iter(world.model.cameras.values()))
    pairs = len(world.database) * options.num_covis * 3 // 4 + len(world.queries) * options.num_loc
    if pair_list is not None:
        pairs = sum(1 for _ in pair_list.open())
    expected = estimate(
        extractor,
        get_matcher(options.matcher),
        (camera.width, camera.height),
        len(world.image_names),
        len(world.queries),
        pairs,
        max_keypoints,
        DEFAULT_CACHE_MB,
    )
    counts = ", ".join(f"{len(names)} {condition}" for condition, names in world.conditions.items())
    logger.info(
        "%s on %s: %d database images, queries: %s, about %d pairs\nestimate: %s",
        extractor.name, world.layout.root, len(world.database), counts, pairs, expected,
    )  # fmt: skip


def _rows(world: World, found: dict[str, QueryResult]) -> dict[str, Summary]:
    if not world.truth:
        return {}
    poses = {name: result.pose for name, result in found.items() if result.pose is not None}
    return {condition: summarize(poses, world.truth, names) for condition, names in world.conditions.items()}


def _conditions(world: World, found: dict[str, QueryResult], rows: dict[str, Summary]) -> dict[str, Any]:
    """What the summary says of each condition; without ground truth, counts alone."""
    if rows:
        return {condition: row.to_json() for condition, row in rows.items()}
    return {
        condition: {"queries": len(names), "localized": sum(found[name].pose is not None for name in names)}
        for condition, names in world.conditions.items()
    }


def _print(
    options: Options,
    world: World,
    rows: dict[str, dict[str, Summary]],
    features: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    print()
    if world.truth:
        print(format_table(rows))
    else:
        for name, entry in features.items():
            counts = [f"{c} {entry[c]['localized']} of {entry[c]['queries']} localized" for c in world.conditions]
            print(f"{name}: {', '.join(counts)} (no ground truth here; submit the poses to visuallocalization.net)")
    total = sum(summary["seconds"].values())
    print(f"\n{total:.0f} s, {summary['peak_memory_mb']:.0f} MB; poses, reports and pictures in {options.results}")
