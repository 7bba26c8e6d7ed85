"""The local-feature benchmark of 2017 on internet photographs: Madrid Metropolis, Gendarmenmarkt, Tower of London.

    python -m pipelines.eth_benchmark --dataset DIR                      # one collection, or a folder of them
    python -m pipelines.eth_benchmark --dataset DIR --pairs retrieval    # hours instead of days without a GPU
    python -m pipelines.eth_benchmark --dataset DIR --features samfeat sift

Each collection is a folder with images/ and database.db, as the benchmark's archives unpack. All pairs are matched
with mutual nearest neighbours and a ratio test of 0.8, mapped by COLMAP from the database's intrinsics, and made dense
by its multi-view stereo where pycolmap has CUDA. The figures of SAMFeat's paper (Table III) stand beside. Interrupt it
at any moment and run the same command again: finished work is kept. The multi-view benchmark ETH3D is another one:
`pipelines.eth3d`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from pipelines.eth_benchmark_run import Options, run
from samfeat_hloc.errors import run_cli
from samfeat_hloc.extractors import MODULES as EXTRACTORS


def parse(arguments: list[str] | None = None) -> Options:
    """The command line's options."""
    defaults = Options(dataset=Path())
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.eth_benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", type=Path, required=True, help="a collection, or a folder of collections")
    parser.add_argument("--outputs", type=Path, default=defaults.outputs, help=f"default: {defaults.outputs}")
    parser.add_argument("--features", nargs="+", default=list(defaults.features), choices=sorted(EXTRACTORS))
    parser.add_argument("--weights", help="shipped name or checkpoint file, for SAMFeat")
    parser.add_argument(
        "--pairs", choices=("exhaustive", "retrieval"), default=defaults.pairs, help="default: %(default)s"
    )
    parser.add_argument(
        "--num-retrieved", type=int, default=defaults.num_retrieved, help="partners an image (%(default)s)"
    )
    parser.add_argument("--ratio", type=float, default=defaults.ratio, help="of the ratio test (%(default)s)")
    parser.add_argument("--max-keypoints", type=int, default=defaults.max_keypoints, help="an image (%(default)s)")
    parser.add_argument(
        "--resize-max", type=int, default=defaults.resize_max, help="longer side for extraction (%(default)s)"
    )
    parser.add_argument("--no-dense", dest="dense", action="store_false", help="sparse figures alone")
    values = vars(parser.parse_args(arguments))
    values["features"] = tuple(dict.fromkeys(values["features"]))
    return Options(**values)


def main() -> None:
    """Command line."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(options)


if __name__ == "__main__":
    run_cli(main)
