"""Wall, roof and wood surfaces as colour images: (H, W, 3) float32, sRGB in [0, 1]."""

import itertools

import cv2
import numpy as np

from .noise import Array, blend, cracks, fbm, smoothstep, speckle, warp

Colour = tuple[float, float, float]


def shade(base: Colour, value: Array) -> Array:
    """The colour multiplied by a field (H, W)."""
    return np.asarray(base, np.float32) * value[..., None]


def masonry(
    rng: np.random.Generator,
    height: int,
    width: int,
    ppm: float,
    course_m: float,
    block_m: float,
    base: Colour,
    mortar: Colour,
    spread: float = 0.12,
    joint_m: float = 0.012,
    jitter: float = 0.1,
    hand_made: float = 1.0,
    bond: float = 0.5,
    tint: float = 0.22,
) -> Array:
    """Courses of blocks, each with its own tone, bevelled edges and mortar joints.

    course_m and block_m are a block's height and length; jitter is their relative spread, spread the one of the tones,
    hand_made scales how far joints wander, bond is the shift of every second course in blocks, tint the spread of hues.
    """
    courses = np.cumsum(
        np.concatenate([[-rng.uniform(0, 1)], rng.normal(1, jitter, 8 + int(height / ppm / course_m * 1.4))])
    )
    courses *= course_m * ppm
    row_of = np.searchsorted(courses, np.arange(height)) - 1
    y = np.arange(height) + 0.5
    distance_y = np.minimum(y - courses[row_of], courses[row_of + 1] - y).astype(np.float32)
    number = int(row_of.max()) + 1
    x = np.arange(width) + 0.5
    tone = np.empty((number, width), np.float32)
    hue = np.empty((number, width), np.float32)
    distance_x = np.empty((number, width), np.float32)
    for row in range(number):
        lengths = np.clip(rng.normal(1, 2 * jitter, 8 + int(width / ppm / block_m * 1.6)), 0.35, 2.0)
        ends = (np.cumsum(lengths) - 2 - bond * (row % 2) - rng.uniform(0, 2 * jitter)) * block_m * ppm
        index = np.searchsorted(ends, x)
        index = np.clip(index, 1, len(ends) - 1)
        distance_x[row] = np.minimum(x - ends[index - 1], ends[index] - x)
        tones = rng.normal(0, 1, len(ends))
        tones[rng.random(len(ends)) < 0.06] -= 1.8
        tone[row] = tones[index]
        hue[row] = rng.normal(0, 1, len(ends))[index]
    edge = np.minimum(distance_x[row_of], distance_y[:, None])
    fields = np.stack([tone[row_of], hue[row_of], edge], axis=-1)
    fields = warp(rng, fields, max(4.0, block_m * ppm * 0.6), hand_made * joint_m * ppm * 0.7)
    tones, hues, edge = fields[..., 0], fields[..., 1], fields[..., 2]
    grain = fbm(rng, height, width, max(3.0, 0.06 * ppm), 3) * 0.05 + speckle(rng, height, width, 0.03)
    out = shade(base, 1.0 + spread * tones + grain)
    out[..., 0] += tint * spread * hues
    out[..., 2] -= 0.6 * tint * spread * hues
    rough = edge + fbm(rng, height, width, max(3.0, 0.08 * ppm), 2) * joint_m * ppm * 0.25
    face = smoothstep(joint_m * ppm * 0.35, joint_m * ppm * 0.8, rough)
    relief = cv2.GaussianBlur(smoothstep(0.0, joint_m * ppm * 2.2, rough), (0, 0), 0.8)
    light = relief - np.roll(relief, (1, 1), (0, 1))
    out *= (1.0 + 0.9 * light)[..., None]
    joints = shade(mortar, 1.0 + speckle(rng, height, width, 0.06) + 0.06 * fbm(rng, height, width, 0.4 * ppm, 2))
    return joints + (out - joints) * face[..., None]


def brick(rng: np.random.Generator, height: int, width: int, ppm: float, base: Colour) -> Array:
    mortar: Colour = (0.62, 0.59, 0.53) if rng.random() < 0.6 else (0.42, 0.40, 0.37)
    return masonry(rng, height, width, ppm, 0.085, 0.26, base, mortar, spread=0.17, joint_m=0.013, jitter=0.05)


def ashlar(
    rng: np.random.Generator, height: int, width: int, ppm: float, base: Colour, course_m: float = 0.34
) -> Array:
    mortar: Colour = (base[0] * 0.55, base[1] * 0.54, base[2] * 0.52)
    out = masonry(
        rng, height, width, ppm, course_m, course_m * 1.9, base, mortar, spread=0.09, joint_m=0.02, jitter=0.12
    )
    return out * (1 + 0.05 * fbm(rng, height, width, 0.8 * ppm, 4))[..., None]


