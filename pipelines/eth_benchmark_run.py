"""One run of the local-feature benchmark: collections, the stages for each kind of features, tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from datasets.eth_benchmark import BenchmarkDataset, find_datasets
from pipelines.clock import Clock
from pipelines.common_options import check_least, extractor_of
from pipelines.dense import NO_CUDA, can_reconstruct_densely, dense_cloud
from pipelines.estimate import estimate
from pipelines.eth_benchmark_report import collection_markdown
from pipelines.eth_benchmark_stages import MODEL, reconstruct_collection
from pipelines.results import write_summary, write_table
from pipelines.sparse_statistics import sparse_statistics
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.ply import read_ply
from samfeat_hloc.match_features import DEFAULT_CACHE_MB
from samfeat_hloc.matchers import get_matcher

logger = logging.getLogger(__name__)
RATIO = 0.8
"""The paper's."""
DENSE_IMAGE_SIZE = 1200
"""Longer side of the images that multi-view stereo sees; the benchmark's, with photometric depth maps alone."""
MIN_NUM_PIXELS = 5


@dataclass(frozen=True, kw_only=True)
class Options:
    """The pipeline's options; see ``--help``."""

    dataset: Path
    outputs: Path = Path("outputs/eth_benchmark")
    features: tuple[str, ...] = ("samfeat",)
    weights: str | None = None
    pairs: str = "exhaustive"
    num_retrieved: int = 50
    ratio: float = RATIO
    max_keypoints: int = 4096
    resize_max: int = 1600
    dense: bool = True

    def __post_init__(self) -> None:
        check_least(self, (("num_retrieved", 1), ("max_keypoints", 1)))
        if self.pairs not in ("exhaustive", "retrieval"):
            raise ConfigError(f"--pairs is {self.pairs}; expected exhaustive or retrieval")


def run(options: Options) -> dict[str, Any]:
    """Run the benchmark on every collection; prints the tables and returns what ``summary.json`` holds.

    Raises:
        InputError: a collection is missing or damaged, or the outputs belong to another run.
    """
    matcher = {"name": "nn-ratio", "ratio": options.ratio}
    get_matcher(matcher)  # a bad ratio is told before hours of work
    datasets = [BenchmarkDataset.open(path) for path in find_datasets(options.dataset)]
    extractors = [
        extractor_of(name, options.weights, max_keypoints=options.max_keypoints, resize_max=options.resize_max)
        for name in options.features
    ]
    if options.dense and not can_reconstruct_densely():
        logger.warning("%s", NO_CUDA)
    summary: dict[str, Any] = {"dataset": str(options.dataset), "collections": {}}
    for dataset in datasets:
        row = _collection(dataset, extractors, matcher, options)
        summary["collections"][dataset.name] = row
        write_table(options.outputs, dataset.name, collection_markdown(dataset.name, row))
    write_summary(options.outputs, summary, "models and tables")
    return summary


def _collection(
    dataset: BenchmarkDataset, extractors: list[Extractor], matcher: dict[str, Any], options: Options
) -> dict[str, Any]:
    retrieved = options.num_retrieved if options.pairs == "retrieval" else None
    count = len(dataset.cameras)
    words = "all pairs" if retrieved is None else f"each image with the {retrieved} most alike by VLAD"
    row: dict[str, Any] = {
        "images": count,
        "pairs": options.pairs,
        "protocol": f"{words}, mutual nearest neighbours, ratio test {options.ratio:g} on L2 distances, at most "
        f"{options.max_keypoints} keypoints, photographs of at most {options.resize_max} px, intrinsics of the "
        "database refined",
        "features": {},
    }
    for extractor in extractors:
        _announce(dataset, extractor, matcher, options, retrieved)
        clock, folder = Clock(), options.outputs / dataset.name / extractor.name
        model, error = reconstruct_collection(dataset, extractor, matcher, retrieved, folder, clock)
        found: dict[str, Any] = {
            "sparse": sparse_statistics(model, count),
            "error": error,
            "dense_points": None,
            "dense_missing": "",
        }
        if options.dense and model is not None:
            with clock("dense"):
                cloud = dense_cloud(
                    folder / MODEL, dataset.image_dir, folder / "dense", DENSE_IMAGE_SIZE, False, MIN_NUM_PIXELS
                )
            found["dense_points"] = None if cloud is None else len(read_ply(cloud))
            found["dense_missing"] = NO_CUDA if cloud is None else ""
        found["seconds"] = clock.rounded()
        row["features"][extractor.name] = found
    return row


def _announce(
    dataset: BenchmarkDataset,
    extractor: Extractor,
    matcher: dict[str, Any],
    options: Options,
    retrieved: int | None,
) -> None:
    """Say what will be done and what it will take."""
    count = len(dataset.cameras)
    pairs = count * (count - 1) // 2 if retrieved is None else count * min(retrieved, count - 1)
    with Image.open(dataset.image_dir / next(iter(dataset.cameras))) as image:
        size = image.size
    scale = min(1.0, options.resize_max / max(size))
    size = max(16, round(size[0] * scale)), max(16, round(size[1] * scale))
    expected = estimate(extractor, get_matcher(matcher), size, count, 0, pairs, options.max_keypoints, DEFAULT_CACHE_MB)
    logger.info(
        "%s on %s: %d images, %d pairs\nestimate, mapping not counted: %s",
        extractor.name, dataset.name, count, pairs, expected,
    )  # fmt: skip
