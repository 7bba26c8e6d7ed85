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

from pathlib import Path

from pipelines.common_options import add_features, add_outputs, add_weights, pipeline_parser
from pipelines.eth_benchmark_run import Options, run
from samfeat_hloc.errors import run_cli


def parse(arguments: list[str] | None = None) -> Options:
    """The command line's options."""
    defaults = Options(dataset=Path())
    parser = pipeline_parser("pipelines.eth_benchmark", __doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="a collection, or a folder of collections")
    add_outputs(parser, defaults.outputs)
    add_features(parser, defaults.features)
    add_weights(parser)
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
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    run_cli(lambda: run(parse()))
