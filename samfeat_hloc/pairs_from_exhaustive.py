"""All pairs of a list of images, or of one list with another.

    python -m samfeat_hloc.pairs_from_exhaustive --features features.h5 --output pairs.txt

The number of pairs grows with the square of the images; above a stated limit it takes `--force`.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.image_lists import ImageList, read_image_list
from samfeat_hloc.formats.pairs import write_pairs

MAX_PAIRS = 250_000
"""About 700 images with each other: hours of matching without a GPU."""


def main(
    output: Path | str,
    image_list: ImageList | None = None,
    features: Path | str | None = None,
    ref_list: ImageList | None = None,
    ref_features: Path | str | None = None,
    force: bool = False,
) -> Path:
    """Write every pair once.

    Args:
        output: pair list.
        image_list: names, or a text file of names.
        features: take the names from a features file instead.
        ref_list, ref_features: the same for the second images; None: the first list with itself.
        force: allow more than `MAX_PAIRS` pairs.

    Returns:
        the pair list.

    Raises:
        InputError: no list given, no pair, or too many pairs.
    """
    names = _names(image_list, features)
    if names is None:
        raise InputError("give the images: image_list or features")
    refs = _names(ref_list, ref_features)
    count = len(names) * (len(names) - 1) // 2 if refs is None else len(names) * len(refs)
    if count > MAX_PAIRS and not force:
        raise InputError(
            f"{count} pairs are more than {MAX_PAIRS}; use pairs_from_retrieval, pairs_from_covisibility or "
            "pairs_from_poses, or --force"
        )
    if refs is None:
        pairs = list(itertools.combinations(names, 2))
    else:
        pairs = [(name, ref) for name in names for ref in refs if name != ref]
    if not pairs:
        raise InputError(f"{len(names)} image makes no pair; give at least two")
    write_pairs(output, pairs)
    return Path(output)


def _names(images: ImageList | None, features: Path | str | None) -> list[str] | None:
    if images is not None:
        return read_image_list(images)
    if features is None:
        return None
    with FeatureReader(features) as reader:
        return reader.names


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="pair list to write")
    parser.add_argument("--image_list", help="text file of names; a * matches several files")
    parser.add_argument("--features", type=Path, help="take the names from a features file")
    parser.add_argument("--ref_list", help="text file of the second images' names")
    parser.add_argument("--ref_features", type=Path, help="features file of the second images")
    parser.add_argument("--force", action="store_true", help=f"allow more than {MAX_PAIRS} pairs")
    print(main(**vars(parser.parse_args())))


if __name__ == "__main__":
    run_cli(cli)
