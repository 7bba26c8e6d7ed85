"""Photographs that a mapper gave a pose and that see hardly a point of the model: their poses mean nothing.

COLMAP's global mapper gives every photograph a pose from its pairs, and keeps it when all of its points were thrown out
for not fitting, so that it counts as registered, metres off.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap

logger = logging.getLogger(__name__)

LEAST_POINTS = 15
"""Of the model, that a photograph must see; COLMAP's `min_num_matches` of a pair."""


def let_go(model: pycolmap.Reconstruction, least: int = LEAST_POINTS) -> list[str]:
    """Take the poses from photographs that see fewer points than this, in place; returns their names, sorted.

    One at a time, the weakest first, for without it others see fewer points. Two photographs always stay.
    """
    names: list[str] = []
    while model.num_reg_images() > 2:
        weakest = min(
            (image for image in model.images.values() if image.has_pose), key=lambda image: image.num_points3D
        )
        if weakest.num_points3D >= least:
            break
        names.append(weakest.name)
        model.deregister_frame(weakest.frame_id)
    return sorted(names)


def keep_supported(models: Sequence[pycolmap.Reconstruction], folder: Path) -> None:
    """`let_go` in each of the models that FOLDER holds, in COLMAP's order; those that change are written anew."""
    paths = sorted(folder.iterdir(), key=lambda path: int(path.name))
    for model, path in zip(models, paths, strict=True):
        if names := let_go(model):
            model.write_binary(path)
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            logger.warning(
                "warning: %d photographs see fewer than %d points of model %s and lose their poses: %s",
                len(names), LEAST_POINTS, path.name, shown,
            )  # fmt: skip
