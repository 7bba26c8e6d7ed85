"""A room whose every pixel is known: a slanted textured wall behind a panel, photographed with depth, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
WALL = (np.array([0.25, 0.1, 1.0]), 4.0)
"""Normal and offset: normal . X = offset."""
PANEL_Z, PANEL_HALF = 2.4, 0.35
"""A square panel that faces the cameras and hides a part of the wall."""


@dataclass(frozen=True)
class Eye:
    """A pinhole camera; pixels as in the project, the centre of the top-left one at (0, 0)."""

    world_from_cam: np.ndarray
    width: int = WIDTH
    height: int = HEIGHT
    focal: float = FOCAL

    @property
    def matrix(self) -> np.ndarray:
        centre = (self.width - 1) / 2, (self.height - 1) / 2
        return np.array([[self.focal, 0, centre[0]], [0, self.focal, centre[1]], [0, 0, 1.0]])

    def world(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 3) points of the scene that pixels (N, 2) show, in closed form."""
        rays = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(self.matrix).T
        rays = rays @ self.world_from_cam[:3, :3].T
        start = self.world_from_cam[:3, 3]
        far = (WALL[1] - start @ WALL[0]) / (rays @ WALL[0])
        near = (PANEL_Z - start[2]) / rays[:, 2]
        panel = start + near[:, None] * rays
        hit = (np.abs(panel[:, :2]) < PANEL_HALF).all(axis=1) & (near > 0)
        return np.where(hit[:, None], panel, start + far[:, None] * rays)

    def project(self, world: np.ndarray) -> np.ndarray:
        local = (world - self.world_from_cam[:3, 3]) @ self.world_from_cam[:3, :3]
        return local[:, :2] / local[:, 2:] * self.focal + self.matrix[:2, 2]

    def depth(self, scale: float = 1.0) -> np.ndarray:
        """(h, w) metres along the optical axis at cell centres of a map of `scale` times the resolution."""
        width, height = round(self.width * scale), round(self.height * scale)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
        world = self.world((grid + 0.5) / scale - 0.5)
        local = (world - self.world_from_cam[:3, 3]) @ self.world_from_cam[:3, :3]
        return local[:, 2].reshape(height, width)

    def photograph(self) -> np.ndarray:
        """(H, W, 3) uint8: the texture at every pixel's scene point."""
        grid = np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), axis=-1).reshape(-1, 2)
        world = self.world(grid.astype(float))
        places = ((world[:, :2] + world[:, 2:] * 0.3) * 90 + 400).astype(np.float32)
        across, down = places.reshape(self.height, self.width, 2).transpose(2, 0, 1)
        return np.asarray(
            cv2.remap(texture(), across.copy(), down.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        )


def texture() -> np.ndarray:
    noise = np.random.default_rng(5).normal(size=(800, 800, 3)).astype(np.float32)
    fine, coarse = cv2.GaussianBlur(noise, (0, 0), 1.5), cv2.GaussianBlur(noise, (0, 0), 6)
    return (128 + 150 * fine + 500 * coarse).clip(0, 255).astype(np.uint8)


def eye(x: float, y: float = 0.0, turn_deg: float = 0.0, **camera: float) -> Eye:
    """A camera at (x, y, 0) turned about the vertical axis."""
    angle = np.radians(turn_deg)
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = x, y, 0
    return Eye(pose, **camera)  # type: ignore[arg-type]


EYES = [eye(-0.3), eye(0.0, 0.1, -6), eye(0.35, -0.05, -10), eye(0.6, 0.0, 4)]


def write_rgbd(folder: Path, eyes: list[Eye] = EYES, depth_scale: float = 0.5, colour_focal: float = FOCAL) -> Path:
    """An RGB-D folder; with another focal length for colour, as from a sensor whose cameras are not registered."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "camera-intrinsics.txt", eyes[0].matrix)
    for index, camera in enumerate(eyes):
        stem = folder / f"frame-{index:06d}"
        colour = Eye(camera.world_from_cam, camera.width, camera.height, colour_focal).photograph()
        cv2.imwrite(f"{stem}.color.png", colour[:, :, ::-1])
        cv2.imwrite(f"{stem}.depth.png", np.round(camera.depth(depth_scale) * 1000).astype(np.uint16))
        np.savetxt(f"{stem}.pose.txt", camera.world_from_cam)
    return folder


def transfer_errors(points: np.ndarray, first: Eye, second: Eye, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Distance in px of each correspondence (M, 4) from the truth, and whether its point is hidden in the second view.

    scale: pixels of the views per pixel of the cameras.
    """
    start, end = ((half + 0.5) / scale - 0.5 for half in np.split(points.astype(float), 2, axis=1))
    world = first.world(start)
    truth = second.project(world)
    hidden = np.linalg.norm(second.world(truth) - world, axis=1) > 0.05
    return np.linalg.norm(truth - end, axis=1) * scale, hidden
