"""MegaDepth as it is downloaded and undistorted, in the folders that D2-Net's and LoFTR's preprocessing work on.

    ROOT/phoenix/S6/zl548/MegaDepth_v1/SCENE/denseN/
        imgs/NAME.jpg              undistorted photographs
        depths/NAME.h5             data set "depth" (h, w) float, in the units of the reconstruction; <= 0: none
    and the reconstruction the depth belongs to, a COLMAP model with pinhole cameras, at the first of
        denseN/sparse                                            a COLMAP workspace of its own
        ROOT/Undistorted_SfM/SCENE/sparse, with images beside    made by COLMAP's image_undistorter, as D2-Net does
        ROOT/MegaDepth_v1_SfM/SCENE/sparse/manhattan/N           as downloaded; its cameras have lenses and most are
                                                                 left out: undistort it for full use

ROOT may also be the folder MegaDepth_v1 or hold it directly. A photograph of another size than its model says or than
its depth map is used when all have the same shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import from_colmap, is_model, pycolmap, read_model
from samfeat_hloc.errors import InputError

DEPTH_ROOTS = ("phoenix/S6/zl548/MegaDepth_v1", "MegaDepth_v1", ".")


@dataclass(frozen=True)
class Workspace:
    """One dense reconstruction of a scene.

    Attributes:
        name: SCENE/denseN.
        images: folder of its photographs.
        depths: folder of its depth maps.
        model: folder of its COLMAP model.
    """

    name: str
    images: Path
    depths: Path
    model: Path


@dataclass(frozen=True)
class PosedImage:
    """One registered photograph that has a depth map.

    Attributes:
        name: SCENE/denseN/IMAGE.
        path: of the photograph.
        depth: of the depth map.
        camera_size: width and height that the intrinsics are for.
        matrix: (3, 3) intrinsics, the centre of the top-left pixel at (0, 0); None for a camera with a lens.
        world_from_cam: (4, 4).
    """

    name: str
    path: Path
    depth: Path
    camera_size: tuple[int, int]
    matrix: npt.NDArray[np.float64] | None
    world_from_cam: npt.NDArray[np.float64]


def list_workspaces(root: Path | str) -> list[Workspace]:
    """Every dense reconstruction that has a model.

    Raises:
        InputError: no SCENE/denseN/depths there, or none of them with a model.
    """
    root = Path(root)
    base = next((root / part for part in DEPTH_ROOTS if any((root / part).glob("*/dense*/depths"))), None)
    if base is None:
        raise InputError(f"{root} has no SCENE/denseN/depths; expected MegaDepth_v1 as it is downloaded")
    found = []
    for depths in sorted(base.glob("*/dense*/depths")):
        dense, scene = depths.parent, depths.parent.parent.name
        own = dense / "imgs" if (dense / "imgs").is_dir() else dense / "images"
        undistorted = root / "Undistorted_SfM" / scene
        number = dense.name.removeprefix("dense")
        candidates = (
            (dense / "sparse", own),
            (undistorted / "sparse", undistorted / "images"),
            (root / "MegaDepth_v1_SfM" / scene / "sparse" / "manhattan" / number, own),
        )
        for model, images in candidates:
            if is_model(model):
                found.append(Workspace(f"{scene}/{dense.name}", images, depths, model))
                break
    if not found:
        raise InputError(f"{base} has depth maps and no COLMAP model for them; expected SCENE/denseN/sparse")
    return found


def list_images(workspace: Workspace) -> list[PosedImage]:
    """The photographs of a workspace that have a depth map, by name.

    Raises:
        InputError: a damaged model.
    """
    model = read_model(workspace.model)
    found = []
    for image in sorted(model.images.values(), key=lambda image: str(image.name)):
        depth = workspace.depths / f"{Path(image.name).stem}.h5"
        if not depth.is_file() or not image.has_pose:
            continue
        camera = model.cameras[image.camera_id]
        world_from_cam = np.eye(4)
        world_from_cam[:3] = image.cam_from_world().inverse().matrix()
        found.append(
            PosedImage(
                f"{workspace.name}/{image.name}",
                workspace.images / image.name,
                depth,
                (camera.width, camera.height),
                _pinhole(camera),
                world_from_cam,
            )
        )
    return found


def read_depth(path: Path) -> npt.NDArray[np.float32]:
    """(h, w) depth, 0 for none.

    Raises:
        InputError: no such file, a damaged one, or no map in it.
    """
    try:
        with h5py.File(path, "r") as file:
            depth = np.asarray(file["depth"][()], np.float32)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f'{path} cannot be read as a depth map ({error}); expected an h5 file with "depth"') from None
    if depth.ndim != 2:
        raise InputError(f"{path} holds depth of shape {depth.shape}; expected (h, w)")
    usable = np.isfinite(depth) & (depth > 0)
    return np.where(usable, depth, np.float32(0))


def _pinhole(camera: pycolmap.Camera) -> npt.NDArray[np.float64] | None:
    if not camera.is_undistorted():
        return None
    matrix = np.array(camera.calibration_matrix(), np.float64)
    matrix[:2, 2] = from_colmap(matrix[None, :2, 2])[0]
    return matrix
