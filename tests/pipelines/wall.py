"""A dataset that renders in a second: photographs of two painted walls in a corner, in the layout of Aachen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from samfeat_hloc._pycolmap import pose_to_array, pycolmap
from samfeat_hloc.formats.poses import write_poses
from tests.world import look_at

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
CAMERA_LINE = f"PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"
PIXELS_PER_METRE = 60
DATABASE = [(x, 0.3 * (i % 2), 0.4 * (i % 3)) for i, x in enumerate(np.linspace(-2.5, 2.5, 8))]
DAY = [(-1.9, 0.1, 0.9), (0.2, -0.1, 1.0), (1.7, 0.2, 0.8)]
NIGHT = [(-0.8, 0.2, 0.9), (1.0, -0.1, 0.7)]


def painted_wall(seed: int, width_m: float, height_m: float) -> np.ndarray:
    """A texture with blobs and letters at many scales."""
    rng = np.random.default_rng(seed)
    size = (int(width_m * PIXELS_PER_METRE), int(height_m * PIXELS_PER_METRE))
    wall = np.full((size[1], size[0], 3), 150, np.uint8)
    for _ in range(500):
        x, y = int(rng.integers(size[0])), int(rng.integers(size[1]))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        kind = rng.integers(3)
        if kind == 0:
            cv2.circle(wall, (x, y), int(rng.integers(2, 14)), colour, -1, cv2.LINE_AA)
        elif kind == 1:
            corner = (x + int(rng.integers(4, 30)), y + int(rng.integers(4, 20)))
            cv2.rectangle(wall, (x, y), corner, colour, -1)
        else:
            cv2.putText(
                wall, chr(65 + int(rng.integers(26))), (x, y), 0, float(rng.uniform(0.4, 1.2)), colour, 2, cv2.LINE_AA
            )
    return wall


def photograph(cam_from_world: pycolmap.Rigid3d, walls: list[np.ndarray]) -> np.ndarray:
    """The corner of two walls (planes z = 5 and x = 4 m) seen by a pinhole camera."""
    intrinsics = np.array([[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]])
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    origins = [np.array([-6.0, -3, 5]), np.array([4.0, -3, 5])]
    across = [np.array([1.0, 0, 0]), np.array([0.0, 0, -1])]
    for wall, origin, direction in zip(walls, origins, across, strict=True):
        axes = np.column_stack([direction, [0.0, 1, 0], origin])
        axes = cam_from_world.rotation.matrix() @ axes
        axes[:, 2] += cam_from_world.translation
        metres = np.array([[1 / PIXELS_PER_METRE, 0, 0], [0, 1 / PIXELS_PER_METRE, 0], [0, 0, 1]])
        homography = intrinsics @ axes @ metres
        warped = cv2.warpPerspective(wall, homography, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
        inverse = np.linalg.inv(homography)
        x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        u, v, w = np.tensordot(inverse, np.stack([x, y, np.ones_like(x)]), axes=1)
        inside = (w * inverse[2, 2] > 0) & (u / w >= 0) & (v / w >= 0)
        inside &= (u / w < wall.shape[1]) & (v / w < wall.shape[0])
        image[inside] = warped[inside]
    return image


def write_wall(root: Path) -> Path:
    """Write the dataset: 8 database, 3 day and 2 night photographs, a reference model with poses but no points."""
    walls = [painted_wall(0, 10, 6), painted_wall(1, 5, 6)]
    model, truth = pycolmap.Reconstruction(), {}
    names = {"db": DATABASE, "query/day": DAY, "query/night": NIGHT}
    for folder, centres in names.items():
        (root / "images_upright" / folder).mkdir(parents=True)
        for index, centre in enumerate(centres, 1):
            pose = look_at(centre, (0.6 * centre[0] + 0.8, 0.0, 5.0))
            image = photograph(pose, walls)
            name = f"{folder}/{folder[-1]}{index}.png"
            if folder == "query/night":
                image = (image * 0.35).astype(np.uint8)
            cv2.imwrite(str(root / "images_upright" / name), image)
            if folder != "db":
                truth[name] = pose_to_array(pose)
                continue
            params = [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]
            model.add_camera_with_trivial_rig(
                pycolmap.Camera(camera_id=index, model="PINHOLE", width=WIDTH, height=HEIGHT, params=params)
            )
            model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=index, image_id=index), pose)
    (root / "queries").mkdir()
    for condition in ("day", "night"):
        lines = [f"{name} {CAMERA_LINE}" for name in truth if f"/{condition}/" in name]
        (root / f"queries/{condition}_time_queries_with_intrinsics.txt").write_text("\n".join(lines) + "\n")
    write_poses(root / "ground_truth.txt", truth)
    folder = root / "3D-models/aachen_v_1_1"
    folder.mkdir(parents=True)
    model.write(folder)
    return root
