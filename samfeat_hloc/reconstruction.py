"""Structure from motion: cameras and points from matches alone, with COLMAP's mappers.

    python -m samfeat_hloc.reconstruction --sfm_dir sfm --image_dir photos --pairs pairs.txt --features features.h5 \\
        --matches matches.h5

hloc's stage of the same name. All models are kept in SFM_DIR/models, the largest is written into SFM_DIR. Verified
pairs survive a kill, and incremental mapping goes on from its last snapshot; it then ends with a model of the same
photographs, though not with the same last digits as a run without a break.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap, read_model, to_colmap
from samfeat_hloc.colmap_database import PairCounts, Verify, check_made_from, write_verified_pairs
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.final_adjustment import finish_model
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import Pair, read_pairs, unique_pairs
from samfeat_hloc.image_import import CAMERA_MODES, camera_mode_from, import_images
from samfeat_hloc.loop_closing import close_loops
from samfeat_hloc.map_further import add_lost, map_again
from samfeat_hloc.mapped_models import is_mapped, mark_mapped, read_mapped
from samfeat_hloc.mappers import MAPPERS, MappingTask, model_size, pipeline_options, run_mapper
from samfeat_hloc.mapping_inputs import camera_signature, take_database
from samfeat_hloc.options import parse_options
from samfeat_hloc.pair_graph import MAX_STEPS, set_aside_unconfirmed
from samfeat_hloc.stage_folder import MAPPED_NAME, StageFolder
from samfeat_hloc.triangulation import VIEWS_IN_MEMORY, match_signature, statistics_of
from samfeat_hloc.two_view import View, accept_all, estimate_geometry
from samfeat_hloc.weak_poses import keep_supported

logger = logging.getLogger(__name__)


class NothingReconstructed(InputError):
    """The photographs do not fit together; the database tells which pairs were tried."""


def main(
    sfm_dir: Path | str,
    image_dir: Path | str,
    pairs: Path | str,
    features: Path | str,
    matches: Path | str,
    camera_mode: str | pycolmap.CameraMode = "AUTO",
    verbose: bool = False,
    skip_geometric_verification: bool = False,
    min_match_score: float | None = None,
    image_list: Sequence[str] | None = None,
    image_options: Mapping[str, Any] | None = None,
    mapper_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    mapper: str = "incremental",
    cameras: Mapping[str, pycolmap.Camera] | None = None,
    fixed_cameras: Collection[int] = (),
    verified_by: Path | str | None = None,
    clock: Callable[[str], AbstractContextManager[None]] | None = None,
    max_steps: int | None = MAX_STEPS,
    finish: bool = True,
) -> pycolmap.Reconstruction:
    """Reconstruct photographs.

    Args:
        sfm_dir: gets the largest model, `models/` with all, the database and `stage.json`.
        image_dir: root of the image names.
        pairs: pairs to use.
        features: features.h5 of all images in `pairs`.
        matches: matches.h5 of all pairs.
        camera_mode: COLMAP's AUTO (one camera per EXIF camera and size), SINGLE, PER_FOLDER or PER_IMAGE.
        verbose: show COLMAP's log.
        skip_geometric_verification: take all matches for verified.
        min_match_score: use matches that score higher.
        image_list: images to reconstruct; default: all in `pairs`.
        image_options: fields of pycolmap's `ImageReaderOptions`, such as `{"camera_model": "OPENCV"}`.
        mapper_options: fields of pycolmap's `IncrementalPipelineOptions` (`GlobalPipelineOptions`,
            `HierarchicalPipelineOptions`), or of the options that these hold.
        overwrite: replace a model that was made from other inputs.
        mapper: `incremental`, `global` (GLOMAP) or `hierarchical`.
        cameras: the camera of each image, instead of COLMAP's from EXIF; images with one `camera_id` share it.
        fixed_cameras: ids of those `cameras` whose intrinsics stay as given; for the global mapper, all or none.
        verified_by: folder of this stage with another mapper: its verified pairs are copied when they are of the same
            inputs, not computed again.
        clock: called with `verify`, `map` and `finish`, a context for the time of each.
        max_steps: pairs that short-cut a longer chain of stronger pairs are set aside, see `pair_graph`; None: none is.
        finish: align the largest model's observations in the photographs and adjust it with a robust loss, see
            `final_adjustment`; `models/` has it as the mapper left it.

    Returns:
        The largest model. One that is finished and was made from the same inputs is read, not computed.

    Raises:
        InputError: a file is missing or does not fit the others, or the folder holds another model.
        NothingReconstructed: no pair, or no model, came out of the photographs.
        ConfigError: an unknown option, mapper or camera mode.
    """
    sfm_dir, image_dir, pairs = Path(sfm_dir), Path(image_dir), Path(pairs)
    mode = camera_mode_from(camera_mode)
    options = pipeline_options(mapper, mapper_options)
    pair_list = unique_pairs(read_pairs(pairs))
    if image_list is not None:
        chosen = set(image_list)
        pair_list = [pair for pair in pair_list if set(pair) <= chosen]
        if not pair_list:
            raise InputError(f"no pair of {pairs} has both images in the image list of {len(chosen)} names")
    names = sorted({name for pair in pair_list for name in pair})
    with FeatureReader(features) as feature_reader, MatchReader(matches) as match_reader:
        feature_reader.check(names, str(pairs))
        check_made_from(match_reader, feature_reader)
        missing = [name for name in names if not (image_dir / name).is_file()]
        if missing:
            raise InputError(f"{len(missing)} images of {pairs} are not in {image_dir}, for example {missing[0]}")
        signature = {
            "stage": "reconstruction",
            "pairs": file_sha256(pairs),
            "images": names,
            "features": feature_reader.signature,
            "keypoints": {name: feature_reader.num_keypoints(name) for name in names},
            "matches": match_signature(match_reader),
            "camera_mode": mode.name,
            "skip_geometric_verification": skip_geometric_verification,
            "max_steps": max_steps,
            "finish": finish,
            "min_match_score": min_match_score,
            "image_options": {key: str(value) for key, value in (image_options or {}).items()},
            "mapper_options": {key: str(value) for key, value in (mapper_options or {}).items()},
            "mapper": mapper,
            **({} if cameras is None else {"cameras": camera_signature(cameras, names, fixed_cameras)}),
        }
        stage = StageFolder(sfm_dir, signature, overwrite=overwrite)
        if stage.finished:
            logger.info("%s is finished: %s", sfm_dir, stage.statistics)
            return read_model(sfm_dir)
        with clock("verify") if clock else nullcontext():
            if verified_by is not None and not stage.database.exists():
                take_database(Path(verified_by), stage)
            import_images(stage.database, image_dir, names, mode, image_options, feature_reader, cameras)
            verify = (lambda _0, _1, found: accept_all(found)) if skip_geometric_verification else estimate_geometry
            counts = _fill_database(stage, pair_list, feature_reader, match_reader, min_match_score, verify)
        mapped = is_mapped(sfm_dir)  # with pairs that closed loops, which are not to be set aside again
        if max_steps is not None and not skip_geometric_verification and not mapped:
            set_aside_unconfirmed(stage.database, max_steps)
    if counts.verified == 0:
        raise NothingReconstructed(
            f"none of the {counts.pairs} pairs passed geometric verification ({counts.matches} matches in all); the "
            "photographs may not overlap, or features and matches are of other images"
        )
    with clock("map") if clock else nullcontext():
        task = MappingTask(
            mapper=mapper,
            database=stage.database,
            image_dir=image_dir,
            folder=stage.folder,
            options=options,
            fixed_cameras=fixed_cameras,
            verbose=verbose,
        )
        models = read_mapped(sfm_dir) if mapped else run_mapper(task)
        if models and not mapped:
            if close_loops(stage.database, max(models, key=model_size)):
                models = map_again(task)
            keep_supported(models, task.models)
            models = add_lost(task, models)
            mark_mapped(sfm_dir)
    if not models:
        raise NothingReconstructed(
            f"COLMAP could not start a model from {counts.verified} verified pairs; it needs two photographs of one "
            "place from different positions with 100 common points (mapper option init_min_num_inliers)"
        )
    largest = max(models, key=model_size)
    if finish:
        with clock("finish") if clock else nullcontext():
            finish_model(largest, image_dir, options, fixed_cameras)
    with pycolmap.Database.open(stage.database) as used:  # with the pairs that closed loops
        counts = replace(counts, verified=used.num_verified_image_pairs(), inliers=used.num_inlier_matches())
    stage.finish(largest, {**statistics_of(largest, counts), "models": len(models), "photographs": len(names)})
    shutil.rmtree(sfm_dir / "snapshots", ignore_errors=True)
    (sfm_dir / MAPPED_NAME).unlink(missing_ok=True)
    logger.info("%s: %s", sfm_dir, stage.statistics)
    return largest


def _fill_database(
    stage: StageFolder,
    pairs: list[Pair],
    features: FeatureReader,
    matches: MatchReader,
    min_match_score: float | None,
    verify: Verify,
) -> PairCounts:
    """Write or go on writing verified pairs."""
    with pycolmap.Database.open(stage.database) as database:
        images = {image.name: image for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}

        @lru_cache(maxsize=VIEWS_IN_MEMORY)
        def view(name: str) -> View:
            found = features.read(name)
            return View.build(cameras[images[name].camera_id], to_colmap(found.keypoints), found.uncertainty, None)

        ids = {name: image.image_id for name, image in images.items()}
        return write_verified_pairs(database, ids, pairs, matches, min_match_score, view, verify)


def _cli() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m samfeat_hloc.reconstruction", description="Structure from motion from matches."
    )
    parser.add_argument("--sfm_dir", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--matches", type=Path, required=True)
    parser.add_argument("--camera_mode", default="AUTO", choices=CAMERA_MODES)
    parser.add_argument("--mapper", default="incremental", choices=MAPPERS, help="global: GLOMAP")
    parser.add_argument("--skip_geometric_verification", action="store_true", help="take all matches for verified")
    parser.add_argument("--min_match_score", type=float)
    parser.add_argument(
        "--max_steps",
        type=int,
        default=MAX_STEPS,
        help="set pairs aside that short-cut more stronger ones (%(default)s)",
    )
    parser.add_argument("--no_finish", action="store_false", dest="finish", help="the model as the mapper left it")
    parser.add_argument("--image_options", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--mapper_options", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--overwrite", action="store_true", help="replace a model made from other inputs")
    parser.add_argument("--verbose", action="store_true", help="show COLMAP's log")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for key in ("image_options", "mapper_options"):
        arguments[key] = parse_options(arguments[key])
    main(**arguments)


if __name__ == "__main__":
    run_cli(_cli)
