"""Which pairs of photographs are matched: all of a small set, likely ones of a large set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.photos_scan import natural_key
from samfeat_hloc import global_descriptors, pairs_from_retrieval
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.pairs import Pair, read_pairs, unique_pairs, write_pairs

EXHAUSTIVE_IMAGES = 100
"""Up to 4,950 pairs: about a quarter of an hour of matching on one core. Beyond, pairs grow with the square."""

NUM_RETRIEVED = 30
"""Photographs of a large set that each is matched with by global descriptor."""

NUM_NEIGHBOURS = 10
"""Photographs of a large set that follow by file name in the same folder and are matched too: sequences, where shots
of a plain wall overlap but have nothing for retrieval to find."""


def write_photo_pairs(
    features: Path,
    names: Sequence[str],
    output: Path,
    exhaustive_images: int = EXHAUSTIVE_IMAGES,
    num_retrieved: int = NUM_RETRIEVED,
    num_neighbours: int = NUM_NEIGHBOURS,
    overwrite: bool = False,
) -> tuple[str, int]:
    """Write the pair list, unless it was written for the same photographs and settings before.

    Retrieval's global descriptors and codebook go beside `output`.

    Args:
        features: features.h5 of the photographs.
        names: photographs with features.
        output: pair list.
        exhaustive_images: up to so many photographs, every pair.
        num_retrieved: of a larger set, most similar photographs that each is paired with.
        num_neighbours: of a larger set, photographs that follow in the order of file names, and are paired too.
        overwrite: replace global descriptors of other features.

    Returns:
        what was done, in words, and the number of pairs.
    """
    if len(names) <= exhaustive_images:
        words = f"every pair of {len(names)} photographs (limit {exhaustive_images})"
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        write_pairs(output, pairs)
        return words, len(pairs)
    words = (
        f"{num_retrieved} most similar photographs (VLAD) and the next {num_neighbours} by file name for each of "
        f"{len(names)} (every pair up to {exhaustive_images})"
    )
    with FeatureReader(features) as reader:
        made_from: dict[str, Any] = {
            "names": list(names),
            "retrieved": num_retrieved,
            "neighbours": num_neighbours,
            "features": json.loads(json.dumps(reader.signature)),
            "keypoints": sum(reader.num_keypoints(name) for name in names),
        }
    record = output.with_suffix(".json")
    if record.is_file() and output.is_file():
        found = json.loads(record.read_text())
        if found == {**made_from, "sha256": file_sha256(output)}:
            return words, len(read_pairs(output))
    descriptors, retrieved = output.with_name("global.h5"), output.with_name("retrieved.txt")
    global_descriptors.main(features, descriptors, image_list=list(names), overwrite=overwrite)
    pairs_from_retrieval.main(descriptors, retrieved, num_retrieved, query_list=list(names), db_list=list(names))
    pairs = unique_pairs([*read_pairs(retrieved), *sequence_pairs(names, num_neighbours)])
    write_pairs(output, pairs)
    with replace_file(record) as temporary:
        temporary.write_text(json.dumps({**made_from, "sha256": file_sha256(output)}, indent=1) + "\n")
    return words, len(pairs)


def sequence_pairs(names: Sequence[str], neighbours: int) -> list[Pair]:
    """Each photograph with the next `neighbours` of its folder, in the order of `natural_key`."""
    ordered = sorted(names, key=natural_key)
    pairs = []
    for i, name in enumerate(ordered):
        folder = name.rpartition("/")[0]
        pairs += [(name, other) for other in ordered[i + 1 : i + 1 + neighbours] if other.rpartition("/")[0] == folder]
    return pairs
