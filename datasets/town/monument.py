"""The fountain in the middle: basin, inscribed pedestal, and an obelisk or a column with a figure."""

import cv2
import numpy as np

from .atlas import AtlasBuilder, to_canvas
from .geometry import UP, Frame, Paint, Scene, Vector, box, lathe, panel
from .lettering import write_text
from .materials import ashlar
from .names import surname
from .noise import fbm
from .sheets import Sheets


def build_monument(rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, sheets: Sheets, foot: Vector) -> None:
    instance = scene.new_instance("monument")
    warm = float(rng.uniform(0.92, 1.08))

    def stone() -> Paint:
        return sheets.paint(rng, sheets.stone, (warm, 1.0, 2 - warm), 4.0)

    sides = int(rng.choice([8, 10, 12]))
    turn = float(rng.uniform(0, 1))
    lathe(
        scene,
        foot,
        [(0.0, 0.34), (2.95, 0.34), (2.95, 0.17), (3.35, 0.17), (3.35, 0.0)],
        sides,
        stone(),
        instance,
        turn,
        19,
    )
    basin = [
        (2.15, 0.6),
        (2.15, 1.02),
        (2.2, 1.06),
        (2.5, 1.06),
        (2.52, 0.98),
        (2.42, 0.92),
        (2.36, 0.5),
        (2.5, 0.42),
        (2.5, 0.34),
    ]
    lathe(scene, foot, basin, sides, stone(), instance, turn, 17)
    lathe(scene, foot, [(0.0, 0.84), (2.2, 0.84)], sides, sheets.paint(rng, sheets.water), instance, turn)
    square = np.pi / 4 + turn
    lathe(
        scene, foot, [(0.95, 1.35), (1.0, 1.3), (1.0, 1.15), (1.1, 1.05), (1.1, 0.6)], 4, stone(), instance, square, 31
    )
    pedestal(rng, scene, builder, foot + 1.35 * UP, turn, instance, warm)
    lathe(scene, foot, [(0.6, 2.95), (0.92, 2.9), (0.95, 2.78), (0.8, 2.7)], 4, stone(), instance, square, 31)
    for side in range(4):  # spouts above the water
        angle = turn + side * np.pi / 2
        direction = np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.array([-np.sin(angle), np.cos(angle), 0.0])
        bronze = sheets.paint(rng, sheets.iron, (2.6, 3.0, 2.5))
        spout = Frame(foot + direction * 0.56 + 1.62 * UP - 0.06 * right, right, -UP)
        box(scene, spout, 0, 0, 0.12, 0.12, 0, 0.5, bronze, bronze, instance)
    if rng.random() < 0.4:
        obelisk(rng, scene, builder, foot + 2.95 * UP, turn, instance, warm)
    else:
        height = float(rng.uniform(2.0, 3.4))
        shaft = [
            (0.42, height),
            (0.42, height - 0.12),
            (0.26, height - 0.34),
            (0.25, height * 0.6),
            (0.29, 0.3),
            (0.4, 0.2),
            (0.44, 0.0),
        ]
        lathe(scene, foot + 2.95 * UP, [(0.0, height), *shaft], 14, stone(), instance, turn, 13)
        figure(rng, scene, sheets, foot + (2.95 + height) * UP, instance)


