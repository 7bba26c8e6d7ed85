"""The sky behind the roofs: gradient and clouds by day, glow and stars by night; linear light."""

from dataclasses import dataclass

import cv2
import numpy as np

from .noise import Array, fbm, smoothstep

SIZE = 768


@dataclass(frozen=True)
class Sky:
    """clouds (SIZE, SIZE) cover in [0, 1] on a plane overhead, and where the sun stands."""

    clouds: Array
    stars: Array
    towards_sun: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, towards_sun: np.ndarray) -> "Sky":
        field = fbm(rng, SIZE, SIZE, 190, 7, gain=0.6)
        clouds = smoothstep(float(rng.uniform(-0.3, 0.4)), 1.7, field)
        stars = (rng.random((SIZE, SIZE)) > 0.9985).astype(np.float32) * rng.uniform(0.2, 1, (SIZE, SIZE)).astype(
            np.float32
        )
        return Sky(clouds, cv2.GaussianBlur(stars, (0, 0), 0.6), towards_sun)

    def colour(self, directions: Array, night: bool) -> Array:
        """Radiance (N, 3) along unit directions (N, 3)."""
        z = np.clip(directions[:, 2], 0.0, 1.0)
        plane = directions[:, :2] / (z + 0.22)[:, None]
        at = (plane * np.float32(SIZE / 9.0) + np.float32(SIZE / 2)).astype(np.float32)
        rows = -(-len(z) // 1024)
        padded = np.zeros((rows * 1024, 2), np.float32)
        padded[: len(z)] = at
        grid = padded.reshape(rows, 1024, 2)

        def look(field: Array) -> Array:
            out = cv2.remap(field, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            return out.reshape(-1)[: len(z), None]

        cover = look(self.clouds)
        up = z[:, None]
        if night:
            base = np.array([0.0035, 0.0045, 0.0085]) + np.array([0.014, 0.009, 0.006]) * np.exp(-up * 4)
            return (base + cover * np.array([0.006, 0.005, 0.0045]) + 0.12 * look(self.stars) * (1 - cover)).astype(
                np.float32
            )
        blue, pale = np.array([0.20, 0.36, 0.72]), np.array([0.72, 0.82, 0.92])
        mix = np.exp(-up * 3.2)
        base = blue + (pale - blue) * mix
        towards = np.clip(directions @ self.towards_sun.astype(np.float32), 0, 1)[:, None]
        base = base * (1 + 0.5 * towards**6)
        shifted = np.clip(cover - 0.35 * look(np.roll(self.clouds, (7, 5), (0, 1))), 0, 1)
        cloud = np.array([0.62, 0.65, 0.7]) + shifted * np.array([0.75, 0.72, 0.66])
        return (base + (cloud - base) * cover**0.8).astype(np.float32)
