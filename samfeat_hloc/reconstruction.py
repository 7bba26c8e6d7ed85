"""Structure from motion: cameras and points from matches alone, with COLMAP's incremental mapper.

    python -m samfeat_hloc.reconstruction --sfm_dir sfm --image_dir photos --pairs pairs.txt --features features.h5 \\
        --matches matches.h5

hloc's stage of the same name. All models are kept in SFM_DIR/models, the largest is written into SFM_DIR. Verified
pairs survive a kill, and mapping goes on from its last snapshot; it then ends with a model of the same photographs,
though not with the same last digits as a run without a break.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import is_model, pycolmap, quiet, read_model, to_colmap
from samfeat_hloc.colmap_database import PairCounts, check_made_from, write_keypoints, write_verified_pairs
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.formats.pairs import Pair, read_pairs, unique_pairs
from samfeat_hloc.options import mapper_options_from, parse_options
from samfeat_hloc.stage_folder import StageFolder, remove_database
from samfeat_hloc.triangulation import VIEWS_IN_MEMORY, match_signature, statistics_of
from samfeat_hloc.two_view import View, accept_all, estimate_geometry

logger = logging.getLogger(__name__)

SEED = 0
SNAPSHOT_FREQUENCY = 50
"""Images after which mapping saves a snapshot to go on from."""

CAMERA_MODES = tuple(pycolmap.CameraMode.__members__)


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
        mapper_options: fields of pycolmap's `IncrementalPipelineOptions`, or of its mapper or triangulation options.
        overwrite: replace a model that was made from other inputs.

    Returns:
        The largest model. One that is finished and was made from the same inputs is read, not computed.

    Raises:
        InputError: a file is missing or does not fit the others; the folder holds another model; nothing could be
            reconstructed.
        ConfigError: an unknown option or camera mode.
    """
    sfm_dir, image_dir, pairs = Path(sfm_dir), Path(image_dir), Path(pairs)
    mode = _camera_mode(camera_mode)
    options = mapper_options_from(mapper_options)
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = SEED
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
            "min_match_score": min_match_score,
            "image_options": {key: str(value) for key, value in (image_options or {}).items()},
            "mapper_options": {key: str(value) for key, value in (mapper_options or {}).items()},
        }
        stage = StageFolder(sfm_dir, signature, overwrite=overwrite)
        if stage.finished:
            logger.info("%s is finished: %s", sfm_dir, stage.statistics)
            return read_model(sfm_dir)
        _import_images(stage.database, image_dir, names, mode, image_options, feature_reader)
        counts = _fill_database(
            stage, pair_list, feature_reader, match_reader, min_match_score, skip_geometric_verification
        )
    if counts.verified == 0:
        raise InputError(
            f"none of the {counts.pairs} pairs passed geometric verification ({counts.matches} matches in all); the "
            "photographs may not overlap, or features and matches are of other images"
        )
    models = _map(stage, image_dir, options, verbose)
    if not models:
        raise InputError(
            f"COLMAP could not start a model from {counts.verified} verified pairs; it needs two photographs of one "
            "place from different positions with 100 common points (mapper option init_min_num_inliers)"
        )
    largest = max(models, key=lambda model: (model.num_reg_images(), model.num_points3D()))
    stage.finish(largest, {**statistics_of(largest, counts), "models": len(models), "photographs": len(names)})
    shutil.rmtree(sfm_dir / "snapshots", ignore_errors=True)
    logger.info("%s: %s", sfm_dir, stage.statistics)
    return largest


def _camera_mode(mode: str | pycolmap.CameraMode) -> pycolmap.CameraMode:
    if isinstance(mode, pycolmap.CameraMode):
        return mode
    if mode not in CAMERA_MODES:
        raise ConfigError(f"there is no camera mode '{mode}'; expected one of {', '.join(CAMERA_MODES)}")
    found: pycolmap.CameraMode = pycolmap.CameraMode.__members__[mode]
    return found


