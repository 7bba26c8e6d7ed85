"""From a COLMAP model, pose file and dense cloud to a scene."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from samfeat_hloc._pycolmap import FloatArray, IntArray, is_model, pose_from_array, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import read_ply
from samfeat_hloc.formats.poses import read_poses
from samfeat_hloc.viewing.framing import up_direction
from samfeat_hloc.viewing.photographs import colours_by_height, colours_from_photographs, photographs_of
from samfeat_hloc.viewing.scene import DEFAULT_CORNERS, Cameras, Points, Scene, no_cameras

WIDEST = 3.0
"""Largest |x/z|, |y/z| of a corner that is drawn: 143 degrees; a fisheye's corners lie at infinity or behind."""
PANORAMIC = ("EQUIRECTANGULAR",)


def model_folder(path: Path | str) -> Path:
    """Folder of the COLMAP model in a model's folder, a map's, or one that holds one model alone.

    Raises:
        InputError: no model there; names the models below, if there are any.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"the model {path} does not exist; give the folder of a COLMAP model or of a map")
    for folder in (path, path / "sfm", path / "sparse", path / "sparse" / "0"):  # a map keeps its model in sfm
        if is_model(folder):
            return folder
    below = sorted(folder for folder in path.glob("*") if folder.is_dir() and is_model(folder))
    hint = f"; there are models in {', '.join(str(folder) for folder in below[:5])}" if below else ""
    raise InputError(f"{path} has no COLMAP model (cameras, images, points3D as .bin or .txt) and is no map{hint}")


def scene_from_model(
    model: pycolmap.Reconstruction,
    *,
    title: str = "model",
    images: Path | str | None = None,
    queries: Path | str | None = None,
    trajectory: bool = False,
    cloud: Path | str | None = None,
) -> Scene:
    """A scene of everything in a model, and what is given beside it.

    Args:
        model: the reconstruction.
        title: what it is called.
        images: folder of the photographs; points of a model without colours get theirs from them.
        queries: pose file of localized photographs, see `formats.poses`.
        trajectory: connect the photographs of one folder in the order of their names.
        cloud: PLY file of a dense cloud in the model's coordinates.

    Raises:
        InputError: a model with neither points nor cameras, or a bad file.
    """
    ids = np.array(sorted(model.points3D), np.int64)
    xyz = np.array([model.points3D[key].xyz for key in ids.tolist()], np.float64).reshape(-1, 3)
    rgb = np.array([model.points3D[key].color for key in ids.tolist()], np.uint8).reshape(-1, 3)
    posed = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    if not len(xyz) and not posed:
        raise InputError("the model has neither points nor cameras; reconstruct something first")
    seen = {image.name: _observations(image, ids) for image in posed}
    database = _model_cameras(posed, [seen[image.name][0] for image in posed])
    others = _query_cameras(Path(queries), model) if queries is not None else no_cameras()
    dense = _cloud(Path(cloud)) if cloud is not None else None
    scene = Scene(title, Points(xyz, rgb), database, others)
    if len(rgb) and not rgb.any():  # a model made of features alone has black points
        if images is not None:
            rgb = colours_from_photographs(len(xyz), seen, photographs_of(images, database.names))
        else:
            rgb = colours_by_height(xyz, up_direction(scene))
    if dense is not None and dense[1] is None:
        dense = (dense[0], colours_by_height(dense[0], up_direction(scene)))
    return Scene(
        title,
        Points(xyz, rgb),
        database,
        others,
        Points(dense[0], dense[1]) if dense is not None and dense[1] is not None else Points(),
        (*_paths(database), *_paths(others)) if trajectory else (),
        tuple(_facts(model, len(others))),
    )


def corners_of(camera: pycolmap.Camera) -> FloatArray:
    """(4, 3) where the rays through the image's corners meet z = 1; a plain pyramid where they do not."""
    if camera.model_name in PANORAMIC:
        return DEFAULT_CORNERS
    width, height = camera.width, camera.height
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    try:
        rays = np.asarray(camera.cam_from_img(corners), np.float64)
    except (ValueError, RuntimeError, TypeError):
        return DEFAULT_CORNERS
    rays = rays[:, :2] / rays[:, 2:] if rays.shape[1] == 3 else rays
    if not np.isfinite(rays).all() or (np.ptp(rays, axis=0) <= 0).any():
        return DEFAULT_CORNERS
    return np.column_stack([np.clip(rays, -WIDEST, WIDEST), np.ones(4)])


def _observations(image: pycolmap.Image, ids: IntArray) -> tuple[IntArray, FloatArray]:
    """Indices of the points that an image observes, and where, as fractions of its size."""
    observed = image.get_observation_points2D()
    indices = np.searchsorted(ids, np.array([point.point3D_id for point in observed], np.int64))
    camera = _camera(image)
    size = [camera.width, camera.height]
    return indices, np.array([point.xy for point in observed], np.float64).reshape(-1, 2) / size


def _camera(image: pycolmap.Image) -> pycolmap.Camera:
    if image.camera is None:
        raise InputError(f"the image '{image.name}' has no camera in the model; make the model again")
    return image.camera


def _model_cameras(posed: list[pycolmap.Image], observed: list[IntArray]) -> Cameras:
    poses = [image.cam_from_world() for image in posed]
    corners = {image.camera_id: corners_of(_camera(image)) for image in posed}
    return Cameras.make(
        [image.name for image in posed],
        [pose.rotation.matrix().T for pose in poses],
        [image.projection_center() for image in posed],
        [corners[image.camera_id] for image in posed],
        [np.unique(indices) for indices in observed],
    )


def _query_cameras(path: Path, model: pycolmap.Reconstruction) -> Cameras:
    """A pose file has no intrinsics: a query has those of the model's image of its name, or of its usual camera."""
    poses = {name: pose_from_array(pose) for name, pose in read_poses(path).items()}
    if not poses:
        raise InputError(f"{path} has no poses; expected lines 'NAME qw qx qy qz tx ty tz'")
    known = {image.name: corners_of(_camera(image)) for image in model.images.values()}
    usual = np.median(list(known.values()), axis=0) if known else DEFAULT_CORNERS
    rotations = [pose.rotation.matrix().T for pose in poses.values()]
    centres = [-rotation @ pose.translation for rotation, pose in zip(rotations, poses.values(), strict=True)]
    return Cameras.make(list(poses), rotations, centres, [known.get(name, usual) for name in poses])


def _cloud(path: Path) -> tuple[FloatArray, np.ndarray | None]:
    found = read_ply(path, not_finite="drop")
    return found.points.astype(np.float64), found.colours


def _paths(cameras: Cameras) -> list[FloatArray]:
    order = sorted(range(len(cameras)), key=lambda index: cameras.names[index])
    groups = groupby(order, key=lambda index: cameras.names[index].rpartition("/")[0])
    lines = [cameras.centres[list(group)] for _, group in groups]
    return [line for line in lines if len(line) > 1]


def _facts(model: pycolmap.Reconstruction, queries: int) -> list[str]:
    facts = [f"{model.num_reg_images()} photographs", f"{model.num_points3D():,} points"]
    if model.num_points3D():
        facts.append(f"mean track {model.compute_mean_track_length():.2f} photographs")
        error = model.compute_mean_reprojection_error()
        if error > 0:
            facts.append(f"mean reprojection error {error:.2f} px")
    return [*facts, f"{queries} queries"] if queries else facts
