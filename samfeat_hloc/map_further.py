"""Mapping that goes on from a model: with pairs found since, or with the photographs that the global mapper lost.

The global mapper places all photographs at once, by their pairs alone. One that few points tie to the rest gets a pose
that means nothing and loses it (`weak_poses`), though the finished model shows where it belongs: the incremental mapper
goes on from there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

from samfeat_hloc._pycolmap import pycolmap, quiet, read_model
from samfeat_hloc.mappers import MappingTask, model_size, num_connected, pipeline_options, run_mapper

logger = logging.getLogger(__name__)


def map_again(task: MappingTask) -> list[pycolmap.Reconstruction]:
    """Models for a database that got further pairs since `run_mapper` made FOLDER/models from it.

    The incremental mapper goes on from its largest model: it triangulates and adjusts anew, and adds the photographs
    that fit now. The others start again.

    Returns:
        the models, in COLMAP's order.
    """
    if task.mapper != "incremental":
        return run_mapper(task)
    return _go_on(task, task.options, least_gain=0)


def add_lost(task: MappingTask, models: Sequence[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """The models of the global mapper, the largest with the photographs that the incremental mapper can add to it.

    A model that none can be added to stays as it is, and so do the models of other mappers.

    Args:
        task: whose models FOLDER/models holds.
        models: these, in COLMAP's order.
    """
    largest = max(map(model_size, models), default=(0, 0))[0]
    lost = num_connected(task.database) - largest
    if task.mapper != "global" or largest == 0 or lost <= 0:
        return list(models)
    found = _go_on(task, pipeline_options("incremental"), least_gain=1)
    logger.info(
        "%d photographs with verified pairs were not in the largest model; the incremental mapper added %d",
        lost, max(map(model_size, found))[0] - largest,
    )  # fmt: skip
    return found


def _go_on(task: MappingTask, options: Any, least_gain: int) -> list[pycolmap.Reconstruction]:
    """Incremental mapping from the largest model, which is replaced when it gains that many photographs."""
    models = {int(path.name): read_model(path) for path in task.models.iterdir()}
    key = max(models, key=lambda key: model_size(models[key]))
    options.constant_cameras = set(task.fixed_cameras)
    options.snapshot_frames_freq = 0
    with tempfile.TemporaryDirectory(dir=task.folder) as scratch, quiet(task.verbose):
        found = pycolmap.incremental_mapping(
            task.database, task.image_dir, scratch, options=options, input_path=task.models / str(key)
        )
    best = max(found.values(), key=model_size, default=models[key])
    if model_size(best)[0] >= model_size(models[key])[0] + least_gain:
        models[key] = best
        best.write_binary(task.models / str(key))
    return [models[key] for key in sorted(models)]
