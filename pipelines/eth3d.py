"""Reconstruct scenes of the ETH3D multi-view benchmark: camera poses and point clouds against laser scans.

    python -m pipelines.eth3d                                   # the embedded town, rendered on the spot
    python -m pipelines.eth3d --dataset DIR                     # one scene, or a folder of scenes, as unpacked
    python -m pipelines.eth3d --dataset SCENE --cloud mvs.ply   # a dense cloud of yours against the scans, too
    python -m pipelines.eth3d --features samfeat sift           # with RootSIFT beside it

Each scene is triangulated with its true poses and reconstructed from nothing but its intrinsics. Interrupt it at any
moment and run the same command again: finished work is kept. This is not the local-feature benchmark of 2017, which
`pipelines.eth_benchmark` runs.
"""

from __future__ import annotations

from pathlib import Path

from datasets.eth3d import VARIANTS
from pipelines.common_options import add_features, add_outputs, add_town_seed, add_weights, pipeline_parser
from pipelines.eth3d_run import Options, run
from samfeat_hloc.errors import run_cli
from samfeat_hloc.mappers import MAPPERS
from samfeat_hloc.matchers import MODULES as MATCHERS

MATCHER_HELP = (
    "%(default)s by default: all pairs are matched, and without a ratio test those that show different places keep "
    "enough chance matches to put photographs where they are not"
)


def parse(arguments: list[str] | None = None) -> Options:
    """The command line's options."""
    defaults = Options()
    parser = pipeline_parser("pipelines.eth3d", __doc__)
    parser.add_argument("--dataset", type=Path, help="a scene, or a folder of scenes; default: the embedded town")
    add_outputs(parser, defaults.outputs)
    parser.add_argument(
        "--variant", choices=sorted(VARIANTS), help="photographs and calibration; default: undistorted when it is there"
    )
    add_features(parser, defaults.features)
    add_weights(parser)
    parser.add_argument("--matcher", default=defaults.matcher, choices=sorted(MATCHERS), help=MATCHER_HELP)
    parser.add_argument("--mapper", default=defaults.mapper, choices=MAPPERS, help="of the full reconstruction")
    parser.add_argument("--max-keypoints", type=int, default=defaults.max_keypoints, help="an image (%(default)s)")
    parser.add_argument(
        "--resize-max", type=int, default=defaults.resize_max,
        help="photographs with a longer side are reduced to it for extraction; keypoints are in their pixels "
        "(%(default)s)",
    )  # fmt: skip
    parser.add_argument("--no-clouds", dest="clouds", action="store_false", help="poses alone; no scans are needed")
    parser.add_argument("--cloud", type=Path, help="PLY file in the scans' world to compare with the scans, too")
    parser.add_argument(
        "--mvs", action="store_true", help="a dense cloud by multi-view stereo, too; needs pycolmap with CUDA"
    )
    add_town_seed(parser, defaults.seed)
    parser.add_argument("--views", type=int, default=defaults.views, help="photographs of the town (%(default)s)")
    parser.add_argument("--detail", type=float, default=defaults.detail, help="of the town's textures (%(default)s)")
    parser.add_argument(
        "--scan-width", type=int, default=defaults.scan_width, help="rays across a scan of the town (%(default)s)"
    )
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    run_cli(lambda: run(parse()))
