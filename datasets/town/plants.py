"""Trees, flower boxes and creepers from cut-out cards, each with its own place and turn."""

import numpy as np

from .geometry import UP, Frame, Paint, Scene, Vector, box, lathe, panel
from .sheets import Sheets


def card(
    rng: np.random.Generator,
    scene: Scene,
    texture: int,
    texels: int,
    centre: Vector,
    size: float,
    instance: int,
    normal: Vector | None = None,
) -> None:
    """One square of leaves around centre, facing about normal or anywhere."""
    facing = rng.standard_normal(3) if normal is None else normal + 0.5 * rng.standard_normal(3)
    facing /= np.linalg.norm(facing)
    right = np.cross(facing, rng.standard_normal(3))
    right /= np.linalg.norm(right)
    down = np.cross(right, facing)
    tone = rng.uniform(0.7, 1.2)
    paint = Paint(texture, 0, 0, texels / size, (tone, tone, tone * rng.uniform(0.85, 1.05)), cutout=True)
    panel(scene, centre - 0.5 * size * (right + down), right * size, down * size, paint, instance)


def flower_box(
    rng: np.random.Generator, scene: Scene, sheets: Sheets, frame: Frame, instance: int, u0: float, u1: float, v: float
) -> None:
    """A trough on a sill with a row of plants hanging out of it."""
    trough = sheets.paint(rng, sheets.wood)
    lowered = Frame(frame.point(u0, v - 0.17), frame.right, frame.down)
    box(scene, lowered, 0, 0, u1 - u0, 0.17, 0.02, 0.2, trough, trough, instance)
    for u in np.arange(u0 + 0.1, u1 - 0.05, 0.17):
        size = rng.uniform(0.26, 0.42)
        spot = frame.point(float(u), v - 0.2 + rng.uniform(-0.1, 0.06), 0.14 + rng.uniform(-0.04, 0.1))
        card(rng, scene, sheets.flowers, 96, spot, float(size), instance, frame.out)


def tree(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector, instance: int) -> None:
    """A trunk in a kerbed bed and a crown of cards around a few lumps."""
    trunk = sheets.paint(rng, sheets.wood, (0.62, 0.68, 0.72))
    height = rng.uniform(2.4, 3.0)
    lean = np.array([*rng.normal(0, 0.06, 2), 0.0])
    lathe(scene, foot, [(0.13, height + 0.8), (0.15, 1.4), (0.17, 0.5), (0.26, 0.0)], 7, trunk, instance, varied=20)
    kerb = sheets.paint(rng, sheets.stone, (0.85, 0.85, 0.85))
    lathe(scene, foot, [(0.55, 0.05), (0.62, 0.16), (0.75, 0.16), (0.75, 0.0)], 8, kerb, instance, varied=23)
    texture = sheets.leaves[int(rng.integers(len(sheets.leaves)))]
    middle = foot + lean * height + UP * (height + 1.1)
    for _ in range(7):
        lump = middle + rng.normal(0, 1, 3) * np.array([0.75, 0.75, 0.5])
        for _ in range(11):
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            card(
                rng,
                scene,
                texture,
                128,
                lump + direction * rng.uniform(0.3, 0.75),
                float(rng.uniform(0.6, 1.0)),
                instance,
                direction,
            )


def creeper(
    rng: np.random.Generator,
    scene: Scene,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    u: float,
    ground: float,
    height: float,
) -> None:
    """A climbing plant on a wall, thick near its root."""
    texture = sheets.leaves[int(rng.integers(len(sheets.leaves)))]
    at, v = u, ground - 0.3
    while v > ground - height:
        for _ in range(2):
            spot = frame.point(
                float(at + rng.normal(0, 0.25)), float(v + rng.normal(0, 0.2)), float(rng.uniform(0.05, 0.14))
            )
            card(rng, scene, texture, 128, spot, float(rng.uniform(0.4, 0.75)), instance, frame.out * 2)
        at, v = at + rng.normal(0, 0.14), v - 0.2


def pot(rng: np.random.Generator, scene: Scene, sheets: Sheets, foot: Vector, instance: int) -> None:
    """A clay pot with a shrub."""
    clay = sheets.paint(rng, sheets.plain, (0.85, 0.5, 0.36))
    lathe(scene, foot, [(0.2, 0.42), (0.27, 0.48), (0.27, 0.4), (0.18, 0.0)], 8, clay, instance, varied=21)
    texture = sheets.leaves[int(rng.integers(len(sheets.leaves)))]
    for _ in range(8):
        spot = foot + UP * 0.85 + rng.normal(0, 0.16, 3) + UP * rng.uniform(-0.1, 0.2)
        card(rng, scene, texture, 128, spot, float(rng.uniform(0.35, 0.6)), instance)
