"""A corner of a room with pictures on its walls, photographed exactly: what reconstructions are tried with, in seconds.

Three planes, x = 0, y = 0 and z = 0, 3 m wide, seen from the inside, where nothing hides anything.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from datasets.eth3d import ALIGNMENT, IMAGES, SCANS, VARIANTS, write_alignment
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.formats.ply import write_ply
from tests.world import look_at

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
WALL_M = 3.0
TEXELS = 600
"""Of a wall's picture a side."""
SPACING_M = 0.008
"""Between the points of a scan."""
SCANNER = np.array([2.2, 2.2, 1.5])

FloatArray = npt.NDArray[np.float64]


def camera() -> pycolmap.Camera:
    """PINHOLE."""
    return pycolmap.Camera(
        model="PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2], camera_id=1
    )


def poses(count: int) -> list[pycolmap.Rigid3d]:
    """cam_from_world of cameras on an arc, which look into the corner."""
    found = []
    for angle in np.linspace(0.45, 1.1, count):
        centre = np.array([3.4 * np.cos(angle), 1.4 + 0.5 * np.sin(7 * angle), 3.4 * np.sin(angle)])
        found.append(look_at(centre, [0.7, 0.8, 0.7]))
    return found


def render(cam_from_world: pycolmap.Rigid3d, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(H, W, 3) photograph; beyond the walls it is grey."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(columns - WIDTH / 2) / FOCAL, (rows - HEIGHT / 2) / FOCAL, np.ones_like(rows)], axis=-1)
    world_from_cam = cam_from_world.inverse()
    rays = rays @ np.asarray(world_from_cam.rotation.matrix()).T
    centre = np.asarray(world_from_cam.translation)
    with np.errstate(divide="ignore", invalid="ignore"):
        depths = np.where(rays < 0, -centre / rays, np.inf)
    nearest = depths.argmin(axis=-1)
    hit = centre + rays * depths.min(axis=-1)[..., None]
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for axis, texture in enumerate(_textures(seed)):
        u, v = (hit[..., other] / WALL_M * TEXELS - 0.5 for other in range(3) if other != axis)
        seen = cv2.remap(
            texture, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
            borderValue=(128, 128, 128),
        )  # fmt: skip
        image[nearest == axis] = seen[nearest == axis]
    return image


def surface() -> FloatArray:
    """(N, 3) points of the walls, one every `SPACING_M`."""
    steps = np.arange(SPACING_M / 2, WALL_M, SPACING_M)
    u, v = (grid.ravel() for grid in np.meshgrid(steps, steps))
    zero = np.zeros(u.size)
    return np.concatenate([np.stack(wall, axis=1) for wall in ((zero, u, v), (u, zero, v), (u, v, zero))])


def write_scene(root: Path, count: int = 7) -> Path:
    """The corner in ETH3D's layout."""
    calibration, folder = VARIANTS["undistorted"]
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera())
    (root / IMAGES / folder).mkdir(parents=True)
    for index, pose in enumerate(poses(count), 1):
        name = f"{folder}/{index}.png"
        cv2.imwrite(str(root / IMAGES / name), render(pose))
        model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=1, image_id=index), pose)
    (root / calibration).mkdir()
    model.write_text(root / calibration)
    for extra in ("rigs.txt", "frames.txt"):
        (root / calibration / extra).unlink(missing_ok=True)
    world_from_scan = np.eye(4)
    world_from_scan[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    world_from_scan[:3, 3] = SCANNER
    (root / SCANS).mkdir()
    write_ply(root / SCANS / "scan1.ply", ((surface() - SCANNER) @ world_from_scan[:3, :3]).astype(np.float32))
    write_alignment(root / SCANS / ALIGNMENT, [("scan1.ply", world_from_scan)])
    return root


def write_collection(root: Path, count: int = 7) -> Path:
    """The corner in the layout of the local-feature benchmark, with a database of COLMAP's version of 2017."""
    (root / IMAGES).mkdir(parents=True)
    connection = sqlite3.connect(root / "database.db")
    connection.execute(
        "CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL, "
        "width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL)"
    )
    connection.execute(
        "CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE, "
        "camera_id INTEGER NOT NULL, prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL, prior_tx REAL, "
        "prior_ty REAL, prior_tz REAL)"
    )
    for index, pose in enumerate(poses(count), 1):
        cv2.imwrite(str(root / IMAGES / f"{index}.png"), render(pose))
        params = np.array([1.03 * FOCAL, WIDTH / 2, HEIGHT / 2, 0.0])  # SIMPLE_RADIAL, as EXIF would have it
        connection.execute(
            "INSERT INTO cameras VALUES (?, 2, ?, ?, ?, ?)", (index, WIDTH, HEIGHT, params.tobytes(), index % 2)
        )
        connection.execute("INSERT INTO images (name, camera_id) VALUES (?, ?)", (f"{index}.png", index))
    connection.commit()
    connection.close()
    return root


@lru_cache
def _textures(seed: int) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [_texture(rng) for _ in range(3)]


def _texture(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Overlapping rectangles of many sizes."""
    image = np.full((TEXELS, TEXELS, 3), 128, np.uint8)
    for size in (160, 80, 40):
        for _ in range(round(2.5 * (TEXELS / size) ** 2)):
            corner = rng.integers(-size // 2, TEXELS, 2)
            extent = rng.integers(size // 3, size, 2)
            colour = [int(value) for value in rng.integers(0, 256, 3)]
            cv2.rectangle(image, corner.tolist(), (corner + extent).tolist(), colour, -1)
    return image
