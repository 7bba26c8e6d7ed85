"""COLMAP's three mappers behind one call: incremental, global (GLOMAP), hierarchical.

The incremental mapper adds one photograph after another and is the most careful. The global one solves for all
rotations, then for all positions at once, and is the fastest on large sets, but needs focal lengths: where they are
unknown, they are first estimated from the fundamental matrices, in a copy of the database; when photographs are lost
with these, mapping is tried with the guessed ones too, and the larger model is kept. Among the ten internet photographs
of benchmarks/results/reconstruction-sacre_coeur.json, zoomed by up to four times, that was not enough: all were
registered, in wrong places. The hierarchical mapper runs the incremental one on overlapping clusters and merges them,
for sets that do not fit at once.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import is_model, pycolmap, quiet, read_model
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.interruptible import interruptible
from samfeat_hloc.options import nested_options, set_options

logger = logging.getLogger(__name__)

MAPPERS = ("incremental", "global", "hierarchical")
OPTIONS = {
    "incremental": pycolmap.IncrementalPipelineOptions,
    "global": pycolmap.GlobalPipelineOptions,
    "hierarchical": pycolmap.HierarchicalPipelineOptions,
}
SEED = 0
SNAPSHOT_FREQUENCY = 50
"""Images after which incremental mapping saves a snapshot to go on from."""


def pipeline_options(mapper: str, values: Mapping[str, Any] | None = None) -> Any:
    """pycolmap's options of a mapper with these fields set, and a fixed seed everywhere.

    Args:
        mapper: one of `MAPPERS`.
        values: see `samfeat_hloc.options.set_options`.

    Raises:
        ConfigError: an unknown mapper or option, or a value of another type.
    """
    if mapper not in OPTIONS:
        raise ConfigError(f"there is no mapper '{mapper}'; expected one of {', '.join(MAPPERS)}")
    options = OPTIONS[mapper]()
    for holder in nested_options(options):
        if "random_seed" in holder.todict(recursive=False):
            holder.random_seed = SEED
    set_options(options, values)
    return options


@dataclass(frozen=True, kw_only=True)
class MappingTask:
    """Verified pairs to be mapped.

    Attributes:
        mapper: one of `MAPPERS`.
        database: with images, keypoints and verified pairs; it is not changed.
        image_dir: for the points' colours.
        folder: gets `models/0`, `models/1`, ..., and while the incremental mapper runs, `snapshots`: mapping goes on
            from the last whole one.
        options: from `pipeline_options`; the mapper's, which may change them.
        fixed_cameras: ids of cameras whose intrinsics stay as given. The global mapper has one switch for all cameras:
            it keeps them only when all are fixed.
        verbose: show COLMAP's log.
    """

    mapper: str
    database: Path
    image_dir: Path
    folder: Path
    options: Any
    fixed_cameras: Collection[int] = ()
    verbose: bool = False

    @property
    def models(self) -> Path:
        """Folder of all models."""
        return self.folder / "models"


def run_mapper(task: MappingTask) -> list[pycolmap.Reconstruction]:
    """Map the verified pairs of a database and keep every model under FOLDER/models.

    Returns:
        the models, in COLMAP's order.
    """
    output = task.models
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with quiet(task.verbose):
        if task.mapper == "incremental":
            found = _incremental(task)
        elif task.mapper == "hierarchical":
            task.options.incremental_options.constant_cameras = set(task.fixed_cameras)
            found = interruptible(
                lambda: pycolmap.hierarchical_mapping(task.database, task.image_dir, output, options=task.options)
            )
        else:
            found = _global(task)
    for key, model in found.items():
        target = output / str(key)
        if not is_model(target):
            target.mkdir(exist_ok=True)
            model.write_binary(target)
    return [found[key] for key in sorted(found)]


def copy_database(source: Path, target: Path) -> None:
    """Copy a COLMAP database, with what its write-ahead log holds; the copy is whole or absent."""
    with replace_file(target) as temporary:
        reader, writer = sqlite3.connect(source), sqlite3.connect(temporary)
        try:
            reader.backup(writer)
        finally:
            reader.close()
            writer.close()


def _incremental(task: MappingTask) -> dict[int, pycolmap.Reconstruction]:
    options, snapshots = task.options, task.folder / "snapshots"
    snapshots.mkdir(exist_ok=True)
    options.snapshot_path = snapshots
    if options.snapshot_frames_freq == 0:
        options.snapshot_frames_freq = SNAPSHOT_FREQUENCY
    if task.fixed_cameras:
        options.constant_cameras = set(task.fixed_cameras)
    start = _last_snapshot(snapshots)
    if start is not None:
        logger.info("mapping goes on from %s", start)
    found: dict[int, pycolmap.Reconstruction] = pycolmap.incremental_mapping(
        task.database, task.image_dir, task.models, options=options, input_path=start or ""
    )
    return found


def _global(task: MappingTask) -> dict[int, pycolmap.Reconstruction]:
    with pycolmap.Database.open(task.database) as opened:
        cameras = opened.read_all_cameras()
    if {camera.camera_id for camera in cameras} <= set(task.fixed_cameras):
        set_options(task.options, {"bundle_adjustment": {"refine_focal_length": False, "refine_extra_params": False}})
    if all(camera.has_prior_focal_length for camera in cameras):
        return _map_globally(task, task.database)
    logger.warning(
        "warning: %d of %d cameras have no known focal length, which the global mapper then takes from the pairs; "
        "compare its model with the incremental mapper's",
        sum(not camera.has_prior_focal_length for camera in cameras),
        len(cameras),
    )
    calibrated = task.folder / "calibrated.db"
    copy_database(task.database, calibrated)
    found: dict[int, pycolmap.Reconstruction] = {}
    try:
        settings = pycolmap.ViewGraphCalibrationOptions()
        settings.random_seed = SEED
        if interruptible(lambda: pycolmap.calibrate_view_graph(calibrated, settings)):
            found = _map_globally(task, calibrated)
    finally:
        for path in task.folder.glob("calibrated.db*"):
            path.unlink()
    if _largest(found)[0] < num_connected(task.database):
        guessed = _map_globally(task, task.database)
        logger.info(
            "focal lengths from the pairs: %d photographs, %d points in the largest model; guessed ones: %d, %d",
            *_largest(found), *_largest(guessed),
        )  # fmt: skip
        found = max(found, guessed, key=_largest)
    return found


def _map_globally(task: MappingTask, database: Path) -> dict[int, pycolmap.Reconstruction]:
    """Map a database, the task's or a copy, and clear what COLMAP writes: which models are kept is decided later."""
    found = dict(
        interruptible(lambda: pycolmap.global_mapping(database, task.image_dir, task.models, options=task.options))
    )
    shutil.rmtree(task.models)
    task.models.mkdir()
    return found


def _largest(models: Mapping[int, pycolmap.Reconstruction]) -> tuple[int, int]:
    """Photographs and points of the largest model."""
    return max(map(model_size, models.values()), default=(0, 0))


def model_size(model: pycolmap.Reconstruction) -> tuple[int, int]:
    """Photographs and points, by which the largest model is chosen."""
    return model.num_reg_images(), model.num_points3D()


def num_connected(database: Path) -> int:
    """Photographs with a verified pair."""
    with pycolmap.Database.open(database) as opened:
        pair_ids, inliers = opened.read_two_view_geometry_num_inliers()
    pairs = [pycolmap.pair_id_to_image_pair(pair) for pair, count in zip(pair_ids, inliers, strict=True) if count]
    return len({image_id for pair in pairs for image_id in pair})


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
