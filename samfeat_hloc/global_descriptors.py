"""Global descriptors for retrieval, from local features: features.h5 -> global.h5 and its codebook.

    python -m samfeat_hloc.global_descriptors --features features.h5 --output global.h5 --codebook_list db.txt

The codebook is learnt from the map's images (`--codebook_list`) and saved beside the output; the same codebook then
serves queries that arrive later.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.global_features import GlobalWriter
from samfeat_hloc.formats.image_lists import ImageList, read_image_list
from samfeat_hloc.progress import progress
from samfeat_hloc.vlad import Codebook, VLADConf

logger = logging.getLogger(__name__)


def main(
    features: Path | str,
    output: Path | str,
    codebook: Path | str | None = None,
    image_list: ImageList | None = None,
    codebook_list: ImageList | None = None,
    conf: VLADConf | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the global descriptors of images with local features.

    Args:
        features: features.h5.
        output: h5 file, `global_descriptor` (D,) float32 an image.
        codebook: its file; default `OUTPUT.codebook.npz`. One that exists is used, else it is learnt.
        image_list: names, or a text file of names, to describe; None: all images in `features`.
        codebook_list: names, or a text file of names, to learn the codebook from; None: those of `image_list`.
        conf: settings of a new codebook; one that exists has its own, and they must agree unless this is None.
        overwrite: replace the output and the codebook.

    Returns:
        the output file.

    Raises:
        InputError: an unknown name, a codebook of other features or settings, or an output of another codebook.
    """
    output = Path(output)
    with FeatureReader(features) as reader:
        names = list(reader.names) if image_list is None else read_image_list(image_list)
        reader.check(names, "the image list")
        words = _codebook(reader, Path(codebook or codebook_path(output)), names, codebook_list, conf, overwrite)
        signature = {"name": "vlad", **to_dict(words.conf)}
        with GlobalWriter(output, signature, words.sha256, overwrite=overwrite) as writer:
            todo = [name for name in names if name not in writer.done]
            for name in progress(todo, total=len(todo), desc="global descriptors", unit="image"):
                writer.add(name, words.encode(reader.read(name)))
    return output


def codebook_path(output: Path) -> Path:
    """Where the codebook of a global descriptors' file is unless told otherwise."""
    return output.with_suffix(".codebook.npz")


def _codebook(
    reader: FeatureReader,
    path: Path,
    names: list[str],
    codebook_list: ImageList | None,
    conf: VLADConf | None,
    overwrite: bool,
) -> Codebook:
    if path.exists() and not overwrite:
        words = Codebook.load(path)
        advice = "give another codebook path, or --overwrite to learn it again"
        if dict(words.features) != reader.signature:
            raise InputError(f"{path} was learnt from other features than those in {reader.path}; {advice}")
        if conf is not None and words.conf != conf:
            raise InputError(f"{path} has {words.conf}, wanted {conf}; {advice}")
        return words
    source = names if codebook_list is None else read_image_list(codebook_list)
    words = Codebook.train(reader.path, source, conf)
    words.save(path)
    return words


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True, help="features.h5")
    parser.add_argument("--output", type=Path, required=True, help="h5 file of global descriptors")
    parser.add_argument("--codebook", type=Path, help="its file; default: OUTPUT.codebook.npz")
    parser.add_argument("--image_list", help="text file of names to describe; default: all")
    parser.add_argument("--codebook_list", help="text file of names to learn from; default: those of --image_list")
    parser.add_argument("--words", type=int, help=f"visual words of a new codebook (default {VLADConf().words})")
    parser.add_argument("--seed", type=int, help="of a new codebook (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace output and codebook")
    args = parser.parse_args()
    changed = {key: getattr(args, key) for key in ("words", "seed") if getattr(args, key) is not None}
    conf = VLADConf(**changed) if changed else None
    print(main(args.features, args.output, args.codebook, args.image_list, args.codebook_list, conf, args.overwrite))


if __name__ == "__main__":
    run_cli(cli)
