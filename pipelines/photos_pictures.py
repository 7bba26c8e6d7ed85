"""Pictures of a model: from above, and pairs of its photographs with the points they share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from pipelines.pictures import FloatArray, Image, draw_map, draw_matches, write_image
from samfeat_hloc._pycolmap import from_colmap, pycolmap, read_model
from samfeat_hloc.images import read_image, stored_size, to_stored_pixels

INVERSE = {6: 8, 8: 6}
"""EXIF orientations that undo each other; every other one undoes itself."""


def draw(root: Path, model_folder: Path, out: Path, count: int) -> list[str]:
    """Draw the model from above and ``count`` pairs of photographs, into MODEL_FOLDER/pictures.

    Returns:
        the pictures' paths below `out`.
    """
    model = read_model(model_folder)
    folder = model_folder / "pictures"
    write_image(folder / "map.png", model_picture(model))
    written = [folder / "map.png"]
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    drawn: set[frozenset[str]] = set()
    for image in images[:: max(1, len(images) // max(count, 1))]:
        other = nearest_partner(model, image)
        if other is None or frozenset((image.name, other.name)) in drawn or len(drawn) == count:
            continue
        drawn.add(frozenset((image.name, other.name)))
        written.append(folder / f"pair-{len(drawn)}.png")
        write_image(written[-1], pair_picture(root, image, other))
    return [str(path.relative_to(out)) for path in written]


def model_picture(model: pycolmap.Reconstruction) -> Image:
    """The points and cameras of a model from above; up is against the mean of the photographs' downward axes."""
    images = [image for image in model.images.values() if image.has_pose]
    centres = np.array([image.projection_center() for image in images])
    rotations = np.array([image.cam_from_world().rotation.matrix() for image in images])
    points = np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3)
    views = [(centre, rotation[2]) for centre, rotation in zip(centres, rotations, strict=True)]
    return draw_map(points, centres, {"photographs": views}, np.zeros((0, 3)), -rotations[:, 1].mean(axis=0))


def nearest_partner(model: pycolmap.Reconstruction, image: pycolmap.Image) -> pycolmap.Image | None:
    """The photograph that shares most points with another one; None when none does."""
    partners: Counter[int] = Counter()
    for point in image.get_observation_points2D():
        partners.update({element.image_id for element in model.points3D[point.point3D_id].track.elements})
    del partners[image.image_id]
    return model.images[partners.most_common(1)[0][0]] if partners else None


def pair_picture(root: Path, image: pycolmap.Image, other: pycolmap.Image) -> Image:
    """Two photographs side by side, upright, with the points they share."""
    theirs = {point.point3D_id: point.xy for point in other.get_observation_points2D()}
    mine = {point.point3D_id: point.xy for point in image.get_observation_points2D()}
    shared = [key for key in mine if key in theirs]
    left, right = read_image(root / image.name), read_image(root / other.name)
    return draw_matches(
        left[0],
        right[0],
        to_upright(from_colmap([mine[key] for key in shared]), *left),
        to_upright(from_colmap([theirs[key] for key in shared]), *right),
        to_upright(from_colmap(list(mine.values())), *left),
        f"{image.name} and {other.name}: {len(shared)} common points of {len(mine)} and {len(theirs)}",
    )


def to_upright(points: FloatArray, upright: Image, orientation: int) -> FloatArray:
    """(N, 2) stored pixels in those of the photograph turned upright, an (H, W, 3) array."""
    width, height = stored_size((upright.shape[1], upright.shape[0]), orientation)
    upright_size = (height, width) if (upright.shape[1], upright.shape[0]) != (width, height) else (width, height)
    turned = to_stored_pixels(points.astype(np.float32), INVERSE.get(orientation, orientation), *upright_size)
    return turned.astype(np.float64)
