"""A street around a block, of any length: the pairs and features of so many photographs, without the photographs.

Cameras stand on a circle and look out at a wall with relief. A camera sees what some thirty others see, whatever the
number of cameras, so that everything that need not grow with its square grows with the number itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from samfeat_hloc._pycolmap import from_colmap, pycolmap
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.formats.features import Features, FeatureWriter
from samfeat_hloc.progress import progress

WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
STEP_M, WALL_M, RELIEF_M = 0.5, 6.0, 1.5
"""Between cameras; from a camera to the wall; how far the wall's points lie behind its front."""
CLUTTER = 0.2
"""Share of keypoints that no other photograph has."""
NOISE_PX, NOISE_DESCRIPTOR = 0.3, 0.02
DIMENSION = 128
FEWEST = 16

FloatArray = npt.NDArray[np.float64]


def names_of(count: int) -> list[str]:
    """Names of the photographs in the order of the street."""
    return [f"street/{number:05d}.jpg" for number in range(count)]


def camera() -> pycolmap.Camera:
    """The one camera of all photographs, whose focal length is known."""
    params = [FOCAL, WIDTH / 2, HEIGHT / 2]
    made = pycolmap.Camera(model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=params, camera_id=1)
    made.has_prior_focal_length = True
    return made


def poses(count: int) -> list[pycolmap.Rigid3d]:
    """cam_from_world of each photograph; y is down, the street's plane is y = 0."""
    found = []
    for angle in np.arange(count) * (2 * np.pi / count):
        forward = np.array([np.sin(angle), 0.0, np.cos(angle)])
        rotation = np.stack([[np.cos(angle), 0.0, -np.sin(angle)], [0.0, 1.0, 0.0], forward])
        height = np.array([0.0, 0.2 * np.sin(7 * angle), 0.0])
        found.append(pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ (radius_m(count) * forward + height)))
    return found


def radius_m(count: int) -> float:
    """Of the circle that the cameras stand on."""
    return count * STEP_M / (2 * np.pi)


def write_world(root: Path, count: int, keypoints: int, seed: int = 0) -> None:
    """Write ``images/`` (grey), ``features.h5`` and ``reference/``, a model with the true poses.

    Args:
        root: goes on where an interrupted call was.
        count: number of photographs.
        keypoints: about so many a photograph.
        seed: of everything random.

    Raises:
        ConfigError: fewer than `FEWEST` photographs or keypoints.
    """
    if min(count, keypoints) < FEWEST:
        raise ConfigError(f"{count} photographs of {keypoints} keypoints; expected at least {FEWEST} of each")
    names, placed = names_of(count), poses(count)
    (root / "images/street").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128)).save(root / "grey.jpg")
    for name in names:
        shutil.copyfile(root / "grey.jpg", root / "images" / name)
    rng = np.random.default_rng(seed)
    wall = radius_m(count) + WALL_M
    seen_m = WIDTH / FOCAL * WALL_M
    total = round(keypoints * (1 - CLUTTER) * 2 * np.pi * wall / seen_m)
    angles = np.sort(rng.uniform(0, 2 * np.pi, total))
    depth = wall + rng.uniform(0, RELIEF_M, total)
    up = rng.uniform(-0.5, 0.5, total) * HEIGHT / FOCAL * WALL_M
    points = np.column_stack([depth * np.sin(angles), up, depth * np.cos(angles)])
    described = _unit(rng.normal(size=(total, DIMENSION))).astype(np.float32)
    reach = 1.5 * seen_m / wall
    with FeatureWriter(
        root / "features.h5", {"name": "growth", "keypoints": keypoints, "seed": seed}, "none"
    ) as writer:
        for number, name in enumerate(progress(names, total=count, desc="features", unit="image")):
            if name in writer.done:
                continue
            away = (angles - number * 2 * np.pi / count + np.pi) % (2 * np.pi) - np.pi
            near = np.flatnonzero(np.abs(away) < reach)
            writer.add(name, _observe(placed[number], points[near], described[near], keypoints, seed + number))
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera())
    for number, (name, pose) in enumerate(zip(names, placed, strict=True), 1):
        model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=1, image_id=number), pose)
    (root / "reference").mkdir(exist_ok=True)
    model.write(root / "reference")


def _observe(
    pose: pycolmap.Rigid3d, points: FloatArray, described: npt.NDArray[np.float32], keypoints: int, seed: int
) -> Features:
    """Noisy features of the points in one view, and clutter, in random order."""
    rng = np.random.default_rng([seed, 1])
    in_camera = pose * points
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = in_camera[:, :2] / in_camera[:, 2:] * FOCAL + [WIDTH / 2, HEIGHT / 2]
    xy += rng.normal(0, NOISE_PX, xy.shape)
    seen = (in_camera[:, 2] > 0) & (xy > 1).all(axis=1) & (xy < [WIDTH - 1, HEIGHT - 1]).all(axis=1)
    clutter = round(CLUTTER * keypoints)
    xy = np.concatenate([xy[seen], rng.uniform([1, 1], [WIDTH - 1, HEIGHT - 1], (clutter, 2))])
    rows = np.concatenate([described[seen], _unit(rng.normal(size=(clutter, DIMENSION)))])
    rows = _unit(rows + NOISE_DESCRIPTOR * rng.normal(size=rows.shape))
    order = rng.permutation(len(xy))
    ones = np.ones(len(xy), np.float32)
    return Features(
        from_colmap(xy[order]).astype(np.float32), rows[order].astype(np.float32), ones, ones, (WIDTH, HEIGHT)
    )


def _unit(rows: npt.NDArray[np.floating]) -> FloatArray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float64)
