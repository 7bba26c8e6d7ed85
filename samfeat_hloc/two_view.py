"""Geometric verification of one pair: which matches agree with the relative pose of the two cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, pycolmap
from samfeat_hloc.pair_evidence import CALIBRATED, is_more_than_chance

MAX_ERROR_PX = 4.0
"""Largest epipolar distance of a correct match, per pixel of keypoint uncertainty; hloc's value."""

MIN_NUM_INLIERS = 15
"""Pairs with fewer verified matches are not written; COLMAP's mapper ignores them too (`min_num_matches`)."""

NULL_BASELINE = 1e-9

USABLE = frozenset(
    int(config)
    for config in (
        pycolmap.TwoViewGeometryConfiguration.CALIBRATED,
        pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED,
        pycolmap.TwoViewGeometryConfiguration.PLANAR,
        pycolmap.TwoViewGeometryConfiguration.PANORAMIC,
        pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
    )
)
"""Configurations that COLMAP's mapper triangulates from; UNDEFINED is skipped there without a word."""


@dataclass(frozen=True)
class View:
    """One image of a pair.

    Attributes:
        camera: intrinsics.
        points2D: (N, 2) keypoints in COLMAP's pixel coordinates.
        rays: (N, 2) the same, undistorted, on the plane z = 1; NaN where undistortion fails.
        threshold: `MAX_ERROR_PX` times the keypoints' uncertainty, on the plane z = 1.
        cam_from_world: the known pose; None when there is none.
    """

    camera: pycolmap.Camera
    points2D: FloatArray
    rays: FloatArray
    threshold: float
    cam_from_world: pycolmap.Rigid3d | None

    @classmethod
    def build(
        cls,
        camera: pycolmap.Camera,
        points2D: FloatArray,
        uncertainty: float,
        cam_from_world: pycolmap.Rigid3d | None,
        max_error_px: float = MAX_ERROR_PX,
    ) -> View:
        """Undistort the points once for all pairs of an image."""
        rays = np.asarray(camera.cam_from_img(points2D)) if len(points2D) else np.zeros((0, 2))
        threshold = camera.cam_from_img_threshold(max_error_px * uncertainty)
        return cls(camera, points2D, rays, float(threshold), cam_from_world)


def epipolar_errors(
    rotation: FloatArray, translation: FloatArray, rays0: FloatArray, rays1: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Distances of matched points to each other's epipolar lines, on the plane z = 1.

    Args:
        rotation: (3, 3) of cam1_from_cam0.
        translation: (3,) of cam1_from_cam0; zero makes the pair a pure rotation, and the distances those of the
            transferred points.
        rays0: (M, 2) points of the first image on z = 1.
        rays1: (M, 2) their matches in the second.

    Returns:
        (M,) distances in the first and in the second image; NaN or inf where they are not defined.
    """
    x0 = np.column_stack([rays0, np.ones(len(rays0))])
    x1 = np.column_stack([rays1, np.ones(len(rays1))])
    with np.errstate(divide="ignore", invalid="ignore"):
        if np.linalg.norm(translation) < NULL_BASELINE:
            in1, in0 = x0 @ rotation.T, x1 @ rotation
            return (
                np.linalg.norm(in0[:, :2] / in0[:, 2:] - rays0, axis=1),
                np.linalg.norm(in1[:, :2] / in1[:, 2:] - rays1, axis=1),
            )
        essential = essential_matrix(rotation, translation)
        line1, line0 = x0 @ essential.T, x1 @ essential
        algebraic = np.abs(np.sum(x1 * line1, axis=1))
        return algebraic / np.linalg.norm(line0[:, :2], axis=1), algebraic / np.linalg.norm(line1[:, :2], axis=1)


def essential_matrix(rotation: FloatArray, translation: FloatArray) -> FloatArray:
    """(3, 3) E = [t]x R of cam1_from_cam0: x1^T E x0 = 0."""
    x, y, z = translation
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) @ rotation


def verify_known_poses(view0: View, view1: View, matches: npt.NDArray[np.int32]) -> pycolmap.TwoViewGeometry | None:
    """The matches that agree with the known poses, as a CALIBRATED geometry; None when they are too few.

    Args:
        view0: first image, with its pose.
        view1: second image, with its pose.
        matches: (M, 2) keypoint indices.
    """
    if view0.cam_from_world is None or view1.cam_from_world is None or len(matches) < MIN_NUM_INLIERS:
        return None
    relative = view1.cam_from_world * view0.cam_from_world.inverse()
    rotation, translation = relative.rotation.matrix(), relative.translation
    errors0, errors1 = epipolar_errors(rotation, translation, view0.rays[matches[:, 0]], view1.rays[matches[:, 1]])
    inliers = matches[(errors0 <= view0.threshold) & (errors1 <= view1.threshold)]
    if len(inliers) < MIN_NUM_INLIERS:
        return None
    return pycolmap.TwoViewGeometry(
        config=CALIBRATED,
        inlier_matches=inliers.astype(np.uint32),
        cam2_from_cam1=relative,
        E=essential_matrix(rotation, translation),
    )


def accept_all(matches: npt.NDArray[np.int32]) -> pycolmap.TwoViewGeometry | None:
    """All matches as a CALIBRATED geometry, for matches that were verified before; None when they are too few."""
    if len(matches) < MIN_NUM_INLIERS:
        return None
    return pycolmap.TwoViewGeometry(config=CALIBRATED, inlier_matches=matches.astype(np.uint32))


def estimate_geometry(
    view0: View, view1: View, matches: npt.NDArray[np.int32], seed: int = 0
) -> pycolmap.TwoViewGeometry | None:
    """COLMAP's robust two-view estimation, poses unknown; None when no usable geometry is found.

    Robust estimation finds some geometry among any matches; it must be more than chance, see `pair_evidence`.
    Releases the GIL; the result depends on `seed` and the inputs alone.
    """
    if len(matches) < MIN_NUM_INLIERS:
        return None
    options = pycolmap.TwoViewGeometryOptions()
    options.min_num_inliers = MIN_NUM_INLIERS
    options.ransac.max_error = MAX_ERROR_PX
    options.ransac.random_seed = seed
    geometry = pycolmap.estimate_two_view_geometry(
        view0.camera, view0.points2D, view1.camera, view1.points2D, matches.astype(np.uint32), options
    )
    inliers = np.asarray(geometry.inlier_matches, np.int64)
    config = int(geometry.config)
    if config not in USABLE or len(inliers) < MIN_NUM_INLIERS:
        return None
    found = view0.points2D[inliers[:, 0]], view1.points2D[inliers[:, 1]]
    size = view1.camera.width, view1.camera.height
    return geometry if is_more_than_chance(config, len(matches), *found, MAX_ERROR_PX, size) else None
