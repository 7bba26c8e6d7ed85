"""Undistorted photographs, PINHOLE cameras, and the model that fits them, as other 3D programs want them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.exporting.folder import ExportFolder, posed_images
from samfeat_hloc.images import ORIENTATION_TAG
from samfeat_hloc.viewing.model_scene import PANORAMIC

JPEG_QUALITY = 96
JPEG = (".jpg", ".jpeg")
PLAIN = ("PINHOLE", "SIMPLE_PINHOLE")


def undistorted_camera(camera: pycolmap.Camera, max_image_size: int | None = None) -> pycolmap.Camera:
    """The PINHOLE camera that takes the place of a camera, without borders of unknown colour.

    Args:
        camera: any perspective camera.
        max_image_size: largest width and height in pixels.

    Raises:
        InputError: a panorama, which no pinhole camera can take.
    """
    if camera.model_name in PANORAMIC:
        raise InputError(
            f"camera {camera.camera_id} is a panorama ({camera.model_name}), which cannot be undistorted to a pinhole "
            "image; cut it into perspective views first"
        )
    found = pycolmap.undistort_camera(_options(max_image_size), camera)
    if found.model_name != "PINHOLE":
        fx, fy = found.focal_length_x, found.focal_length_y
        params = [fx, fy, found.principal_point_x, found.principal_point_y]
        found = pycolmap.Camera(model="PINHOLE", width=found.width, height=found.height, params=params)
    found.camera_id = camera.camera_id
    return found


def write_undistorted(
    model: pycolmap.Reconstruction,
    images: Path,
    folder: ExportFolder,
    *,
    max_image_size: int | None = None,
    rename: Callable[[str], str] | None = None,
) -> pycolmap.Reconstruction:
    """Write undistorted photographs to ``images/`` of an export, and undistort the model to fit them.

    Args:
        model: changed: becomes the undistorted model.
        images: folder of the photographs. They are taken as stored, whatever their EXIF orientation: that is what a
            model's cameras refer to.
        folder: the export.
        max_image_size: largest width and height in pixels.
        rename: from an image's name to that of its undistorted photograph.

    Returns:
        `model`: PINHOLE cameras, 2D points moved to where the new cameras see them; poses and 3D points as before.

    Raises:
        InputError: missing or unreadable photographs, one of another size than its camera's, or a panorama.
    """
    posed = posed_images(model, images)
    before = {key: pycolmap.Camera(camera.todict()) for key, camera in model.cameras.items()}
    used = {image.camera_id for image in posed}
    # cameras of no image too: a reader of PINHOLE cameras stops at the first that is none
    after = {
        key: undistorted_camera(camera, max_image_size)
        for key, camera in before.items()
        if key in used or camera.model_name not in PANORAMIC
    }
    written = _target_names([image.name for image in posed], rename)
    source = {written[image.name]: image for image in posed}
    sources = {f"images/{name}": (images / image.name, image.camera_id) for name, image in source.items()}

    def write(name: str, path: Path) -> None:
        original, camera_id = sources[name]
        write_photograph(original, path, before[camera_id], after[camera_id], max_image_size)

    folder.fill(sources, write, len(sources))
    for image in posed:
        _move_points(image, before[image.camera_id], after[image.camera_id])
    for key, camera in after.items():
        kept = model.cameras[key]
        kept.model, kept.width, kept.height = pycolmap.CameraModelId.PINHOLE, camera.width, camera.height
        kept.params = camera.params.tolist()
    for image in posed:
        image.name = written[image.name]
    return model


def write_photograph(
    source: Path,
    target: Path,
    camera: pycolmap.Camera,
    new_camera: pycolmap.Camera | None,
    max_image_size: int | None = None,
) -> None:
    """Write one photograph as `new_camera` sees it; as it is when that is None or no different.

    Args:
        source: the photograph.
        target: the file to write, in the format of `source`'s name.
        camera: its camera.
        new_camera: a PINHOLE camera from `undistorted_camera`.
        max_image_size: as there.

    Raises:
        InputError: an unreadable photograph, or one of another size than its camera's.
    """
    from PIL import Image

    try:
        with Image.open(source) as image:
            size, turned = image.size, int(image.getexif().get(ORIENTATION_TAG, 1)) != 1
            same = new_camera is None or (camera.model_name in PLAIN and size == (new_camera.width, new_camera.height))
            pixels = None if same and not turned else np.asarray(image.convert("RGB"))
            kind = image.format or "PNG"
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged files
        raise InputError(f"{source} cannot be read as an image ({error}); replace the file") from None
    if size != (camera.width, camera.height):
        raise InputError(
            f"{source} has {size[0]}x{size[1]} pixels and its camera {camera.width}x{camera.height}; give the "
            "photographs that the model was made from"
        )
    if pixels is None:
        shutil.copyfile(source, target)
        return
    if not same:
        bitmap, _ = pycolmap.undistort_image(_options(max_image_size), pycolmap.Bitmap.from_array(pixels), camera)
        pixels = np.asarray(bitmap.to_array())
    save_image(target, pixels, kind)


def save_image(path: Path, pixels: npt.NDArray[np.uint8], kind: str) -> None:
    """Write (H, W, 3) RGB without EXIF: an orientation in it would turn what is meant as it is stored."""
    from PIL import Image

    options: dict[str, Any] = {"quality": JPEG_QUALITY, "subsampling": 0} if kind in ("JPEG", "MPO") else {}
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, "JPEG" if kind == "MPO" else kind, **options)


def _options(max_image_size: int | None) -> pycolmap.UndistortCameraOptions:
    options = pycolmap.UndistortCameraOptions()
    if max_image_size is not None:
        options.max_image_size = max_image_size
    return options


def _target_names(names: list[str], rename: Callable[[str], str] | None) -> dict[str, str]:
    targets: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        targets[name] = target = rename(name) if rename is not None else name
        if target in taken:
            raise InputError(f"'{name}' and '{taken[target]}' would both be written as '{target}'; rename one of them")
        taken[target] = name
    return targets


def _move_points(image: pycolmap.Image, before: pycolmap.Camera, after: pycolmap.Camera) -> None:
    """Move an image's 2D points to where the undistorted camera sees them."""
    points = image.points2D
    if not len(points):
        return
    xy = np.array([point.xy for point in points], np.float64)
    rays: FloatArray = np.asarray(before.cam_from_img(xy), np.float64)
    if rays.shape[1] == 2:
        rays = np.column_stack([rays, np.ones(len(rays))])
    moved = np.asarray(after.img_from_cam(rays), np.float64)
    for point, target in zip(points, moved, strict=True):
        point.xy = target
