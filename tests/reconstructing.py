"""A synthetic world reconstructed, as the tests of reconstruction do it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from samfeat_hloc import reconstruction
from samfeat_hloc._pycolmap import pycolmap
from tests.world import HEIGHT, PARAMS, WIDTH, World, make_world

IMAGE_OPTIONS = {"camera_model": "SIMPLE_RADIAL", "camera_params": ",".join(map(str, PARAMS))}


def photographed_world(root: Path) -> World:
    """A world whose database photographs are files, grey all over."""
    made = make_world(root, num_points=700, num_queries=1)
    for name in made.database:
        path = made.images / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    return made


def reconstruct(world: World, sfm: Path, **options: object) -> pycolmap.Reconstruction:
    given: dict = {"pairs": world.pairs_db, "camera_mode": "SINGLE", "image_options": IMAGE_OPTIONS, **options}
    return reconstruction.main(sfm, world.images, features=world.features, matches=world.matches_db, **given)


def centres(model: pycolmap.Reconstruction) -> dict[str, np.ndarray]:
    return {image.name: image.projection_center() for image in model.images.values() if image.has_pose}


def worst_error(world: World, model: pycolmap.Reconstruction) -> float:
    """Largest distance of a camera from its true place after similarity alignment."""
    found = centres(model)
    truth = np.stack([world.poses[name].inverse().translation for name in found])
    aligned = pycolmap.estimate_sim3d(np.stack(list(found.values())), truth)
    return float(np.linalg.norm([aligned * place for place in found.values()] - truth, axis=1).max())
