"""Features of a folder's images for a measurement: extracted once for each conf and weights, or anyone's h5 file.

A features file is kept by what determines its content (settings, weights, image folder) and not by the method's name:
other weights under an old name are another file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samfeat_hloc import extract_features
from samfeat_hloc.errors import InputError
from samfeat_hloc.extractors import extractor_signature, get_extractor
from samfeat_hloc.formats.features import FeatureReader

H5_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True)
class FeatureFile:
    """A features file and what it was made with.

    Attributes:
        label: short name for tables.
        path: the h5 file, which has every image asked for.
        signature: conf and weights' sha256; for another program's file, the file's name.
    """

    label: str
    path: Path
    signature: dict[str, Any]


def labels_of(specifications: Sequence[str]) -> list[str]:
    """Names of the feature sets for tables: CONF, CONF:WEIGHTS' stem, or an h5 file's stem.

    Raises:
        InputError: none, or two of one name.
    """
    labels = []
    for specification in specifications:
        conf, _, weights = specification.partition(":")
        if specification.endswith(H5_SUFFIXES):
            labels.append(Path(specification).stem)
        else:
            labels.append(f"{conf}:{Path(weights).stem}" if weights else conf)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice or not labels:
        what = f"'{twice}' is named twice" if twice else "no features are named"
        raise InputError(f"{what}; give each of several features once, files under different names")
    return labels


def open_features(
    specification: str,
    label: str,
    image_dir: Path,
    names: Sequence[str],
    cache: Path,
    max_keypoints: int,
    device: str | None = None,
) -> FeatureFile:
    """The features file of `names`; extracted into `cache` unless it is there, resumable.

    Args:
        specification: an extractor's conf by name, CONF:WEIGHTS for other weights, or a features h5 file.
        label: of `labels_of`.
        image_dir: root of the names.
        names: images needed.
        cache: folder of the extracted features.
        max_keypoints: replaces the conf's.
        device: of an extractor with a network.

    Raises:
        InputError: an h5 file that lacks an image, or an image that cannot be read.
        ConfigError: an unknown conf.
    """
    if specification.endswith(H5_SUFFIXES):
        path = Path(specification)
        with FeatureReader(path) as reader:
            reader.check(names, str(image_dir))
            return FeatureFile(label, path, reader.signature)
    name, _, weights = specification.partition(":")
    conf: dict[str, Any] = {"name": name, "max_keypoints": max_keypoints}
    if weights:
        conf["weights"] = weights
    if device and name.startswith("samfeat"):
        conf["device"] = device
    extractor = get_extractor(conf)
    signature = {"conf": extractor_signature(extractor), "weights_sha256": extractor.weights_sha256}
    key = json.dumps([signature, str(image_dir.resolve())], sort_keys=True)
    path = cache / f"feats-{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.h5"
    # float32 descriptors: the figures equal those of features that never were in a file
    extract_features.main(
        conf, image_dir, feature_path=path, image_list=list(names), as_half=False, extractor=extractor
    )
    with FeatureReader(path) as reader:
        missing = [image for image in names if image not in reader]
        if missing:
            raise InputError(
                f"{image_dir / missing[0]} could not be read ({path.with_suffix('.skipped.json')} says why); replace "
                "the file: a measurement leaves nothing out"
            )
        return FeatureFile(label, path, signature)
