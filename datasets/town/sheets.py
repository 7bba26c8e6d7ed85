"""Textures shared by many small things: stone, wood, iron, leaves, water, cloth."""

from dataclasses import dataclass

import cv2
import numpy as np

from .atlas import AtlasBuilder
from .geometry import Paint
from .lettering import house_colour, random_colour, sign_board, write_text
from .materials import ashlar, planks, plaster, shade
from .names import surname
from .noise import fbm, smoothstep, speckle

SHEET_PPM = 64.0
SHEET_M = 8.0


@dataclass(frozen=True)
class Sheets:
    """Texture numbers; all but leaves, railing and ivy are SHEET_M metres a side at SHEET_PPM."""

    stone: int
    plain: int
    wood: int
    iron: int
    water: int
    leaves: list[int]
    flowers: int
    railing: int
    stripes: list[int]
    signs: list[int]
    lantern: int

    def paint(
        self,
        rng: np.random.Generator,
        kind: int,
        tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
        used_m: float = 3.0,
    ) -> Paint:
        """A random window of a sheet for things up to used_m metres high, with room to the right for a varied lathe."""
        x, y = rng.uniform(0, SHEET_PPM, 1)[0], rng.uniform(0, max(0.0, SHEET_M - used_m) * SHEET_PPM + 1e-9)
        return Paint(kind, float(x), float(y), SHEET_PPM, tint)


def make_sheets(rng: np.random.Generator, builder: AtlasBuilder) -> Sheets:
    n = int(SHEET_M * SHEET_PPM)
    stone = ashlar(rng, n, n, SHEET_PPM, (0.66, 0.63, 0.57), 0.5)
    stone *= (1 + 0.1 * fbm(rng, n, n, 60, 5))[..., None]
    plain = plaster(rng, n, n, SHEET_PPM, (0.78, 0.77, 0.75), 0.0)
    wood = planks(rng, n, n, SHEET_PPM, (0.42, 0.3, 0.2))
    iron = shade((0.17, 0.18, 0.18), 1 + 0.2 * fbm(rng, n, n, 20, 4) + speckle(rng, n, n, 0.08))
    water = shade((0.22, 0.3, 0.32), 1 + 0.22 * fbm(rng, n, n, 20, 4))
    water += (0.4 * smoothstep(1.2, 2.2, fbm(rng, n, n, 12, 3)))[..., None]
    hues = [(0.23, 0.34, 0.12), (0.3, 0.38, 0.14), (0.2, 0.3, 0.15)]
    leaves = [builder.add(leaf_card(rng, 128, 150, hue, ()), True) for hue in hues]
    petals = tuple(random_colour(rng, 150, 250) for _ in range(3))
    flowers = builder.add(leaf_card(rng, 96, 60, (0.2, 0.36, 0.12), petals), True)
    stripes = [builder.add(striped_cloth(rng, n)) for _ in range(3)]
    return Sheets(
        builder.add_colour(stone),
        builder.add_colour(plain),
        builder.add_colour(wood),
        builder.add_colour(iron),
        builder.add_colour(water),
        leaves,
        flowers,
        builder.add(railing_card(n), True),
        stripes,
        [builder.add(hanging_board(rng)) for _ in range(8)],
        builder.add(lantern_glass()),
    )


def leaf_card(
    rng: np.random.Generator,
    size: int,
    count: int,
    base: tuple[float, float, float],
    petals: tuple[tuple[int, int, int], ...],
) -> np.ndarray:
    """A twig's worth of leaves, cut out by the fourth channel, on a leaf-coloured ground."""
    card = np.zeros((size, size, 4), np.uint8)
    card[..., :3] = np.asarray(base) * 150
    for index in range(count):
        radius, angle = size * 0.43 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        at = (int(size / 2 + radius * np.cos(angle)), int(size / 2 + radius * np.sin(angle)))
        tone = np.clip(np.asarray(base) * 255 * rng.uniform(0.45, 1.7) * (0.6 + 0.5 * index / count), 0, 255)
        colour = tuple(int(c) for c in tone)
        axes = (int(rng.uniform(0.03, 0.06) * size) + 1, int(rng.uniform(0.015, 0.035) * size) + 1)
        if petals and index % 3 == 0:
            colour, axes = petals[int(rng.integers(len(petals)))], (axes[0], axes[0])
        cv2.ellipse(card, at, axes, float(rng.uniform(0, 180)), 0, 360, (*colour, 255), -1)
    return card


def hanging_board(rng: np.random.Generator) -> np.ndarray:
    """A shop's emblem, 0.75 m a side at 128 texels a metre: disc, tool and two words."""
    board = np.zeros((96, 96, 4), np.uint8)
    sign_board(rng, board, " ")
    ink = (*random_colour(rng, 150, 250), 0)
    cv2.circle(board, (48, 40), int(rng.integers(16, 26)), ink, int(rng.choice([-1, 3])), cv2.LINE_AA)
    points = rng.integers(26, 70, (int(rng.integers(3, 7)), 2)).astype(np.int32) - (0, 8)
    cv2.fillPoly(board, [cv2.convexHull(points.astype(np.int32))], (*random_colour(rng, 30, 220), 0))
    write_text(board, surname(rng), (8, 66, 88, 90), ink, 1)
    return board


def railing_card(size: int) -> np.ndarray:
    """Wrought iron one metre high: rails and bars with a scroll, cut out by the fourth channel."""
    card = np.zeros((int(SHEET_PPM), size, 4), np.uint8)
    card[..., :3] = (34, 35, 36)
    iron = (38, 40, 42, 255)
    high = card.shape[0]
    for y, thick in ((3, 5), (high - 6, 4), (high // 3, 2)):
        cv2.line(card, (0, y), (size, y), iron, thick)
    for number, x in enumerate(range(0, size, 8)):
        cv2.line(card, (x, 0), (x, high), iron, 2)
        if number % 4 == 0:
            cv2.circle(card, (x, high * 2 // 3), 7, iron, 2)
    return card


def striped_cloth(rng: np.random.Generator, size: int) -> np.ndarray:
    """Awning cloth: stripes down the slope, faded and dirty."""
    a, b = np.asarray(house_colour(rng, 70, 150), np.float32) / 255, np.array([0.86, 0.84, 0.78], np.float32)
    step = int(rng.integers(12, 26))
    on = ((np.arange(size) // step) % 2)[None, :, None]
    cloth = np.where(on, a, b) * (1 + 0.09 * fbm(rng, size, size, 50, 5) + speckle(rng, size, size, 0.03))[..., None]
    canvas = np.zeros((size, size, 4), np.uint8)
    canvas[..., :3] = np.clip(cloth * 255, 0, 255)
    return canvas


def lantern_glass() -> np.ndarray:
    """Milky panes that glow evenly."""
    return np.full((32, 32, 4), (226, 222, 206, 255), np.uint8)
