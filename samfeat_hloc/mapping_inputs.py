"""What a model was mapped from: the cameras that were given, and verified pairs that another mapper has already."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.mappers import copy_database
from samfeat_hloc.stage_folder import RECORD_NAME, StageFolder

OF_MAPPING = {"mapper", "mapper_options", "finish"}
"""Keys of the stage's signature that verification does not depend on."""


def camera_signature(
    cameras: Mapping[str, pycolmap.Camera], names: Sequence[str], fixed: Collection[int]
) -> dict[str, list[Any]]:
    """What each image's camera is, in JSON values."""
    return {
        name: [
            camera.camera_id, camera.model_name, camera.width, camera.height, list(camera.params),
            camera.has_prior_focal_length, camera.camera_id in fixed,
        ]
        for name in names
        if (camera := cameras.get(name)) is not None
    }  # fmt: skip


def take_database(folder: Path, stage: StageFolder) -> None:
    """Copy another mapper's database when its pairs are of the same inputs."""
    try:
        signature = json.loads((folder / RECORD_NAME).read_text())["signature"]
    except (OSError, ValueError, KeyError):
        return
    theirs, ours = (
        {key: value for key, value in given.items() if key not in OF_MAPPING} for given in (signature, stage.signature)
    )
    if theirs == ours and (folder / stage.database.name).exists():
        copy_database(folder / stage.database.name, stage.database)
