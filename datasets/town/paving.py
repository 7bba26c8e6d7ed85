"""The ground: setts laid in courses, rings around the monument, pavements, drains, stains and fallen leaves."""

import cv2
import numpy as np

from .materials import masonry
from .noise import Array, blend, cracks, fbm, smoothstep


def setts(rng: np.random.Generator, height: int, width: int, ppm: float, course: float = 0.15) -> Array:
    """Small hewn stones in wandering courses: (H, W, 3) in [0, 1]."""
    base = (0.47 + rng.normal(0, 0.02), 0.45, 0.42)
    out = masonry(
        rng,
        height,
        width,
        ppm,
        course,
        course * 1.15,
        base,
        (0.24, 0.22, 0.19),
        spread=0.16,
        joint_m=0.02,
        jitter=0.09,
        hand_made=1.6,
        tint=0.1,
    )
    return out * (1 + 0.07 * fbm(rng, height, width, 3.0 * ppm, 5))[..., None]


def square_paving(rng: np.random.Generator, size_m: float, ppm: float, middle: tuple[float, float]) -> Array:
    """The square's ground, size_m a side; middle is the monument in metres from the texture's top left."""
    n = round(size_m * ppm)
    out = setts(rng, n, n, ppm)
    axis = (np.arange(n, dtype=np.float32) + 0.5) / ppm
    radius = np.hypot(axis[None, :] - middle[0], axis[:, None] - middle[1]).astype(np.float32)
    for centre, half in ((5.0, 0.25), (8.2, 0.18), (12.0, 0.3)):
        band = smoothstep(half + 0.03, half, np.abs(radius - centre + rng.normal(0, 0.2)))
        blend(out, out * np.float32(1.45) + np.float32(0.02), band * 0.8)
    for _ in range(3):  # bands of slabs across the square
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-4, 4)
        distance = np.abs(
            (axis[None, :] - middle[0]) * np.cos(angle) + (axis[:, None] - middle[1]) * np.sin(angle) - offset
        )
        blend(
            out, out * np.array([1.3, 1.18, 1.05], np.float32), smoothstep(0.2, 0.17, distance.astype(np.float32)) * 0.8
        )
    wet = smoothstep(1.0, 2.2, fbm(rng, n, n, 4.0 * ppm, 5))
    out *= (1 - 0.3 * wet)[..., None]
    worn = smoothstep(0.8, 2.0, fbm(rng, n, n, 2.2 * ppm, 4))
    blend(out, (0.5, 0.47, 0.41), 0.25 * worn)
    moss = smoothstep(1.4, 2.3, fbm(rng, n, n, 1.6 * ppm, 5))
    blend(out, (0.27, 0.32, 0.16), 0.45 * moss)
    picture = np.clip(out * 255, 0, 255).astype(np.uint8)
    litter(rng, picture, ppm)
    return picture.astype(np.float32) / 255


def litter(rng: np.random.Generator, picture: np.ndarray, ppm: float) -> None:
    """In place: manhole covers, gutters, repaired trenches, gum, leaves, paper."""
    n = picture.shape[0]
    for _ in range(12):  # trenches filled with asphalt or other stones
        a = rng.uniform(0, n, 2)
        b = a + rng.normal(0, 4.0 * ppm, 2)
        points = np.round(np.stack([a, b]) * 8).astype(np.int32)
        mask = np.zeros((n, n), np.uint8)
        cv2.line(
            mask, points[0].tolist(), points[1].tolist(), 255, int(rng.uniform(0.25, 0.7) * ppm), cv2.LINE_AA, shift=3
        )
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            continue
        part = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        weight = mask[part].astype(np.float32)[..., None] / 255 * rng.uniform(0.35, 0.8)
        tone = np.array([70, 68, 66], np.float32) * rng.uniform(0.8, 1.5)
        picture[part] = (picture[part] * (1 - weight) + tone * weight).astype(np.uint8)
    for _ in range(14):
        x, y = rng.uniform(0.05 * n, 0.95 * n, 2).astype(int).tolist()
        half = int(rng.uniform(0.25, 0.36) * ppm)
        if rng.random() < 0.6:
            cv2.circle(picture, (x, y), half + 4, (112, 108, 100), -1, cv2.LINE_AA)
            cv2.circle(picture, (x, y), half, (58, 54, 52), -1, cv2.LINE_AA)
            for k in range(int(rng.integers(3, 7))):
                cv2.circle(picture, (x, y), int(half * (k + 1) / 7), (96, 92, 86), 1, cv2.LINE_AA)
            cv2.line(picture, (x - half, y), (x + half, y), (100, 96, 90), 2)
        else:
            cv2.rectangle(picture, (x - half, y - half), (x + half, y + half), (60, 58, 55), -1)
            for k in range(-half + 3, half - 2, 6):
                cv2.line(picture, (x + k, y - half + 3), (x + k, y + half - 3), (22, 22, 22), 2)
    for _ in range(2600):
        x, y = rng.integers(0, n, 2).tolist()
        kind = rng.random()
        if kind < 0.55:
            colour = (int(rng.integers(95, 190)), int(rng.integers(70, 130)), int(rng.integers(20, 60)))
            cv2.ellipse(
                picture,
                (x, y),
                (int(rng.integers(2, 5)), int(rng.integers(1, 3))),
                float(rng.uniform(0, 180)),
                0,
                360,
                colour,
                -1,
            )
        elif kind < 0.93:
            grey = int(rng.choice([40, 150, 165]))
            cv2.circle(picture, (x, y), int(rng.integers(1, 3)), (grey, grey, grey), -1, cv2.LINE_AA)
        else:
            cv2.rectangle(
                picture, (x, y), (x + int(rng.integers(3, 8)), y + int(rng.integers(3, 7))), (222, 218, 206), -1
            )


def slabs(rng: np.random.Generator, height: int, width: int, ppm: float) -> Array:
    """A pavement of large worn slabs."""
    out = masonry(
        rng, height, width, ppm, 0.55, 0.8, (0.58, 0.56, 0.52), (0.3, 0.29, 0.26), spread=0.08, joint_m=0.02, jitter=0.1
    )
    out *= (1 + 0.08 * fbm(rng, height, width, 0.9 * ppm, 5))[..., None]
    blend(out, (0.25, 0.24, 0.22), 0.6 * cracks(rng, height, width, 8, 0.06 * ppm))
    spots = smoothstep(1.5, 2.2, fbm(rng, height, width, 0.3 * ppm, 3))
    return out * (1 - 0.35 * spots)[..., None]