def plaster(rng: np.random.Generator, height: int, width: int, ppm: float, base: Colour, worn: float = 0.5) -> Array:
    """Painted render: trowel marks, blotches, repairs, cracks, and brick showing where it has fallen off."""
    field = 1 + 0.045 * fbm(rng, height, width, 1.6 * ppm, 5) + 0.035 * fbm(rng, height, width, 0.18 * ppm, 3)
    out = shade(base, field + speckle(rng, height, width, 0.022))
    relief = fbm(rng, height, width, 0.12 * ppm, 3)
    out *= (1 + 0.05 * (relief - np.roll(relief, (1, 1), (0, 1))))[..., None]
    for _ in range(int(rng.integers(2, 6))):  # repaired patches, painted in a slightly different tone
        w, h = (rng.uniform(0.3, 1.6, 2) * ppm).astype(int)
        x, y = int(rng.integers(0, max(1, width - w))), int(rng.integers(0, max(1, height - h)))
        out[y : y + h, x : x + w] *= rng.uniform(0.88, 1.1)
    crack = cracks(rng, height, width, int(3 + 10 * worn), 0.05 * ppm)
    blend(out, (base[0] * 0.4, base[1] * 0.38, base[2] * 0.36), 0.75 * crack)
    holes = fbm(rng, height, width, 1.3 * ppm, 5, gain=0.6)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    depth = holes + 0.9 * rows**3 - (3.0 - 1.3 * worn)
    mask = smoothstep(0.0, 0.08, depth)
    if float(mask.max()) > 0.5:
        under = brick(rng, height, width, ppm, (0.56, 0.36, 0.28))
        rim = smoothstep(-0.14, 0.0, depth) * (1 - mask)
        out *= (1 + 0.12 * rim)[..., None]
        out += (under * 0.9 - out) * mask[..., None]
    return out


def weather(rng: np.random.Generator, wall: Array, ppm: float, amount: float = 1.0) -> Array:
    """In place: rain streaks, soot under the eaves, damp and moss near the ground."""
    height, width = wall.shape[:2]
    streak = fbm(rng, height, width, 0.22 * ppm, 3, stretch=9.0)
    wall *= (1 - amount * 0.1 * np.clip(streak - 0.4, 0, 2.0))[..., None]
    rows = (np.arange(height, dtype=np.float32) / ppm)[:, None]
    soot = np.exp(-rows / 0.8) * (1 + 0.5 * fbm(rng, height, width, 0.5 * ppm, 3))
    wall *= (1 - amount * 0.25 * np.clip(soot, 0, 1.5))[..., None]
    damp = np.exp(-(height / ppm - rows) / 0.45) * (1 + 0.6 * fbm(rng, height, width, 0.6 * ppm, 4))
    blend(wall, (0.24, 0.25, 0.19), np.clip(amount * 0.6 * damp, 0, 0.7).astype(np.float32))
    return wall


def roof_tiles(rng: np.random.Generator, height: int, width: int, ppm: float, base: Colour) -> Array:
    """Rows of overlapping tiles with moss, lichen and a few replaced ones."""
    out = masonry(rng, height, width, ppm, 0.26, 0.21, base, (0.1, 0.085, 0.08), spread=0.2, joint_m=0.022, jitter=0.03)
    lap = (np.arange(height, dtype=np.float32) / ppm / 0.26) % 1.0
    out *= (0.75 + 0.4 * lap)[:, None, None]
    moss = smoothstep(0.9, 1.9, fbm(rng, height, width, 1.5 * ppm, 5))
    blend(out, (0.3, 0.31, 0.18), 0.65 * moss)
    return out


def planks(rng: np.random.Generator, height: int, width: int, ppm: float, base: Colour, board_m: float = 0.14) -> Array:
    """Vertical boards with grain and gaps."""
    edges = np.arange(0, width + board_m * ppm, board_m * ppm)
    index = np.searchsorted(edges, np.arange(width) + 0.5) - 1
    tone = rng.normal(0, 0.07, len(edges) + 1).astype(np.float32)[index][None, :]
    x = np.arange(width) + 0.5 - edges[index]
    gap = smoothstep(0.0, 2.0, np.minimum(x, board_m * ppm - x).astype(np.float32))[None, :]
    grain = fbm(rng, height, width, max(2.0, 0.03 * ppm), 2, stretch=18.0) * 0.07
    return shade(base, (1 + tone + grain) * (0.45 + 0.55 * gap))


def timber_frame(
    rng: np.random.Generator,
    height: int,
    width: int,
    ppm: float,
    infill: Array,
    verticals_m: list[float],
    horizontals_m: list[float],
    base: Colour,
) -> Array:
    """Dark posts, rails and braces over an infill wall; positions in metres from the left and the top."""
    mask = np.zeros((height, width), np.uint8)
    beam = max(2, int(0.17 * ppm))

    def draw(x0: float, y0: float, x1: float, y1: float, thick: int) -> None:
        line = np.round(np.array([[x0, y0], [x1, y1]]) * ppm * 8 + rng.normal(0, 6, (2, 2))).astype(np.int32)
        cv2.line(mask, line[0].tolist(), line[1].tolist(), 255, thick, cv2.LINE_AA, shift=3)

    for x in verticals_m:
        draw(x, horizontals_m[0], x, horizontals_m[-1], beam)
    for y in horizontals_m:
        draw(0, y, width / ppm, y, int(beam * 1.15))
    for top, bottom in itertools.pairwise(horizontals_m):
        for left, right in itertools.pairwise(verticals_m):
            choice = rng.random()
            if choice < 0.22:
                draw(left, bottom, right, top, int(beam * 0.75))
            elif choice < 0.44:
                draw(left, top, right, bottom, int(beam * 0.75))
            elif choice < 0.54:
                draw(left, bottom, right, top, int(beam * 0.7))
                draw(left, top, right, bottom, int(beam * 0.7))
    weight = mask.astype(np.float32) / 255
    grain = fbm(rng, height, width, max(2.0, 0.05 * ppm), 3) * 0.14 + fbm(rng, height, width, 0.6 * ppm, 2) * 0.12
    wood = shade(base, 1 + grain + speckle(rng, height, width, 0.06))
    edge = cv2.GaussianBlur(weight, (0, 0), 2.0)
    out = infill * (1 - 0.35 * np.clip(edge - weight, 0, 1))[..., None]
    return out + (wood - out) * weight[..., None]
