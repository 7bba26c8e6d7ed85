"""Pairs of a COLMAP model's images that see the most 3D points together.

python -m samfeat_hloc.pairs_from_covisibility --model sfm --output pairs.txt --num_matched 20
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.pairs import Pair, write_pairs

logger = logging.getLogger(__name__)


def main(model: Path | str, output: Path | str, num_matched: int) -> Path:
    """Write each image with the images that share the most 3D points with it, most first.

    Args:
        model: folder of a COLMAP model with points.
        output: pair list.
        num_matched: partners an image.

    Returns:
        the pair list.

    Raises:
        InputError: no model, or one without points that two images share (then pairs_from_poses serves).
    """
    from samfeat_hloc._pycolmap import read_model

    if num_matched < 1:
        raise InputError(f"num_matched is {num_matched}; expected at least 1")
    pairs = covisible_pairs(read_model(model), num_matched)
    if not pairs:
        raise InputError(f"no two images of {model} share a 3D point; use pairs_from_poses for a model without points")
    write_pairs(output, pairs)
    return Path(output)


def covisible_pairs(model: Any, num_matched: int) -> list[Pair]:
    """The pairs of a pycolmap.Reconstruction, images in the order of their names; ties by name."""
    shared: dict[int, Counter[int]] = {image_id: Counter() for image_id in model.images}
    for point in model.points3D.values():
        observers = sorted({element.image_id for element in point.track.elements})
        for observer in observers:
            shared[observer].update(observers)
    names = {image_id: image.name for image_id, image in model.images.items()}
    pairs: list[Pair] = []
    alone = 0
    for image_id in sorted(names, key=lambda key: names[key]):
        counts = shared[image_id]
        counts.pop(image_id, None)
        ranked = sorted(counts, key=lambda other: (-counts[other], names[other]))
        pairs += [(names[image_id], names[other]) for other in ranked[:num_matched]]
        alone += not ranked
    if alone and pairs:
        logger.warning("warning: %d of %d images share no point with another", alone, len(names))
    return pairs


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model")
    parser.add_argument("--output", type=Path, required=True, help="pair list to write")
    parser.add_argument("--num_matched", type=int, required=True, help="partners an image")
    print(main(**vars(parser.parse_args())))


if __name__ == "__main__":
    run_cli(cli)