def _import_images(
    path: Path,
    image_dir: Path,
    names: Sequence[str],
    mode: pycolmap.CameraMode,
    image_options: Mapping[str, Any] | None,
    features: FeatureReader,
) -> None:
    """Start the database with images, cameras from EXIF, and keypoints, unless an earlier run got that far."""
    if path.exists():
        with pycolmap.Database.open(path) as database:
            complete = database.num_images() == len(names) and all(
                database.exists_keypoints(image.image_id) for image in database.read_all_images()
            )
        if complete:
            return
        remove_database(path)
    reader_options = pycolmap.ImageReaderOptions()
    for key, value in (image_options or {}).items():
        if key not in reader_options.todict():
            known = ", ".join(sorted(reader_options.todict()))
            raise ConfigError(f"there is no image option '{key}'; known: {known}")
        setattr(reader_options, key, value)
    with pycolmap.Database.open(path):
        pass  # import_images wants the file to exist
    with quiet():
        pycolmap.import_images(path, image_dir, mode, image_names=list(names), options=reader_options)
    with pycolmap.Database.open(path) as database:
        found = {image.name: image.image_id for image in database.read_all_images()}
        check_known(names, found, "the photographs", f"COLMAP's database; it could not read them in {image_dir}")
        _check_sizes(database, features)
        with pycolmap.DatabaseTransaction(database):
            write_keypoints(database, found, features)


def _check_sizes(database: pycolmap.Database, features: FeatureReader) -> None:
    """Check that COLMAP's cameras have the size of the pixels that keypoints are in.

    Raises:
        InputError: the photographs changed, or COLMAP turned one by its EXIF orientation.
    """
    for image in database.read_all_images():
        camera = database.read_camera(image.camera_id)
        size = features.read(image.name).image_size
        if size != (0, 0) and size != (camera.width, camera.height):  # hloc's files may have no size
            raise InputError(
                f"the features of {image.name} are of {size[0]}x{size[1]} pixels and COLMAP's camera is "
                f"{camera.width}x{camera.height}; extract the features again from these photographs"
            )


def _fill_database(
    stage: StageFolder,
    pairs: list[Pair],
    features: FeatureReader,
    matches: MatchReader,
    min_match_score: float | None,
    skip_verification: bool,
) -> PairCounts:
    """Write or go on writing verified pairs."""
    with pycolmap.Database.open(stage.database) as database:
        images = {image.name: image for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}

        @lru_cache(maxsize=VIEWS_IN_MEMORY)
        def view(name: str) -> View:
            found = features.read(name)
            return View.build(cameras[images[name].camera_id], to_colmap(found.keypoints), found.uncertainty, None)

        counts = write_verified_pairs(
            database,
            {name: image.image_id for name, image in images.items()},
            pairs,
            matches,
            min_match_score,
            view,
            (lambda _view0, _view1, found: accept_all(found)) if skip_verification else estimate_geometry,
        )
    return counts


def _map(
    stage: StageFolder, image_dir: Path, options: pycolmap.IncrementalPipelineOptions, verbose: bool
) -> list[pycolmap.Reconstruction]:
    """Run the mapper, from the last whole snapshot if there is one, and keep every model under `models`."""
    snapshots, output = stage.folder / "snapshots", stage.folder / "models"
    snapshots.mkdir(exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    options.snapshot_path = snapshots
    if options.snapshot_frames_freq == 0:
        options.snapshot_frames_freq = SNAPSHOT_FREQUENCY
    start = _last_snapshot(snapshots)
    if start is not None:
        logger.info("mapping goes on from %s", start)
    with quiet(verbose):
        found = pycolmap.incremental_mapping(stage.database, image_dir, output, options=options, input_path=start or "")
    return [found[key] for key in sorted(found)]


def _last_snapshot(folder: Path) -> Path | None:
    """The newest snapshot that can be read; a kill may have cut one short."""
    for candidate in sorted((path for path in folder.iterdir() if is_model(path)), reverse=True):
        try:
            model = read_model(candidate)
        except InputError:
            continue
        if model.num_reg_images() >= 2:
            return candidate
    return None


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
    parser.add_argument("--skip_geometric_verification", action="store_true", help="take all matches for verified")
    parser.add_argument("--min_match_score", type=float)
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
