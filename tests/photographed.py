"""A model with exact cameras and photographs that show its points as coloured discs where the cameras say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from samfeat_hloc._pycolmap import pycolmap
from tests.world import look_at, make_points

WIDTH, HEIGHT, FOCAL = 320, 240, 260.0
NAMES = ("left/a.jpg", "left/b.jpg", "right/c.jpg", "right/d & <b>e.jpg")
RADIUS_PX = 4
CAMERA_MODELS = {
    "SIMPLE_RADIAL": (FOCAL, WIDTH / 2, HEIGHT / 2, -0.08),
    "OPENCV": (FOCAL, FOCAL * 1.02, WIDTH / 2 + 4, HEIGHT / 2 - 3, -0.1, 0.02, 0.001, -0.002),
    "OPENCV_FISHEYE": (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, 0.02, -0.01, 0.0, 0.0),
    "PINHOLE": (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2),
    "FOV": (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, 0.4),
}


@dataclass
class Photographed:
    """Where it lies, and what is in it."""

    root: Path
    model: Path
    images: Path
    reconstruction: pycolmap.Reconstruction

    def projections(self, image: pycolmap.Image) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Ids of the observed points, and where the model's own camera puts them (COLMAP's pixels)."""
        ids = np.array([point.point3D_id for point in image.get_observation_points2D()])
        xyz = np.array([self.reconstruction.points3D[int(key)].xyz for key in ids])
        return ids, np.asarray(image.camera.img_from_cam(image.cam_from_world() * xyz))


def make_photographed(
    root: Path,
    camera_models: tuple[str, ...] = ("SIMPLE_RADIAL",),
    *,
    names: tuple[str, ...] = NAMES,
    num_points: int = 60,
    coloured: bool = True,
    seed: int = 3,
) -> Photographed:
    """Write a model and its photographs; cameras take turns among the images."""
    rng = np.random.default_rng(seed)
    points = make_points(num_points, rng)
    colours = rng.integers(60, 256, (num_points, 3))
    model = pycolmap.Reconstruction()
    for index, kind in enumerate(camera_models):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                model=kind, width=WIDTH, height=HEIGHT, params=list(CAMERA_MODELS[kind]), camera_id=index + 1
            )
        )
    tracks: dict[int, list[tuple[int, int]]] = {}
    for index, name in enumerate(names):
        camera = model.cameras[index % len(camera_models) + 1]
        pose = look_at([3 * (index / max(len(names) - 1, 1) - 0.5), 0.2 * index, -1.0], [0, 0, 8])
        in_camera = pose * points
        xy = np.asarray(camera.img_from_cam(in_camera))
        margin = RADIUS_PX + 2
        inside = (
            (xy > margin).all(axis=1) & (xy < [WIDTH - margin, HEIGHT - margin]).all(axis=1) & (in_camera[:, 2] > 0)
        )
        seen = np.flatnonzero(inside)
        image = pycolmap.Image(name=name, keypoints=xy[seen], camera_id=camera.camera_id, image_id=index + 1)
        model.add_image_with_trivial_frame(image, pose)
        for position, point in enumerate(seen.tolist()):
            tracks.setdefault(point, []).append((index + 1, position))
        _paint(root / "images" / name, xy[seen], colours[seen], in_camera[seen, 2])
    for point, elements in sorted(tracks.items()):
        track = pycolmap.Track()
        for image_id, position in elements:
            track.add_element(image_id, position)
        colour = colours[point] if coloured else np.zeros(3)
        model.add_point3D(points[point], track, colour.astype(np.uint8))
    (root / "model").mkdir(parents=True)
    model.write(root / "model")
    return Photographed(root, root / "model", root / "images", pycolmap.Reconstruction(root / "model"))


def _paint(
    path: Path, xy: npt.NDArray[np.float64], colours: npt.NDArray[np.int64], depth: npt.NDArray[np.float64]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (WIDTH, HEIGHT), (24, 30, 40))
    draw = ImageDraw.Draw(picture)
    for index in np.argsort(-depth):
        x, y = xy[index] - 0.5  # Pillow has the centre of the top-left pixel at (0, 0)
        draw.ellipse([x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX, y + RADIUS_PX], fill=tuple(colours[index].tolist()))
    picture.save(path, quality=97, subsampling=0)
