"""Views along parallel light: the shadow map of the sun, and sky visibility from many of them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .atlas import Atlas
from .raster import Field, Matrix, Mesh, orthographic

FAR_M = 200.0


@dataclass(frozen=True)
class ShadowMap:
    """Depth keys seen from a direction: texel = (rotation @ world + shift)[:2] * texels_per_m."""

    keys: Field
    rotation: Matrix
    shift: Matrix
    texels_per_m: float

    def lit(self, points: NDArray, bias_m: float) -> Field:
        """1 where nothing stands between the light and points (N, 3), else 0."""
        local = points @ self.rotation.T.astype(points.dtype) + self.shift.astype(points.dtype)
        return self.lit_local(local[:, 0], local[:, 1], local[:, 2], bias_m)

    def lit_local(self, x: NDArray, y: NDArray, z: NDArray, bias_m: float) -> Field:
        """The same for points already in the light's frame, arrays of one shape."""
        shape = x.shape
        rows = -(-x.size // 1024)
        maps = []
        for values in (x, y):
            padded = np.zeros(rows * 1024, np.float32)
            padded[: x.size] = values.reshape(-1) * np.float32(self.texels_per_m) - np.float32(0.5)
            maps.append(padded.reshape(rows, 1024))
        found = cv2.remap(self.keys, maps[0], maps[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
        keys = found.reshape(-1)[: x.size].reshape(shape)
        return (keys <= (FAR_M + bias_m) - z).astype(np.float32)


def look_along(direction: Matrix) -> Matrix:
    """A rotation whose third row is the direction."""
    forward = direction / np.linalg.norm(direction)
    helper = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def shadow_map(mesh: Mesh, towards_light: Matrix, size: int, radius_m: float, atlas: Atlas | None) -> ShadowMap:
    """Everything within radius_m of the origin as the light sees it."""
    rotation = look_along(-towards_light)
    shift = np.array([radius_m, radius_m, FAR_M / 2])
    per_m = size / (2 * radius_m)
    raster = orthographic(mesh, rotation, shift, per_m, size, FAR_M, atlas)
    return ShadowMap(raster.depth_key, rotation, shift, per_m)


def sky_directions(rng: np.random.Generator, number: int) -> Matrix:
    """Unit vectors spread over the upper hemisphere, (number, 3)."""
    index = np.arange(number) + 0.5
    z = 1 - index / number * 0.93
    azimuth = index * np.pi * (3 - np.sqrt(5)) + rng.uniform(0, 2 * np.pi)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)
