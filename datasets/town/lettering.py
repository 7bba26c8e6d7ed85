"""Signs, posters and clock faces drawn on canvases: (H, W, 4) uint8, red green blue and glow."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .names import POSTER_WORDS

Canvas = NDArray[np.uint8]
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
CLOCK_HOURS = ("12", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")


def write_text(canvas: Canvas, text: str, box: tuple[int, int, int, int], colour: tuple[int, ...], font: int) -> None:
    """Letters as large as fit into box (x0, y0, x1, y1), centred."""
    x0, y0, x1, y1 = box
    (width, height), baseline = cv2.getTextSize(text, font, 1.0, 2)
    scale = min((x1 - x0) / max(width, 1), (y1 - y0) / (height + baseline)) * 0.95
    if scale <= 0.05:
        return
    thick = max(1, round(2.2 * scale))
    (width, height), baseline = cv2.getTextSize(text, font, scale, thick)
    origin = (int((x0 + x1 - width) / 2), int((y0 + y1 + height - 0.4 * baseline) / 2))
    rows = slice(max(0, y0 - 8), y1 + 8)
    part = np.ascontiguousarray(canvas[rows, :, :])
    cv2.putText(part, text, (origin[0], origin[1] - rows.start), font, scale, colour, thick, cv2.LINE_AA)
    canvas[rows] = part


def random_colour(rng: np.random.Generator, low: int = 20, high: int = 235) -> tuple[int, int, int]:
    """Any vivid colour, for goods and print; low and high bound its value in 0..255."""
    hue, saturation = rng.integers(0, 180), rng.integers(70, 220)
    return _from_hsv(int(hue), int(saturation), int(rng.integers(low, high)))


def house_colour(rng: np.random.Generator, low: int = 20, high: int = 235) -> tuple[int, int, int]:
    """What doors, shutters, boards and awnings are painted: reds, browns, greens and blues, rarely anything else."""
    hue = int(
        rng.choice(
            [
                rng.integers(0, 9),
                rng.integers(12, 24),
                rng.integers(45, 85),
                rng.integers(96, 116),
                rng.integers(0, 180),
            ],
            p=[0.26, 0.18, 0.26, 0.24, 0.06],
        )
    )
    return _from_hsv(hue, int(rng.integers(60, 175)), int(rng.integers(low, high)))


def _from_hsv(hue: int, saturation: int, value: int) -> tuple[int, int, int]:
    r, g, b = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return r, g, b


def sign_board(rng: np.random.Generator, canvas: Canvas, text: str, glow: int = 0) -> None:
    """Fill canvas with a painted board: border, lettering, scratches."""
    height, width = canvas.shape[:2]
    dark = rng.random() < 0.6
    ground = house_colour(rng, 30, 90) if dark else (226, 218, int(rng.integers(170, 220)))
    ink = (236, 222, int(rng.integers(130, 225))) if dark else house_colour(rng, 25, 90)
    canvas[..., :3] = ground
    canvas[..., 3] = glow
    edge = max(1, height // 14)
    cv2.rectangle(canvas, (edge, edge), (width - 1 - edge, height - 1 - edge), (*ink, glow), max(1, height // 30))
    margin = height // 6
    write_text(
        canvas,
        text,
        (margin * 2, margin, width - margin * 2, height - margin),
        (*ink, min(255, glow + 60 * (glow > 0))),
        int(rng.choice(FONTS)),
    )
    grime = rng.normal(0, 5, (max(2, height // 6), max(2, width // 6))).astype(np.float32)
    grime = cv2.resize(grime, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas[..., :3] = np.clip(canvas[..., :3] + grime[..., None], 0, 255).astype(np.uint8)


def poster(rng: np.random.Generator, canvas: Canvas) -> None:
    """A sheet with blocks, discs, a title and lines of small print."""
    height, width = canvas.shape[:2]
    canvas[...] = (*random_colour(rng, 120, 240), 0)
    for _ in range(int(rng.integers(2, 6))):
        colour = (*random_colour(rng, 30, 250), 0)
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        if rng.random() < 0.5:
            cv2.circle(
                canvas, (x, y), int(rng.integers(max(2, width // 8), max(3, width // 3))), colour, -1, cv2.LINE_AA
            )
        else:
            cv2.rectangle(canvas, (x, y), (x + width // 3, y + height // 4), colour, -1)
    ink = (12, 12, 20, 0) if rng.random() < 0.6 else (245, 240, 230, 0)
    top = int(rng.uniform(0.06, 0.6) * height)
    write_text(
        canvas, str(rng.choice(POSTER_WORDS)), (2, top, width - 2, top + height // 4), ink, int(rng.choice(FONTS))
    )
    for line in range(int(rng.integers(2, 6))):
        y = int((0.72 + 0.05 * line) * height)
        cv2.line(canvas, (width // 8, y), (int(width * rng.uniform(0.4, 0.9)), y), ink, 1)


def clock_face(canvas: Canvas, hour: float) -> None:
    """Dial with twelve numerals and two hands, over the whole canvas."""
    size = min(canvas.shape[:2])
    centre = (size // 2, size // 2)
    canvas[..., :3] = (70, 62, 55)
    cv2.circle(canvas, centre, int(size * 0.48), (40, 44, 60, 40), -1, cv2.LINE_AA)
    cv2.circle(canvas, centre, int(size * 0.44), (232, 226, 205, 170), -1, cv2.LINE_AA)
    for index, label in enumerate(CLOCK_HOURS):
        angle = index * np.pi / 6
        x, y = size / 2 + 0.36 * size * np.sin(angle), size / 2 - 0.36 * size * np.cos(angle)
        half = int(size * 0.06)
        write_text(
            canvas,
            label,
            (int(x) - half, int(y) - half, int(x) + half, int(y) + half),
            (30, 26, 24, 20),
            cv2.FONT_HERSHEY_COMPLEX,
        )
    for angle, reach, thick in ((hour % 12 * np.pi / 6, 0.22, 0.03), (hour % 1 * 2 * np.pi, 0.34, 0.018)):
        tip = (int(size / 2 + reach * size * np.sin(angle)), int(size / 2 - reach * size * np.cos(angle)))
        cv2.line(canvas, centre, tip, (25, 22, 22, 20), max(1, int(thick * size)), cv2.LINE_AA)
