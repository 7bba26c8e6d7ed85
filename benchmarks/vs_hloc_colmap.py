"""COLMAP's own features, SIFT and ALIKED with LightGlue, through pycolmap: seconds an image and pairs a second."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap, quiet
from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.formats.pairs import write_pairs

MATCHED_IMAGES = 10


def extract_and_match(
    kind: str, images: Path, names: Sequence[str], output: Path, max_keypoints: int, models: Mapping[str, str]
) -> dict[str, Any]:
    """Extract with all cores, then match every pair of the first `MATCHED_IMAGES`, without verification.

    Args:
        kind: "sift" or "aliked".
        images: folder that the names are relative to.
        names: images.
        output: gets the database.
        max_keypoints: an image.
        models: ONNX files "aliked" (n16rot) and "lightglue", for ALIKED.

    Returns:
        seconds of the extraction, match_s of the matching, its pairs, and the mean number of keypoints.

    Raises:
        InputError: a model file is missing.
        MissingDependencyError: this pycolmap was built without ONNX.
    """
    extraction, matching = colmap_options(kind, max_keypoints, models)
    database_path = output / "database.db"
    with quiet():
        start = time.perf_counter()
        pycolmap.extract_features(database_path, images, list(names), extraction_options=extraction)
        seconds = time.perf_counter() - start
        pairs = list(itertools.combinations(names[:MATCHED_IMAGES], 2))
        write_pairs(output / "pairs.txt", pairs)
        pairing = pycolmap.ImportedPairingOptions(match_list_path=str(output / "pairs.txt"))
        start = time.perf_counter()
        pycolmap.match_image_pairs(database_path, matching_options=matching, pairing_options=pairing)
        match_s = time.perf_counter() - start
    with pycolmap.Database.open(database_path) as database:
        keypoints = database.num_keypoints() / max(database.num_images(), 1)
    return {"seconds": seconds, "match_s": match_s, "match_pairs": len(pairs), "keypoints": round(keypoints)}


def colmap_options(
    kind: str, max_keypoints: int, models: Mapping[str, str]
) -> tuple[pycolmap.FeatureExtractionOptions, pycolmap.FeatureMatchingOptions]:
    """pycolmap's options for one kind of features; arguments and errors are those of `extract_and_match`."""
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    matching.skip_geometric_verification = True
    extraction.use_gpu = matching.use_gpu = False
    if kind == "sift":
        extraction.sift.max_num_features = max_keypoints
        return extraction, matching
    for name in ("aliked", "lightglue"):
        if not Path(models.get(name, "")).is_file():
            raise InputError(f"there is no {name} model file '{models.get(name, '')}'; give COLMAP's ONNX file")
    if not hasattr(extraction, "aliked"):
        raise MissingDependencyError(
            f"this pycolmap {pycolmap.__version__} was built without ONNX, which its ALIKED needs; build COLMAP with "
            "ONNX_ENABLED, or leave --aliked out"
        )
    learned: Any = pycolmap.FeatureExtractionOptions(pycolmap.FeatureExtractorType.ALIKED_N16ROT)
    learned.aliked.max_num_features = max_keypoints
    learned.aliked.n16rot_model_path = models["aliked"]
    light: Any = pycolmap.FeatureMatchingOptions(pycolmap.FeatureMatcherType.ALIKED_LIGHTGLUE)
    light.aliked.lightglue.model_path = models["lightglue"]
    light.skip_geometric_verification = True
    learned.use_gpu = light.use_gpu = False
    return learned, light
