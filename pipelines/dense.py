"""A dense point cloud of a sparse model by COLMAP's multi-view stereo, which needs CUDA: `pip install pycolmap-cuda12`.

Depth maps that are finished are kept by COLMAP itself, so that an interrupted run goes on.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap, quiet
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.stage_folder import model_digest

logger = logging.getLogger(__name__)

FUSED = "fused.ply"
RECORD = "dense.json"
NO_CUDA = (
    "no dense points: multi-view stereo needs CUDA and this pycolmap has none; on a machine with an NVIDIA GPU, "
    "replace it: pip uninstall pycolmap, then pip install 'pycolmap-cuda12>=4.0,<5'"
)


def can_reconstruct_densely() -> bool:
    """Whether pycolmap was built with CUDA."""
    return bool(pycolmap.has_cuda)


def dense_cloud(
    model: Path, image_dir: Path, workspace: Path, max_image_size: int, geometric: bool = True, min_num_pixels: int = 5
) -> Path | None:
    """Undistort, compute depth maps, fuse them; what an earlier run finished is kept.

    Args:
        model: folder of a COLMAP model.
        image_dir: root of its image names.
        workspace: gets undistorted images, depth maps and the cloud; emptied when it is of another model.
        max_image_size: longer side of the undistorted images.
        geometric: a second pass that makes depth maps agree with each other.
        min_num_pixels: depth maps that must agree on a point.

    Returns:
        the cloud, a PLY file; None without CUDA, with a line in the log that says how to get it.
    """
    signature = {
        "model": model_digest(model, with_points=True),
        "max_image_size": max_image_size,
        "geometric": geometric,
        "min_num_pixels": min_num_pixels,
    }
    record, fused = workspace / RECORD, workspace / FUSED
    found = json.loads(record.read_text()) if record.is_file() else {}
    if found.get("signature") == signature and found.get("fused") and fused.is_file():
        return fused
    if not can_reconstruct_densely():
        logger.warning("%s", NO_CUDA)
        return None
    if found.get("signature") != signature:
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir(parents=True)
        undistortion = pycolmap.UndistortCameraOptions()
        undistortion.max_image_size = max_image_size
        with quiet():
            pycolmap.undistort_images(workspace, model, image_dir, undistort_options=undistortion)
        _mark(record, signature, fused=False)
    stereo = pycolmap.PatchMatchOptions()
    stereo.geom_consistency = geometric
    fusion = pycolmap.StereoFusionOptions()
    fusion.min_num_pixels = min_num_pixels
    with quiet():
        pycolmap.patch_match_stereo(workspace, options=stereo)
        with tempfile.TemporaryDirectory(dir=workspace) as scratch:
            dense = pycolmap.stereo_fusion(
                scratch, workspace, input_type="geometric" if geometric else "photometric", options=fusion
            )
        with replace_file(fused) as temporary:
            dense.export_PLY(temporary)
    _mark(record, signature, fused=True)
    return fused


def _mark(path: Path, signature: dict[str, object], *, fused: bool) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps({"signature": signature, "fused": fused}))
