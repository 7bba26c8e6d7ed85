"""Random fields: the irregularity every surface of the town is made of."""

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def fbm(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale_px: float,
    octaves: int = 4,
    stretch: float = 1.0,
    gain: float = 0.55,
) -> Array:
    """Fractal noise (height, width), zero mean, about unit standard deviation.

    scale_px is the size of the largest blotch; stretch > 1 makes blotches that much taller than wide (rain streaks).
    """
    factor = 2 ** max(0, int(np.log2(max(1.0, scale_px / 6))))  # octaves are summed from coarse to fine pixels
    field = np.zeros((-(-height // factor), -(-width // factor)), np.float32)
    weight, total = 1.0, 0.0
    for octave in range(octaves):
        step = scale_px / 2**octave
        if step < 1.0:
            break
        while factor > 1 and step / factor < 4:
            factor //= 2
            field = _resize(field, -(-height // factor), -(-width // factor), cv2.INTER_LINEAR)
        across = step / factor
        rows, cols = int(np.ceil(field.shape[0] / (across * stretch))) + 3, int(np.ceil(field.shape[1] / across)) + 3
        grid = rng.standard_normal((rows, cols), dtype=np.float32)
        big = _resize(grid, int(rows * across * stretch) + 1, int(cols * across) + 1, cv2.INTER_CUBIC)
        top = int(rng.integers(0, max(1, big.shape[0] - field.shape[0])))
        left = int(rng.integers(0, max(1, big.shape[1] - field.shape[1])))
        cv2.scaleAdd(big[top : top + field.shape[0], left : left + field.shape[1]], weight, field, field)
        total += weight**2
        weight *= gain
    field *= 1.35 / np.sqrt(max(total, 1e-6))
    return field if factor == 1 else _resize(field, height, width, cv2.INTER_LINEAR)


def _resize(field: Array, height: int, width: int, how: int) -> Array:
    return np.asarray(cv2.resize(field, (width, height), interpolation=how), np.float32)


def speckle(rng: np.random.Generator, height: int, width: int, strength: float) -> Array:
    """Fine grain (height, width): one independent value a texel, from a tile repeated with random offsets."""
    tile = (rng.standard_normal((257, 263)) * strength).astype(np.float32)
    return np.tile(tile, (height // 257 + 1, width // 263 + 1))[:height, :width]


def smoothstep(low: float, high: float, x: Array) -> Array:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def warp(rng: np.random.Generator, image: NDArray, scale_px: float, amount_px: float) -> NDArray:
    """The image with its points moved by smooth noise: straight joints become hand-made ones."""
    height, width = image.shape[:2]
    dx = fbm(rng, height, width, scale_px, 2) * np.float32(amount_px)
    dy = fbm(rng, height, width, scale_px, 2) * np.float32(amount_px)
    dx += np.arange(width, dtype=np.float32)[None, :]
    dy += np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(image, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def cracks(rng: np.random.Generator, height: int, width: int, count: int, step_px: float) -> Array:
    """Mask (height, width) in [0, 1] of random cracks that wander and fork."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(count):
        point = rng.uniform((0, 0), (width, height))
        angle = rng.uniform(0, 2 * np.pi)
        starts = [(point, angle, int(rng.integers(12, 45)))]
        while starts:
            point, angle, length = starts.pop()
            line = [point]
            for _ in range(length):
                angle += rng.normal(0, 0.45)
                point = point + step_px * rng.uniform(0.5, 1.5) * np.array([np.cos(angle), np.sin(angle)])
                line.append(point)
                if rng.random() < 0.06 and length > 8:
                    starts.append((point, angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2), length // 2))
            shifted = np.round(np.array(line) * 8).astype(np.int32)
            cv2.polylines(mask, [shifted], False, 255, 1, cv2.LINE_AA, shift=3)
    return mask.astype(np.float32) / 255.0


def blend(image: Array, colour: tuple[float, float, float] | Array, weight: Array) -> None:
    """In place: image (H, W, 3) moves towards colour by weight (H, W)."""
    image += (np.asarray(colour, np.float32) - image) * weight[..., None]
