"""The start of a COLMAP database: images, their cameras (from EXIF or given) and keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap, quiet
from samfeat_hloc.colmap_database import write_images, write_keypoints
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.stage_folder import remove_database

CAMERA_MODES = tuple(pycolmap.CameraMode.__members__)


def camera_mode_from(mode: str | pycolmap.CameraMode) -> pycolmap.CameraMode:
    """COLMAP's camera mode by name.

    Raises:
        ConfigError: no such mode.
    """
    if isinstance(mode, pycolmap.CameraMode):
        return mode
    if mode not in CAMERA_MODES:
        raise ConfigError(f"there is no camera mode '{mode}'; expected one of {', '.join(CAMERA_MODES)}")
    found: pycolmap.CameraMode = pycolmap.CameraMode.__members__[mode]
    return found


def import_images(
    path: Path,
    image_dir: Path,
    names: Sequence[str],
    mode: pycolmap.CameraMode,
    image_options: Mapping[str, Any] | None,
    features: FeatureReader,
    cameras: Mapping[str, pycolmap.Camera] | None = None,
) -> None:
    """Start the database with images, cameras and keypoints, unless an earlier run got that far.

    Args:
        path: the database.
        image_dir: root of the image names.
        names: of the images.
        mode: which images share a camera, when COLMAP makes the cameras.
        image_options: fields of pycolmap's `ImageReaderOptions`.
        features: with the keypoints of all images.
        cameras: the camera of each image, instead of COLMAP's from EXIF; images with one `camera_id` share it.

    Raises:
        InputError: an image that COLMAP cannot read, one without a camera, or a camera of another size than the
            image's features.
        ConfigError: an unknown image option.
    """
    if path.exists():
        with pycolmap.Database.open(path) as database:
            complete = database.num_images() == len(names) and all(
                database.exists_keypoints(image.image_id) for image in database.read_all_images()
            )
        if complete:
            return
        remove_database(path)
    with pycolmap.Database.open(path):
        pass  # COLMAP's import wants the file to exist
    if cameras is None:
        _import_from_exif(path, image_dir, names, mode, image_options)
    with pycolmap.Database.open(path) as database:
        if cameras is not None:
            check_known(names, cameras, "the photographs", "the given cameras")
            with pycolmap.DatabaseTransaction(database):
                write_images(database, unposed_model({name: cameras[name] for name in names}))
        found = {image.name: image.image_id for image in database.read_all_images()}
        check_known(names, found, "the photographs", f"COLMAP's database; it could not read them in {image_dir}")
        _check_sizes(database, features)
        with pycolmap.DatabaseTransaction(database):
            write_keypoints(database, found, features)


def unposed_model(cameras: Mapping[str, pycolmap.Camera]) -> pycolmap.Reconstruction:
    """A model of images without poses, numbered from 1 in their order; images with one `camera_id` share a camera."""
    model = pycolmap.Reconstruction()
    for number, (name, camera) in enumerate(cameras.items(), 1):
        if camera.camera_id not in model.cameras:
            model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=name, camera_id=camera.camera_id, image_id=number)
        model.add_image_with_trivial_frame(image)
    return model


def _import_from_exif(
    path: Path,
    image_dir: Path,
    names: Sequence[str],
    mode: pycolmap.CameraMode,
    image_options: Mapping[str, Any] | None,
) -> None:
    options = pycolmap.ImageReaderOptions()
    for key, value in (image_options or {}).items():
        if key not in options.todict():
            known = ", ".join(sorted(options.todict()))
            raise ConfigError(f"there is no image option '{key}'; known: {known}")
        setattr(options, key, value)
    with quiet():
        pycolmap.import_images(path, image_dir, mode, image_names=list(names), options=options)


def _check_sizes(database: pycolmap.Database, features: FeatureReader) -> None:
    """Check that the cameras have the size of the pixels that keypoints are in.

    Raises:
        InputError: the photographs changed, or a camera is of other images.
    """
    for image in database.read_all_images():
        camera = database.read_camera(image.camera_id)
        size = features.read(image.name).image_size
        if size != (0, 0) and size != (camera.width, camera.height):  # hloc's files may have no size
            raise InputError(
                f"the features of {image.name} are of {size[0]}x{size[1]} pixels and COLMAP's camera is "
                f"{camera.width}x{camera.height}; extract the features again from these photographs"
            )
