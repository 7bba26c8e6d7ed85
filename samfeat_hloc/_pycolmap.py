"""The one module that imports pycolmap: supported versions, the half pixel, cameras, poses and model reading.

Import order: the wheels of the supported range load before and after torch (`tests/test_pycolmap.py` tries both in
fresh processes). Older ones aborted when torch came first, so nothing else in this package imports pycolmap itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.formats.queries import QueryCamera

SUPPORTED = (4, 5)
SUPPORTED_TEXT = f"pycolmap>={SUPPORTED[0]}.0,<{SUPPORTED[1]}"
INSTALL_HINT = f"install it with: pip install '{SUPPORTED_TEXT}'"

HALF_PIXEL = 0.5
"""COLMAP has the centre of the top-left pixel at (0.5, 0.5); features.h5 has it at (0, 0)."""

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]


def check_version(version: str) -> None:
    """Check a pycolmap version against the supported range.

    Raises:
        MissingDependencyError: another major version, whose names differ.
    """
    major = version.split(".")[0]
    if not major.isdigit() or not SUPPORTED[0] <= int(major) < SUPPORTED[1]:
        raise MissingDependencyError(
            f"pycolmap {version} is installed; samfeat_hloc is written for {SUPPORTED_TEXT}; {INSTALL_HINT}"
        )


try:
    import pycolmap
except (ImportError, RuntimeError) as error:  # pycolmap turns a broken C++ core into a RuntimeError
    raise MissingDependencyError(f"pycolmap cannot be imported ({error}); {INSTALL_HINT}") from error
check_version(pycolmap.__version__)


def to_colmap(keypoints: npt.ArrayLike) -> FloatArray:
    """(N, 2) keypoints of features.h5 in COLMAP's pixel coordinates, float64 so that the sum is exact."""
    return np.asarray(keypoints, np.float64) + HALF_PIXEL


def from_colmap(points2D: npt.ArrayLike) -> FloatArray:
    """(N, 2) points in COLMAP's pixel coordinates in those of features.h5."""
    return np.asarray(points2D, np.float64) - HALF_PIXEL


def make_camera(camera: pycolmap.Camera | QueryCamera | Mapping[str, Any]) -> pycolmap.Camera:
    """A pycolmap camera from a query list's, or from `{"model", "width", "height", "params"}`.

    Raises:
        InputError: an unknown model, a missing key, or a wrong number of parameters.
    """
    if isinstance(camera, pycolmap.Camera):
        return camera
    if isinstance(camera, QueryCamera):
        values: dict[str, Any] = vars(camera)
    else:
        values = dict(camera)
    expected = "expected the keys model, width, height, params with COLMAP's model names and parameter order"
    missing = {"model", "width", "height", "params"} - values.keys()
    if missing:
        raise InputError(f"the camera {values} has no {', '.join(sorted(missing))}; {expected}")
    try:
        made = pycolmap.Camera(
            model=str(values["model"]),
            width=int(values["width"]),
            height=int(values["height"]),
            params=[float(value) for value in values["params"]],
        )
        valid = made.verify_params()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the camera {values} is not valid ({error}); {expected}") from None
    if not valid or made.width <= 0 or made.height <= 0 or made.mean_focal_length() <= 0:
        raise InputError(
            f"the camera {values} is not valid: check size, number of parameters and focal length; {expected}"
        )
    return made


def pose_to_array(cam_from_world: pycolmap.Rigid3d) -> FloatArray:
    """(7,) qw qx qy qz tx ty tz, quaternion with qw >= 0."""
    x, y, z, w = cam_from_world.rotation.quat
    sign = -1.0 if w < 0 else 1.0
    return np.array([sign * w, sign * x, sign * y, sign * z, *cam_from_world.translation])


def pose_from_array(pose: npt.ArrayLike) -> pycolmap.Rigid3d:
    """The transform of (7,) qw qx qy qz tx ty tz."""
    w, x, y, z, *translation = np.asarray(pose, np.float64)
    quaternion = np.array([x, y, z, w])
    return pycolmap.Rigid3d(pycolmap.Rotation3d(quaternion / np.linalg.norm(quaternion)), np.array(translation))


def is_model(folder: Path) -> bool:
    """Whether a folder holds a COLMAP model, binary or text."""
    return any(
        all((folder / f"{stem}{ext}").is_file() for stem in ("cameras", "images", "points3D"))
        for ext in (".bin", ".txt")
    )


def read_model(folder: Path | str) -> pycolmap.Reconstruction:
    """Read a COLMAP model.

    Raises:
        InputError: no model there, or a damaged one.
    """
    folder = Path(folder)
    if not is_model(folder):
        raise InputError(f"{folder} has no COLMAP model; expected cameras, images and points3D as .bin or .txt")
    try:
        with quiet():
            return pycolmap.Reconstruction(folder)
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        raise InputError(f"the COLMAP model in {folder} cannot be read ({error}); make or download it again") from None


def point3D_ids(image: pycolmap.Image) -> IntArray:
    """(N,) id of the 3D point that each of the image's 2D points observes, -1 for none."""
    ids = np.full(image.num_points2D(), -1, np.int64)
    observed = image.get_observation_point2D_idxs()
    if observed:
        ids[observed] = [point.point3D_id for point in image.get_observation_points2D()]
    return ids


@contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Silence COLMAP's log below errors, unless `verbose`."""
    before = pycolmap.logging.minloglevel
    try:
        if not verbose:
            pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR.value)
        yield
    finally:
        pycolmap.logging.minloglevel = before
