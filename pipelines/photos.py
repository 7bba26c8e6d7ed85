"""A folder of photographs to a 3D model: cameras, points, a report page.

    python -m pipelines.photos DIR                                       # SAMFeat, incremental mapping
    python -m pipelines.photos DIR --features samfeat sift --mapper incremental global   # side by side
    python -m pipelines.photos DIR --cameras cameras.txt                 # with known intrinsics

With known focal lengths (EXIF or --cameras) the global mapper is as good as the incremental one and scales better;
without, take the incremental one. --matcher nn-ratio keeps fewer and cleaner matches than SAMFeat's mutual neighbours:
cameras are more accurate where photographs overlap well, and fewer are connected where they do not. It is the default
with --cameras.

The largest model goes to OUT/FEATURES/MAPPER, all models to OUT/FEATURES/MAPPER/models, the report to OUT/report.html
and OUT/report.json. Interrupt it at any moment and run the same command again: finished work is kept.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.common_options import Distinct, add_features, add_weights, pipeline_parser
from pipelines.photos_cameras import CAMERA_MODELS, CAMERA_MODES
from pipelines.photos_options import RESIZE_MAX, Options
from pipelines.photos_run import run
from samfeat_hloc.errors import run_cli
from samfeat_hloc.mappers import MAPPERS
from samfeat_hloc.matchers import MODULES as MATCHERS
from samfeat_hloc.options import parse_options


def parse(arguments: list[str] | None = None) -> Options:
    """The command line's options."""
    defaults = Options(folder=Path())
    parser = pipeline_parser("pipelines.photos", __doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="the photographs; folders inside are read too")
    add("--outputs", type=Path, metavar="OUT", help="outputs/photos/NAME_OF_DIR; inside DIR nothing in it is read")
    add_features(parser, defaults.features)
    add("--mapper", nargs="+", action=Distinct, default=defaults.mapper, choices=MAPPERS, help="global: GLOMAP")
    add(
        "--matcher",
        default="auto",
        choices=["auto", *sorted(MATCHERS)],
        help="auto: nn-mutual; nn-ratio for SIFT and with --cameras",
    )
    add_weights(parser)
    add("--max-keypoints", type=int, default=defaults.max_keypoints, help="a photograph (%(default)s)")
    add(
        "--resize-max",
        type=int,
        default=RESIZE_MAX,
        help="larger ones are reduced (%(default)s); 0: never",
    )
    add("--cameras", type=Path, help="known intrinsics: COLMAP's cameras.txt, or a JSON by name; they are kept fixed")
    add("--refine-cameras", action="store_true", help="let the mapper change the given intrinsics")
    add("--camera-mode", default=defaults.camera_mode, choices=CAMERA_MODES, help="which share a camera (%(default)s)")
    add("--camera-model", default=defaults.camera_model, choices=CAMERA_MODELS, metavar="MODEL", help="%(default)s")
    add("--max-aspect", type=float, default=defaults.max_aspect, help="beyond, a panorama, left out (%(default)s)")
    add("--exhaustive-images", type=int, default=defaults.exhaustive_images,
        help="up to so many photographs every pair is matched (%(default)s)")  # fmt: skip
    add("--num-retrieved", type=int, default=defaults.num_retrieved, help="beyond: similar ones each (%(default)s)")
    add("--num-neighbours", type=int, default=defaults.num_neighbours, help="and next ones by name (%(default)s)")
    add("--mapper-options", nargs="*", default=[], metavar="KEY=VALUE", help="of COLMAP's mapper")
    add("--num-pictures", type=int, default=defaults.num_pictures, help="pairs drawn (%(default)s)")
    add("--overwrite", action="store_true", help="replace what was made from other photographs or settings")
    values = vars(parser.parse_args(arguments))
    values["mapper_options"] = parse_options(values["mapper_options"])
    return Options(**values)


if __name__ == "__main__":
    run_cli(lambda: run(parse()))
