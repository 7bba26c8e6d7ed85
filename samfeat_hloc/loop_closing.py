"""Weak pairs that close a loop, told from places that look alike: the model knows.

`pair_graph` sets pairs aside that short-cut a long chain of stronger ones. Once there is a model without them, each of
them can be judged: the two 3D points that a match joins lie nearly in one place where the loop truly closes, up to the
drift along it, and a building apart where another wall looks the same.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, pycolmap
from samfeat_hloc.pair_graph import IdPair, pairs_set_aside, restore
from samfeat_hloc.two_view import MIN_NUM_INLIERS, View, estimate_geometry

logger = logging.getLogger(__name__)

MAX_DRIFT = 0.1
"""Distance of two 3D points that may be one, as a share of their distance to the camera."""


def close_loops(database: Path, model: pycolmap.Reconstruction) -> int:
    """Restore the pairs that the model agrees with, in the database; how many there are.

    Args:
        database: that the model was made from, with pairs set aside by `pair_graph`.
        model: with the keypoints of the database.
    """
    geometries = {}
    candidates = pairs_set_aside(database) or []
    with pycolmap.Database.open(database) as opened:
        for pair in candidates:
            if not all(image_id in model.images and model.images[image_id].has_pose for image_id in pair):
                continue
            matches = opened.read_matches(*pair).astype(np.int32)
            if joined_points(model, pair, matches) < MIN_NUM_INLIERS:
                continue
            views = [_view(opened, model, image_id) for image_id in pair]
            geometry = estimate_geometry(views[0], views[1], matches)
            if geometry is not None:
                geometries[pair] = geometry
    if geometries:
        restore(database, geometries)
        logger.info("%d of %d pairs that were set aside close loops of the model", len(geometries), len(candidates))
    return len(geometries)


def joined_points(model: pycolmap.Reconstruction, pair: IdPair, matches: npt.NDArray[np.int32]) -> int:
    """How many of the (M, 2) matches join two different 3D points of the model that lie nearly in one place.

    Matches of one and the same 3D point say that the two photographs were connected already, and count as well.
    """
    points = [_points(model, image_id)[matches[:, column]] for column, image_id in enumerate(pair)]
    apart = np.linalg.norm(points[0] - points[1], axis=1)
    away = np.linalg.norm(points[0] - model.images[pair[0]].projection_center(), axis=1)
    return int(np.count_nonzero(apart <= MAX_DRIFT * away))


def _points(model: pycolmap.Reconstruction, image_id: int) -> FloatArray:
    """(N, 3) the 3D point of each keypoint, NaN where it has none."""
    points2D = model.images[image_id].points2D
    found = np.full((len(points2D), 3), np.nan)
    for index, point in enumerate(points2D):
        if point.has_point3D():
            found[index] = model.points3D[point.point3D_id].xyz
    return found


def _view(database: pycolmap.Database, model: pycolmap.Reconstruction, image_id: int) -> View:
    """With the model's intrinsics, which are known by now."""
    points2D = database.read_keypoints(image_id)[:, :2].astype(np.float64)
    camera = pycolmap.Camera(model.cameras[model.images[image_id].camera_id].todict())
    camera.has_prior_focal_length = True
    return View.build(camera, points2D, 1.0, None)