def pedestal(
    rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, foot: Vector, turn: float, instance: int, warm: float
) -> None:
    """A square block with another inscription or relief on each side."""
    ppm, width, height = 128.0, 1.15, 1.4
    for side in range(4):
        stone = ashlar(rng, round(height * ppm), round(width * ppm), ppm, (0.64 * warm, 0.61, 0.57 / warm), 0.7)
        canvas = to_canvas(stone)
        inset = np.ascontiguousarray(canvas[20:-20, 16:-16])
        lines = [
            surname(rng).upper(),
            str(rng.choice(["TO THE CITIZENS", "FOUNDED", "IN MEMORY OF", "THIS WELL"])),
            str(int(rng.integers(1480, 1930))),
            surname(rng).upper(),
        ]
        for number, text in enumerate(lines):
            top = 8 + number * 34
            for shift, tone in ((1, (200, 192, 178, 0)), (0, (70, 64, 58, 0))):
                write_text(
                    inset, text, (4 + shift, top + shift, inset.shape[1] - 4 + shift, top + 28 + shift), tone, side % 4
                )
        cv2.rectangle(inset, (0, 0), (inset.shape[1] - 1, inset.shape[0] - 1), (88, 82, 75, 0), 3)
        canvas[20:-20, 16:-16] = inset
        angle = turn + side * np.pi / 2
        out = np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.array([-np.sin(angle), np.cos(angle), 0.0])
        corner = foot + out * width / 2 - right * width / 2 + height * UP
        panel(scene, corner, right * width, -UP * height, Paint(builder.add(canvas), 0, 0, ppm), instance)


def obelisk(
    rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, foot: Vector, turn: float, instance: int, warm: float
) -> None:
    """A tapering needle with carved signs."""
    ppm, height, half = 90.0, float(rng.uniform(3.8, 5.0)), 0.55
    for side in range(4):
        picture = ashlar(
            rng, round((height + 0.4) * ppm), round(2.2 * half * ppm), ppm, (0.66 * warm, 0.6, 0.54 / warm), 0.9
        )
        picture *= (1 + 0.06 * fbm(rng, picture.shape[0], picture.shape[1], 0.4 * ppm, 4))[..., None]
        canvas = to_canvas(picture)
        for row in range(int(height / 0.4)):
            x, y = int(rng.uniform(0.35, 0.65) * canvas.shape[1]), int((row + 0.7) * 0.4 * ppm)
            size = int(rng.uniform(5, 11))
            kind = int(rng.integers(4))
            if kind == 0:
                cv2.circle(canvas, (x, y), size, (84, 74, 66, 0), 2, cv2.LINE_AA)
            elif kind == 1:
                cv2.rectangle(canvas, (x - size, y - size), (x + size, y + size // 2), (84, 74, 66, 0), 2)
            elif kind == 2:
                cv2.line(canvas, (x - size, y + size), (x + size, y - size), (84, 74, 66, 0), 2, cv2.LINE_AA)
                cv2.line(canvas, (x - size, y - size), (x, y), (84, 74, 66, 0), 2, cv2.LINE_AA)
            else:
                cv2.ellipse(canvas, (x, y), (size, size // 2), 0, 0, 360, (84, 74, 66, 0), -1, cv2.LINE_AA)
        paint = Paint(builder.add(canvas), 0, 0, ppm)
        one = Scene()
        lathe(one, foot, [(0.0, height), (0.42, height - 0.6), (0.72, 0.0)], 4, paint, instance, np.pi / 4 + turn)
        scene.polygons += [one.polygons[side], one.polygons[4 + side]]


def figure(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector, instance: int) -> None:
    """A robed bronze figure with a staff, green with age."""
    bronze = sheets.paint(rng, sheets.iron, (1.7, 2.5, 2.1))
    robe = [(0.0, 1.36), (0.1, 1.36), (0.26, 1.28), (0.29, 1.1), (0.2, 0.85), (0.25, 0.6), (0.36, 0.1), (0.4, 0.0)]
    lathe(scene, foot, robe, 9, bronze, instance, 0.2, 23)
    head = [(0.0, 1.76), (0.07, 1.74), (0.12, 1.64), (0.11, 1.52), (0.07, 1.44), (0.08, 1.34)]
    lathe(scene, foot, head, 9, bronze, instance, 0.1, 23)
    angle = float(rng.uniform(0, 2 * np.pi))
    out, right = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
    arm = Frame(foot + 1.22 * UP + 0.2 * out, right, -UP)
    box(scene, arm, -0.06, 0, 0.08, 0.13, -0.05, 0.34, bronze, bronze, instance)
    lathe(scene, foot + 0.5 * out, [(0.0, 2.2), (0.07, 2.1), (0.028, 2.0), (0.028, 0.0)], 5, bronze, instance)
