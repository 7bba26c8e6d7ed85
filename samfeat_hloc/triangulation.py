"""3D points from known camera poses: verify the matches with the poses, then triangulate with COLMAP.

hloc's stage of the same name. What it must not do: write pairs as UNDEFINED, from which COLMAP triangulates nothing
without a word; delete a finished model; lose verified pairs when it is killed.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap, quiet, read_model, to_colmap
from samfeat_hloc.colmap_database import (
    PairCounts,
    check_made_from,
    write_images,
    write_keypoints,
    write_verified_pairs,
)
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.formats.pairs import Pair, read_pairs, unique_pairs
from samfeat_hloc.options import mapper_options_from, parse_options
from samfeat_hloc.stage_folder import StageFolder, model_digest
from samfeat_hloc.two_view import MIN_NUM_INLIERS, View, accept_all, estimate_geometry, verify_known_poses

logger = logging.getLogger(__name__)

SEED = 0
VIEWS_IN_MEMORY = 1024
"""Images whose keypoints are kept while pairs are verified: about 130 KB each with 4096 keypoints."""


def main(
    sfm_dir: Path,
    reference_model: Path,
    image_dir: Path,
    pairs: Path,
    features: Path,
    matches: Path,
    skip_geometric_verification: bool = False,
    estimate_two_view_geometries: bool = False,
    min_match_score: float | None = None,
    verbose: bool = False,
    mapper_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> pycolmap.Reconstruction:
    """Triangulate the matches with the poses of a reference model; poses and intrinsics stay as they are.

    Args:
        sfm_dir: gets the model (COLMAP binary), the database and `stage.json`.
        reference_model: COLMAP model with poses; its points are not used.
        image_dir: where the images are, for the points' colours.
        pairs: pairs to use.
        features: features.h5 of all images in `pairs`.
        matches: matches.h5 of all pairs.
        skip_geometric_verification: take all matches for verified.
        estimate_two_view_geometries: verify by robust estimation, without the known poses.
        min_match_score: use matches that score higher.
        verbose: show COLMAP's log.
        mapper_options: fields of pycolmap's `IncrementalPipelineOptions`, or of its mapper or triangulation options.
        overwrite: replace a model that was made from other inputs.

    Returns:
        The model. One that is finished and was made from the same inputs is read, not computed.

    Raises:
        InputError: a file is missing or does not fit the others; the folder holds another model; no point came out.
        ConfigError: an unknown mapper option.
    """
    sfm_dir, reference_model, image_dir = Path(sfm_dir), Path(reference_model), Path(image_dir)
    options = mapper_options_from(mapper_options)
    options.random_seed = options.triangulation.random_seed = SEED
    options.min_num_matches = min(options.min_num_matches, MIN_NUM_INLIERS)
    reference = read_model(reference_model)
    image_ids = {image.name: image_id for image_id, image in sorted(reference.images.items())}
    pair_list = unique_pairs(read_pairs(Path(pairs)))
    names = list(dict.fromkeys(name for pair in pair_list for name in pair))
    check_known(names, image_ids, str(pairs), f"the model {reference_model}")
    with FeatureReader(features) as feature_reader, MatchReader(matches) as match_reader:
        feature_reader.check(names, str(pairs))
        check_made_from(match_reader, feature_reader)
        signature = {
            "stage": "triangulation",
            "reference_model": model_digest(reference_model),
            "pairs": file_sha256(Path(pairs)),
            "features": feature_reader.signature,
            "keypoints": {name: feature_reader.num_keypoints(name) for name in names},
            "matches": match_signature(match_reader),
            "skip_geometric_verification": skip_geometric_verification,
            "estimate_two_view_geometries": estimate_two_view_geometries,
            "min_match_score": min_match_score,
            "mapper_options": {key: str(value) for key, value in (mapper_options or {}).items()},
        }
        stage = StageFolder(sfm_dir, signature, overwrite=overwrite)
        if stage.finished:
            logger.info("%s is finished: %s", sfm_dir, stage.statistics)
            return read_model(sfm_dir)
        counts = _fill_database(
            stage,
            reference,
            image_ids,
            pair_list,
            feature_reader,
            match_reader,
            min_match_score,
            "skip" if skip_geometric_verification else "estimate" if estimate_two_view_geometries else "poses",
        )
    if counts.verified == 0:
        raise InputError(
            f"none of the {counts.pairs} pairs has {MIN_NUM_INLIERS} matches that agree with the cameras "
            f"({counts.matches} matches in all); check that features, matches and {reference_model} are of the "
            "same images"
        )
    with quiet(verbose), tempfile.TemporaryDirectory(dir=sfm_dir) as scratch:
        model = pycolmap.triangulate_points(reference, stage.database, image_dir, scratch, options=options)
    if model.num_points3D() == 0:
        raise InputError(
            f"no 3D point came out of {counts.inliers} verified matches in {counts.verified} pairs; the images of each "
            "pair may be taken from one place: use pairs with a baseline"
        )
    stage.finish(model, statistics_of(model, counts))
    logger.info("%s: %s", sfm_dir, stage.statistics)
    return model


def match_signature(matches: MatchReader) -> dict[str, Any]:
    """What the matches were made with; for a file of another program its name, size and time."""
    if "conf" in matches.attrs:
        return {"conf": str(matches.attrs["conf"])}
    status = matches.path.stat()
    return {"file": matches.path.name, "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def statistics_of(model: pycolmap.Reconstruction, counts: PairCounts) -> dict[str, Any]:
    """Figures of a finished model for its record and the log."""
    return {
        **vars(counts),
        "images": model.num_reg_images(),
        "points": model.num_points3D(),
        "mean_track_length": round(model.compute_mean_track_length(), 3),
        "mean_reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
    }


def _fill_database(
    stage: StageFolder,
    reference: pycolmap.Reconstruction,
    image_ids: Mapping[str, int],
    pairs: list[Pair],
    features: FeatureReader,
    matches: MatchReader,
    min_match_score: float | None,
    verification: str,
) -> PairCounts:
    """Write or go on writing the database."""

    @lru_cache(maxsize=VIEWS_IN_MEMORY)
    def view(name: str) -> View:
        image = reference.images[image_ids[name]]
        pose = image.cam_from_world() if image.has_pose else None
        points2D = to_colmap(features.read_keypoints(name))
        return View.build(reference.cameras[image.camera_id], points2D, features.uncertainty(name), pose)

    verify = {
        "skip": lambda _view0, _view1, found: accept_all(found),
        "estimate": estimate_geometry,
        "poses": verify_known_poses,
    }[verification]
    with pycolmap.Database.open(stage.database) as database:
        if database.num_images() == 0:
            with pycolmap.DatabaseTransaction(database):
                write_images(database, reference)
                write_keypoints(database, image_ids, features)
        counts = write_verified_pairs(database, image_ids, pairs, matches, min_match_score, view, verify)
    return counts


def _cli() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m samfeat_hloc.triangulation",
        description="3D points from matches and known camera poses.",
    )
    parser.add_argument("--sfm_dir", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--reference_sfm_model", type=Path, required=True, dest="reference_model")
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--matches", type=Path, required=True)
    parser.add_argument("--skip_geometric_verification", action="store_true", help="take all matches for verified")
    parser.add_argument("--estimate_two_view_geometries", action="store_true", help="verify without the known poses")
    parser.add_argument("--min_match_score", type=float)
    parser.add_argument("--mapper_options", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--overwrite", action="store_true", help="replace a model made from other inputs")
    parser.add_argument("--verbose", action="store_true", help="show COLMAP's log")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments["mapper_options"] = parse_options(arguments["mapper_options"])
    main(**arguments)


if __name__ == "__main__":
    run_cli(_cli)
