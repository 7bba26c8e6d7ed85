"""The stages for one collection and one kind of features: photographs to the largest model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from datasets.eth_benchmark import BenchmarkDataset
from pipelines.clock import Clock
from samfeat_hloc import (
    extract_features,
    global_descriptors,
    match_features,
    pairs_from_exhaustive,
    pairs_from_retrieval,
    reconstruction,
)
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.features import FeatureReader

logger = logging.getLogger(__name__)
MODEL = "sfm"


def reconstruct_collection(
    dataset: BenchmarkDataset,
    extractor: Extractor,
    matcher: dict[str, Any],
    num_retrieved: int | None,
    folder: Path,
    clock: Clock,
) -> tuple[pycolmap.Reconstruction | None, str]:
    """Run every stage; each goes on with what an earlier run left.

    Args:
        dataset: images and cameras.
        extractor: of the features.
        matcher: conf with the ratio test.
        num_retrieved: partners an image; None: all pairs.
        folder: gets the files; the model is in its folder `sfm`.
        clock: adds up the seconds of the stages.

    Returns:
        the largest model, or None and why there is none.

    Raises:
        InputError: no image can be read, or the folder holds files of another run.
    """
    features, pairs, matches = folder / "features.h5", folder / "pairs.txt", folder / "matches.h5"
    with clock("extract"):
        extract_features.main(
            extractor.name,
            dataset.image_dir,
            feature_path=features,
            image_list=list(dataset.cameras),
            extractor=extractor,
        )
    with FeatureReader(features) as reader:
        names = [name for name in dataset.cameras if name in reader]
    if len(names) < 2:
        raise InputError(f"{len(names)} of the images in {dataset.image_dir} can be read; two are needed")
    with clock("pairs"):
        if num_retrieved is None:
            pairs_from_exhaustive.main(pairs, image_list=names, force=True)  # the benchmark's protocol, asked for
        else:
            described = folder / "global.h5"
            global_descriptors.main(features, described, codebook=folder / "codebook.npz", image_list=names)
            pairs_from_retrieval.main(described, pairs, num_retrieved)
    with clock("match"):
        match_features.main(matcher, pairs, features, matches=matches)
    with clock("map"):
        try:
            return reconstruction.main(
                folder / MODEL, dataset.image_dir, pairs, features, matches, cameras=dataset.cameras
            ), ""
        except reconstruction.NothingReconstructed as error:
            logger.warning("warning: %s: %s", dataset.name, error)
            return None, str(error)
