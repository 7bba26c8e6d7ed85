"""Datasets of the local-feature benchmark of 2017, as its archives unpack: DATASET/images and DATASET/database.db,
COLMAP's database of that time with the images' names and a camera for each.

Schoenberger et al., "Comparative Evaluation of Hand-Crafted and Learned Local Features", CVPR 2017.

The database is opened for reading alone, without pycolmap, which would bring it to its own version in place.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from samfeat_hloc._pycolmap import make_camera, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names
from samfeat_hloc.progress import progress

IMAGES = "images"
DATABASE = "database.db"
MODEL_NAMES = {int(value): name for name, value in pycolmap.CameraModelId.__members__.items()}


@dataclass(frozen=True)
class BenchmarkDataset:
    """One dataset, opened and checked.

    Attributes:
        root: its folder.
        cameras: of each image, by name, sorted; images with one `camera_id` share a camera. Focal lengths are those of
            the database: from EXIF where `has_prior_focal_length`, otherwise a guess.
    """

    root: Path
    cameras: dict[str, pycolmap.Camera]

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.root.resolve().name

    @property
    def image_dir(self) -> Path:
        """Root of the image names."""
        return self.root / IMAGES

    @classmethod
    def open(cls, root: Path | str) -> BenchmarkDataset:
        """Open a dataset.

        Raises:
            InputError: no database, a damaged one, or one without images; an image that is missing, unreadable, or of
                another size than its camera.
        """
        root = Path(root)
        path = root / DATABASE
        if not path.is_file():
            raise InputError(
                f"{root} has no {DATABASE}; expected the benchmark's database with cameras (Databases.tar.gz) and "
                f"{IMAGES} beside it"
            )
        dataset = cls(root, _read_cameras(path))
        for name, camera in progress(dataset.cameras.items(), total=len(dataset.cameras), desc="images", unit="image"):
            _check_image(root / IMAGES, name, camera, path)
        return dataset


def find_datasets(folder: Path | str) -> list[Path]:
    """Folders of the datasets in `folder`, sorted, or `folder` itself when it is one.

    Raises:
        InputError: no such folder, or no dataset in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the dataset {folder} does not exist; check the path")
    if (folder / DATABASE).is_file() or (folder / IMAGES).is_dir():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{DATABASE}"))
    if not found:
        raise InputError(f"{folder} has no dataset; expected {IMAGES} and {DATABASE} in it or in folders below")
    return found


def _read_cameras(path: Path) -> dict[str, pycolmap.Camera]:
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            rows = connection.execute(
                "SELECT images.name, cameras.camera_id, model, width, height, params, prior_focal_length "
                "FROM images JOIN cameras ON images.camera_id = cameras.camera_id ORDER BY images.name"
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as a COLMAP database ({error}); unpack it again") from None
    if not rows:
        raise InputError(f"{path} lists no image with a camera; unpack the benchmark's database again")
    check_names((row[0] for row in rows), str(path))
    made: dict[int, pycolmap.Camera] = {}
    for name, camera_id, model, width, height, params, prior in rows:
        if camera_id not in made:
            try:
                made[camera_id] = make_camera(
                    {
                        "model": MODEL_NAMES.get(model, str(model)),
                        "width": width,
                        "height": height,
                        "params": np.frombuffer(params, np.float64),
                    }
                )
            except (InputError, ValueError, TypeError) as error:
                raise InputError(f"{path}: the camera of {name} cannot be used: {error}") from None
            made[camera_id].camera_id = camera_id
            made[camera_id].has_prior_focal_length = bool(prior)
    return {row[0]: made[row[1]] for row in rows}


def _check_image(folder: Path, name: str, camera: pycolmap.Camera, database: Path) -> None:
    path = folder / name
    if not path.is_file():
        raise InputError(f"{database} names {name}, which is not in {folder}; unpack the images again")
    try:
        with Image.open(path) as opened:
            size = opened.size
    except Exception as error:  # Pillow raises half a dozen types on damaged files
        raise InputError(f"{path} cannot be read as an image ({error}); replace the file") from None
    if size != (camera.width, camera.height):
        raise InputError(
            f"{path} has {size[0]}x{size[1]} pixels and its camera in {DATABASE} {camera.width}x{camera.height}; take "
            "the images the database is of"
        )
