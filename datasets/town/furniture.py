"""What stands on the square: lamp posts, benches, bollards, parasols, stalls, an advertising column."""

import numpy as np

from .atlas import AtlasBuilder
from .geometry import UP, Frame, Lamp, Paint, Scene, Vector, box, lathe, panel, polygon
from .lettering import poster, random_colour
from .plants import flower_box
from .sheets import SHEET_PPM, Sheets

WARM = np.array([1.0, 0.66, 0.34])


def lamp_post(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector) -> None:
    instance = scene.new_instance("lamp")
    iron = sheets.paint(rng, sheets.iron, (0.9, 1.0, 0.95))
    post = [
        (0.035, 3.35),
        (0.045, 2.3),
        (0.08, 2.25),
        (0.05, 2.15),
        (0.06, 1.1),
        (0.11, 1.0),
        (0.12, 0.3),
        (0.18, 0.25),
        (0.19, 0.0),
    ]
    lathe(scene, foot, post, 8, iron, instance, varied=29)
    glass = Paint(sheets.lantern, 4, 4, 8.0, (1.0, 0.97, 0.88), (7.0, 4.8, 2.7))
    turn = float(rng.uniform(0, 1))
    lathe(scene, foot, [(0.2, 3.82), (0.13, 3.38)], 6, glass, instance, turn)
    lathe(scene, foot, [(0.0, 4.12), (0.05, 4.02), (0.11, 3.95), (0.25, 3.82), (0.2, 3.8)], 6, iron, instance, turn)
    lathe(scene, foot, [(0.13, 3.38), (0.04, 3.3)], 6, iron, instance, turn)
    scene.lamps.append(Lamp(foot + 3.6 * UP, WARM * float(rng.uniform(12, 17))))


def bench(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector, yaw: float) -> None:
    instance = scene.new_instance("bench")
    right, out = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    wood, iron = sheets.paint(rng, sheets.wood, (1.1, 1.0, 0.9)), sheets.paint(rng, sheets.iron)
    for row in range(3):
        box(
            scene,
            Frame(foot + 0.47 * UP + out * (0.16 * row - 0.1), right, -UP),
            -0.85,
            0,
            0.85,
            0.04,
            0,
            0.13,
            wood,
            wood,
            instance,
        )
    for row in range(2):
        box(
            scene,
            Frame(foot + (0.68 + 0.18 * row) * UP - 0.2 * out, right, -UP),
            -0.85,
            0,
            0.85,
            0.13,
            0,
            0.04,
            wood,
            wood,
            instance,
        )
    back = Frame(foot + 0.9 * UP - 0.2 * out, right, -UP)
    for u in (-0.85, 0.85):
        panel(scene, back.point(u, 0, -0.01), right * 0.05, -UP * 0.9, iron, instance)
        panel(scene, back.point(u + 0.05, 0, -0.01), -right * 0.05, -UP * 0.9, iron, instance)
    for u in (-0.7, 0.64):
        box(scene, Frame(foot + 0.43 * UP, right, -UP), u, 0, u + 0.06, 0.43, -0.1, 0.3, iron, iron, instance)


def bollard(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector) -> None:
    paint = sheets.paint(rng, sheets.stone, (0.95, 0.95, 0.95))
    lathe(
        scene,
        foot,
        [(0.0, 0.86), (0.1, 0.82), (0.15, 0.72), (0.12, 0.66), (0.14, 0.1), (0.2, 0.0)],
        8,
        paint,
        scene.new_instance("bollard"),
        varied=17,
    )


def advertising_column(
    rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, sheets: Sheets, foot: Vector
) -> None:
    """A round pillar pasted with posters."""
    instance = scene.new_instance("column")
    ppm, radius, sides = 100.0, 0.62, 16
    around = 2 * sides * radius * np.sin(np.pi / sides)
    canvas = np.full((round(2.1 * ppm), round(around * ppm) + 2, 4), (150, 146, 138, 0), np.uint8)
    for _ in range(26):
        w, h = int(rng.uniform(0.4, 0.8) * ppm), int(rng.uniform(0.5, 1.05) * ppm)
        x, y = int(rng.integers(0, canvas.shape[1] - w)), int(rng.integers(0, canvas.shape[0] - h))
        poster(rng, canvas[y : y + h, x : x + w])
    texture = builder.add(canvas)
    angles = np.arange(sides + 1) * 2 * np.pi / sides
    ring = radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    for side in range(sides):
        paint = Paint(texture, side * around / sides * ppm, 0, ppm)
        panel(scene, foot + ring[side] + 2.4 * UP, ring[side + 1] - ring[side], -2.1 * UP, paint, instance)
    stone = sheets.paint(rng, sheets.stone)
    lathe(scene, foot, [(radius, 0.3), (0.72, 0.28), (0.72, 0.0)], sides, stone, instance, varied=9)
    iron = sheets.paint(rng, sheets.iron, (1.2, 1.7, 1.4))
    lathe(
        scene,
        foot,
        [(0.0, 3.1), (0.08, 2.95), (0.3, 2.8), (0.6, 2.62), (0.76, 2.5), (0.76, 2.4), (0.6, 2.4)],
        sides,
        iron,
        instance,
    )


