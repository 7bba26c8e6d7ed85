"""Localize the queries of Aachen Day-Night, or of any folder in its layout, with SAMFeat.

    python -m pipelines.aachen                          # the embedded town, rendered on the spot
    python -m pipelines.aachen --dataset DIR            # Aachen Day-Night v1.0 or v1.1 as downloaded
    python -m pipelines.aachen --features samfeat sift  # with RootSIFT beside it
    python -m pipelines.aachen --runtime hloc           # the same through hloc's own functions, to check ours

Interrupt it at any moment and run the same command again: finished work is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.aachen_run import RUNTIMES, Options, run
from pipelines.common_options import add_features, add_outputs, add_town_seed, add_weights, pipeline_parser
from samfeat_hloc.errors import run_cli
from samfeat_hloc.matchers import MODULES as MATCHERS


def parse(arguments: list[str] | None = None) -> Options:
    """The command line's options."""
    defaults = Options()
    parser = pipeline_parser("pipelines.aachen", __doc__)
    parser.add_argument("--dataset", type=Path, help="folder in Aachen's layout; default: the embedded town")
    add_outputs(parser, defaults.outputs)
    parser.add_argument(
        "--num-covis", type=int, default=defaults.num_covis, help="database pairs an image (%(default)s)"
    )
    parser.add_argument("--num-loc", type=int, default=defaults.num_loc, help="images retrieved a query (%(default)s)")
    parser.add_argument(
        "--max-keypoints", type=int, default=defaults.max_keypoints, help="an image (3072 in the town, else 4096)"
    )
    add_features(parser, defaults.features)
    parser.add_argument("--matcher", default=defaults.matcher, choices=sorted(MATCHERS))
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=defaults.runtime,
        help="hloc: every stage by the functions of an importable hloc, into OUTPUTS/hloc (default: %(default)s)",
    )
    add_weights(parser)
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep what an earlier run finished (default); --no-resume computes everything again",
    )
    parser.add_argument(
        "--protocol",
        choices=("hloc", "local-features"),
        default=defaults.protocol,
        help="local-features: night queries against a given pair list, as visuallocalization.net's local-feature track",
    )
    parser.add_argument("--pairs", type=Path, help="pair list of the local-features protocol, when not in the dataset")
    add_town_seed(parser, defaults.seed)
    parser.add_argument("--num-pictures", type=int, default=defaults.num_pictures, help="queries drawn (%(default)s)")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    run_cli(lambda: run(parse()))
