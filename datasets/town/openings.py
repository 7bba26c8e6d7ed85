"""Windows, shop fronts and doors painted into a wall's canvas: (H, W, 4) uint8, the fourth channel glows at night."""

from dataclasses import dataclass

import cv2
import numpy as np

from .lettering import FONTS, Canvas, house_colour, random_colour, write_text
from .noise import fbm

Tint = tuple[int, int, int]


@dataclass(frozen=True)
class Joinery:
    """How all windows of one house are made."""

    colour: Tint
    columns: int
    rows: int
    transom: float  # height of the cross bar from the top, as a share; 0 for none
    curtain: Tint


def random_joinery(rng: np.random.Generator) -> Joinery:
    colours: list[Tint] = [(232, 230, 222), (225, 218, 200), (86, 62, 44), (52, 66, 58), (120, 40, 36), (60, 72, 92)]
    return Joinery(
        colours[int(rng.choice(6, p=[0.38, 0.2, 0.16, 0.1, 0.08, 0.08]))],
        int(rng.choice([1, 2, 2, 3])),
        int(rng.integers(1, 5)),
        float(rng.choice([0.0, 0.28, 0.33])),
        (230, 224, 210),
    )


def glass(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """Panes that mirror the sky above and the dark roofs across the square below."""
    v = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    sky = np.array([128, 150, 172], np.float32) * rng.uniform(0.55, 1.0)
    room = np.array([30, 33, 36], np.float32) * rng.uniform(0.6, 1.5)
    skyline = rng.uniform(0.1, 0.6) + 0.25 * fbm(rng, 1, width, max(4.0, width / 2.5), 3, gain=0.7)
    mix = np.clip((skyline - v) * 12, 0, 1) * (1 - 0.4 * v)
    out = room + (sky - room) * mix[..., None]
    out *= (1 + 0.06 * fbm(rng, height, width, max(4.0, width / 3), 3))[..., None]
    canvas = np.zeros((height, width, 4), np.uint8)
    canvas[..., :3] = np.clip(out, 0, 255)
    canvas[..., 3] = 90
    return canvas


def curtain(rng: np.random.Generator, pane: Canvas, colour: Tint) -> None:
    """Draw what hangs or stands behind the glass; every window gets its own."""
    height, width = pane.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    folds = 0.8 + 0.2 * np.sin(x * rng.uniform(0.25, 0.6) + rng.uniform(0, 6) + 0.01 * y) * np.ones_like(y)
    kind = int(rng.integers(0, 7))
    reach = rng.uniform(0.12, 0.34) * width
    if kind <= 1:  # drawn to both sides, perhaps gathered half way down
        narrow = reach * (0.65 + 0.35 * np.abs(y / height - rng.uniform(0.5, 0.8)) * 2) if kind else reach + 0 * y
        mask = (x < narrow) | (x > width - narrow * rng.uniform(0.7, 1.2))
    elif kind == 2:
        mask = (y < rng.uniform(0.2, 0.85) * height) & (x >= 0)  # roller blind
        folds = 0.92 + 0.08 * (y % max(4.0, height / 18) < 2) * np.ones_like(x)
    elif kind == 3:
        mask = (y > rng.uniform(0.45, 0.7) * height) & (x >= 0)  # café curtain
    elif kind == 4:
        mask = (x < rng.uniform(0.3, 0.7) * width) & (y >= 0)
    elif kind == 5:
        mask = np.ones((height, width), bool)
    else:
        mask = np.zeros((height, width), bool)
    tone = np.asarray(colour if rng.random() < 0.65 else house_colour(rng, 90, 220), np.float32) * rng.uniform(
        0.45, 0.8
    )
    drawn = folds[..., None] * tone
    pane[..., :3] = np.where(mask[..., None], np.clip(drawn, 0, 255), pane[..., :3])
    pane[..., 3] = np.where(mask, 235, pane[..., 3])
    if rng.random() < 0.45:  # things on the sill inside
        for _ in range(int(rng.integers(1, 4))):
            cx, h = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.08, 0.3) * height)
            w = int(rng.uniform(0.05, 0.12) * width) + 1
            colour_thing = (*random_colour(rng, 40, 200), 40)
            if rng.random() < 0.5:
                cv2.ellipse(
                    pane, (cx, height - h), (w * 2, h // 2 + 1), 0, 0, 360, (48, int(rng.integers(70, 110)), 44, 20), -1
                )
            cv2.rectangle(pane, (cx - w, height - h // 2), (cx + w, height), colour_thing, -1)


def paint_window(rng: np.random.Generator, view: Canvas, ppm: float, joinery: Joinery) -> None:
    """Glass, curtains, frame, bars and the shadow of the reveal, over the whole of view."""
    height, width = view.shape[:2]
    view[...] = glass(rng, height, width)
    curtain(rng, view, joinery.curtain)
    frame = (*joinery.colour, 0)
    shadow = (*tuple(int(c * 0.55) for c in joinery.colour), 0)
    bar, thin = max(2, int(0.055 * ppm)), max(1, int(0.028 * ppm))

    def line(x0: float, y0: float, x1: float, y1: float, thick: int) -> None:
        a, b = (int(x0), int(y0)), (int(x1), int(y1))
        cv2.line(view, (a[0] + 1, a[1] + 1), (b[0] + 1, b[1] + 1), shadow, thick + 1)
        cv2.line(view, a, b, frame, thick)

    top = joinery.transom * height
    if joinery.transom:
        line(0, top, width, top, bar)
    for column in range(1, joinery.columns):
        x = column * width / joinery.columns
        line(x, 0 if column % 2 else top, x, height, bar)
    for row in range(1, joinery.rows):
        y = top + row * (height - top) / joinery.rows
        line(0, y, width, y, thin)
    cv2.rectangle(view, (0, 0), (width - 1, height - 1), frame, max(2, int(0.07 * ppm)))
    ramp = np.clip(0.55 + np.arange(height) / (0.25 * ppm), 0, 1)[:, None]
    view[..., :3] = (view[..., :3] * ramp[..., None]).astype(np.uint8)
    wear = 1 + 0.05 * fbm(rng, height, width, max(4.0, 0.2 * ppm), 3)
    view[..., :3] = np.clip(view[..., :3] * wear[..., None], 0, 255)


def paint_shop_window(rng: np.random.Generator, view: Canvas, ppm: float, colour: Tint, text: str) -> None:
    """A large pane with shelves of goods behind it and lettering on the glass."""
    height, width = view.shape[:2]
    view[...] = glass(rng, height, width)
    view[..., :3] = view[..., :3] // 2 + 22
    view[..., 3] = 110
    shelves = int(rng.integers(2, 5))
    for shelf in range(shelves):
        floor = int(height * (0.45 + 0.52 * (shelf + 1) / shelves))
        depth = 0.5 + 0.5 * (shelf + 1) / shelves
        x = rng.uniform(0, 0.1) * ppm
        while x < width - 4:
            w, h = rng.uniform(0.05, 0.3) * ppm, rng.uniform(0.08, 0.42) * ppm * (0.7 + 0.3 / shelves)
            tone = (*(int(c * depth) for c in random_colour(rng, 70, 245)), int(rng.integers(130, 230)))
            if rng.random() < 0.35:
                cv2.ellipse(
                    view,
                    (int(x + w / 2), int(floor - h / 2)),
                    (int(w / 2) + 1, int(h / 2) + 1),
                    0,
                    0,
                    360,
                    tone,
                    -1,
                    cv2.LINE_AA,
                )
            else:
                cv2.rectangle(view, (int(x), int(floor - h)), (int(x + w), floor), tone, -1)
                if rng.random() < 0.5:
                    cv2.rectangle(
                        view,
                        (int(x + w * 0.2), int(floor - h * 0.7)),
                        (int(x + w * 0.8), int(floor - h * 0.4)),
                        (235, 230, 215, 220),
                        -1,
                    )
            x += w + rng.uniform(0.0, 0.16) * ppm
        cv2.line(view, (0, floor), (width, floor), (66, 52, 42, 60), max(1, int(0.03 * ppm)))
    if rng.random() < 0.7:
        write_text(
            view,
            text,
            (int(0.1 * width), int(0.08 * height), int(0.9 * width), int(0.3 * height)),
            (240, 226, 170, 160),
            int(rng.choice(FONTS)),
        )
    frame = (*colour, 0)
    for column in range(1, int(rng.integers(1, 4))):
        x = int(column * width / 3)
        cv2.line(view, (x, 0), (x, height), frame, max(2, int(0.05 * ppm)))
    cv2.rectangle(view, (0, 0), (width - 1, height - 1), frame, max(2, int(0.09 * ppm)))
    wear = 1 + 0.06 * fbm(rng, height, width, 0.5 * ppm, 4)
    view[..., :3] = np.clip(view[..., :3] * wear[..., None], 0, 255)


def paint_door(rng: np.random.Generator, view: Canvas, ppm: float, colour: Tint) -> None:
    """A panelled door, one or two leaves, often with a light above it."""
    height, width = view.shape[:2]
    grain = (
        1 + 0.08 * fbm(rng, height, width, 0.05 * ppm, 2, stretch=12.0) + 0.06 * fbm(rng, height, width, 0.5 * ppm, 3)
    )
    view[..., :3] = np.clip(np.asarray(colour, np.float32) * grain[..., None], 0, 255)
    view[..., 3] = 0
    dark, light = (*tuple(int(c * 0.5) for c in colour), 0), (*tuple(min(255, int(c * 1.35 + 12)) for c in colour), 0)
    top = int(rng.choice([0.0, 0.16, 0.22]) * height)
    if top:
        view[:top] = glass(rng, top, width)
        for column in range(1, int(rng.integers(2, 5))):
            cv2.line(view, (column * width // 4, 0), (width // 2, top), dark, max(1, int(0.02 * ppm)))
        cv2.line(view, (0, top), (width, top), dark, max(2, int(0.06 * ppm)))
    leaves = 2 if width > 1.25 * ppm else 1
    panels = int(rng.integers(2, 5))
    for leaf in range(leaves):
        x0, x1 = leaf * width // leaves, (leaf + 1) * width // leaves
        for panel in range(panels):
            y0 = top + int((panel + 0.12) * (height - top) / panels)
            y1 = top + int((panel + 0.9) * (height - top) / panels)
            a, b = (x0 + int(0.1 * ppm), y0), (x1 - int(0.1 * ppm), y1)
            if panel == 0 and rng.random() < 0.4:
                view[a[1] : b[1], a[0] : b[0]] = glass(rng, max(1, b[1] - a[1]), max(1, b[0] - a[0]))
            cv2.rectangle(view, a, b, dark, max(1, int(0.025 * ppm)))
            cv2.rectangle(view, (a[0] + 2, a[1] + 2), (b[0] - 2, b[1] - 2), light, 1)
        cv2.line(view, (x1, top), (x1, height), dark, max(1, int(0.02 * ppm)))
    cv2.circle(
        view,
        (int(width * (0.5 if leaves == 2 else 0.86)) + 4, int(0.56 * height)),
        max(2, int(0.035 * ppm)),
        (205, 175, 95, 0),
        -1,
        cv2.LINE_AA,
    )
    view[int(0.9 * height) :, :, :3] = (view[int(0.9 * height) :, :, :3] * 0.7).astype(np.uint8)
