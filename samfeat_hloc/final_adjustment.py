"""The last bundle adjustment of a model: robust, and with observations that the photographs themselves have placed.

COLMAP's mapper minimises squared errors, in which the few observations that are 2 to 4 px off outweigh hundreds of good
ones. A Cauchy loss takes them for what they are. Between two such adjustments the observations are aligned, see
`patch_alignment`. What both do to four scenes: docs/reconstruction.md.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.options import nested_options
from samfeat_hloc.patch_alignment import align_observations

LOSS_SCALE = 1.0
"""Pixels, as in localization: the error from which an observation counts less."""
MAX_ITERATIONS = 50
FUNCTION_TOLERANCE = 1e-6

REFINED = ("refine_focal_length", "refine_principal_point", "refine_extra_params")


def finish_model(
    model: pycolmap.Reconstruction, image_dir: Path, mapper_options: Any, fixed_cameras: Collection[int] = ()
) -> None:
    """Adjust, align the observations, adjust again; in place.

    Args:
        model: from one of COLMAP's mappers.
        image_dir: root of the image names.
        mapper_options: the mapper's; which intrinsics it refines, this does.
        fixed_cameras: ids of cameras whose intrinsics stay.
    """
    refine = {name: _refines(mapper_options, name) for name in REFINED}
    adjust(model, refine, fixed_cameras)
    if align_observations(model, image_dir):
        adjust(model, refine, fixed_cameras)


def adjust(model: pycolmap.Reconstruction, refine: dict[str, bool], fixed_cameras: Collection[int] = ()) -> None:
    """Bundle adjustment of poses, points and the intrinsics that `refine` names, with a Cauchy loss; in place."""
    options = pycolmap.BundleAdjustmentOptions()
    for name, value in refine.items():
        setattr(options, name, value)
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = LOSS_SCALE
    options.ceres.solver_options.max_num_iterations = MAX_ITERATIONS
    options.ceres.solver_options.function_tolerance = FUNCTION_TOLERANCE
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for camera_id in set(fixed_cameras) & set(model.cameras):
        config.set_constant_cam_intrinsics(camera_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()


def _refines(mapper_options: Any, name: str) -> bool:
    """The incremental mapper's `ba_refine_...`, or the global mapper's `refine_...`."""
    for holder in nested_options(mapper_options):
        for key in (f"ba_{name}", name):
            if hasattr(holder, key):
                return bool(getattr(holder, key))
    return False