def parasol(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector) -> None:
    """A café table with chairs under a parasol."""
    instance = scene.new_instance("parasol")
    iron, wood = sheets.paint(rng, sheets.iron, (1.4, 1.4, 1.4)), sheets.paint(rng, sheets.wood, (1.3, 1.25, 1.2))
    cloth = sheets.stripes[int(rng.integers(len(sheets.stripes)))]
    above = Paint(cloth, float(rng.uniform(0, 200)), 20, SHEET_PPM)
    below = Paint(cloth, above.x, above.y, SHEET_PPM, (0.7, 0.7, 0.7))
    turn = float(rng.uniform(0, 1))
    lathe(scene, foot, [(0.0, 2.75), (1.35, 2.25), (1.36, 2.08)], 8, above, instance, turn)
    lathe(scene, foot, [(1.36, 2.08), (1.35, 2.25), (0.0, 2.75)], 8, below, instance, turn)
    lathe(scene, foot, [(0.025, 2.7), (0.025, 0.06), (0.3, 0.06), (0.3, 0.0)], 6, iron, instance, turn)
    lathe(scene, foot, [(0.0, 0.74), (0.42, 0.74), (0.42, 0.7), (0.0, 0.7)], 10, wood, instance, turn)
    for seat in range(3):
        angle = turn + seat * 2.1 + float(rng.normal(0, 0.2))
        right, out = np.array([np.cos(angle), np.sin(angle), 0]), np.array([-np.sin(angle), np.cos(angle), 0])
        at = Frame(foot - 0.75 * out + 0.46 * UP, right, -UP)
        box(scene, at, -0.2, 0, 0.2, 0.04, -0.2, 0.2, wood, wood, instance)
        box(
            scene,
            Frame(at.origin + 0.42 * UP - 0.22 * out, right, -UP),
            -0.2,
            0,
            0.2,
            0.3,
            0,
            0.03,
            wood,
            wood,
            instance,
        )
        rear = Frame(at.origin + 0.42 * UP - 0.22 * out, -right, -UP)
        panel(scene, rear.point(-0.2, 0), -right * 0.4, -UP * 0.3, wood, instance)
        for u in (-0.19, 0.16):
            for o in (-0.19, 0.16):
                box(
                    scene,
                    Frame(at.point(0, 0.04), right, -UP),
                    u,
                    0,
                    u + 0.03,
                    0.42,
                    o,
                    o + 0.03,
                    iron,
                    iron,
                    instance,
                    False,
                )


def stall(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector, yaw: float) -> None:
    """A market stall: a counter with crates under a striped roof on four posts."""
    instance = scene.new_instance("stall")
    right, out = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    wood = sheets.paint(rng, sheets.wood, (1.2, 1.1, 1.0))
    counter = Frame(foot + 0.85 * UP, right, -UP)
    box(scene, counter, -1.1, 0, 1.1, 0.85, -0.45, 0.45, wood, wood, instance, False)
    rear = Frame(foot + 0.85 * UP, -right, -UP)
    panel(scene, rear.point(-1.1, 0, 0.45), -right * 2.2, -UP * 0.85, wood, instance)
    for u in (-1.15, 1.1):
        for o in (-0.5, 0.5):
            box(
                scene,
                Frame(foot + 2.15 * UP, right, -UP),
                u,
                0,
                u + 0.05,
                2.15,
                o,
                o + 0.05,
                wood,
                wood,
                instance,
                False,
            )
    cloth = Paint(sheets.stripes[int(rng.integers(len(sheets.stripes)))], 0, 0, SHEET_PPM)
    shade = Paint(cloth.texture, 0, 0, SHEET_PPM, (0.65, 0.65, 0.65))
    ridge = foot + 2.75 * UP
    for sign in (1.0, -1.0):
        a, b = ridge - sign * right * 1.35, sign * right * 2.7
        slope = sign * out * 0.85 - 0.6 * UP
        panel(scene, a, b, slope, cloth, instance)
        panel(scene, a + b + slope - 0.001 * UP, -b, -slope, shade, instance)
        panel(scene, a + slope, b, -0.2 * UP, cloth, instance)
    for sign in (1.0, -1.0):
        tip = ridge + sign * right * 1.34
        a, b = tip + sign * out * 0.85 - 0.6 * UP, tip - sign * out * 0.85 - 0.6 * UP
        polygon(scene, np.array([a, tip, b]), shade, instance)
        polygon(scene, np.array([b, tip, a]), shade, instance)
    for index in range(6):
        tone = tuple(c / 170 for c in random_colour(rng, 120, 230))
        goods = sheets.paint(rng, sheets.plain, (tone[0], tone[1], tone[2]))
        u = -1.05 + index * 0.36
        box(scene, Frame(foot + 1.05 * UP, right, -UP), u, 0, u + 0.3, 0.2, -0.3, 0.35, wood, goods, instance)
    if rng.random() < 0.5:
        flower_box(rng, scene, sheets, Frame(foot + 0.85 * UP + 0.45 * out, right, -UP), instance, -1.0, 1.0, 0.0)


def wall_lamp(rng: np.random.Generator, scene: Scene, sheets: Sheets, spot: Vector, outward: Vector) -> None:
    """A lantern on a bracket, for the streets."""
    instance = scene.new_instance("lamp")
    iron = sheets.paint(rng, sheets.iron)
    right = np.cross(-UP, outward)
    box(scene, Frame(spot + 0.45 * UP, right, -UP), -0.02, 0, 0.02, 0.04, 0, 0.6, iron, iron, instance)
    glass = Paint(sheets.lantern, 4, 4, 8.0, (1.0, 0.97, 0.88), (7.0, 4.8, 2.7))
    foot = spot + 0.55 * outward
    lathe(scene, foot, [(0.15, 0.36), (0.1, 0.0)], 6, glass, instance)
    lathe(scene, foot, [(0.0, 0.5), (0.19, 0.36), (0.15, 0.34)], 6, iron, instance)
    scene.lamps.append(Lamp(foot + 0.25 * outward + 0.1 * UP, WARM * float(rng.uniform(7, 10))))
