"""Roofs, dormers and chimneys."""

from dataclasses import dataclass

import numpy as np

from .atlas import AtlasBuilder, to_canvas
from .geometry import UP, Frame, Paint, Scene, box, panel, polygon
from .materials import Colour, brick, roof_tiles
from .openings import Joinery, paint_window
from .sheets import Sheets

ROOF_PPM = 44.0


@dataclass(frozen=True)
class Roofing:
    """What a roof is built on: the front's frame, the house's width and depth, the canvas height above the eaves."""

    rng: np.random.Generator
    scene: Scene
    builder: AtlasBuilder
    sheets: Sheets
    frame: Frame
    width: float
    depth: float
    gable: float
    colour: Colour
    instance: int

    def tiles(self, along: float, slope: float, ppm: float = ROOF_PPM) -> Paint:
        picture = roof_tiles(self.rng, round(slope * ppm), round(along * ppm), ppm, self.colour)
        return Paint(self.builder.add_colour(picture), 0, 0, ppm)


def ridge_roof(roof: Roofing, top: float, joinery: Joinery) -> None:
    """Ridge along the street: a slope to the front with dormers, one to the back, two end walls."""
    rng, frame, width, depth = roof.rng, roof.frame, roof.width, roof.depth
    rise = depth / 2 * rng.uniform(0.75, 1.15)
    over = 0.36
    lip = over * rise / (depth / 2)
    ridge = frame.point(0, -rise, -depth / 2)
    eave = frame.point(0, lip, over)
    tiles = roof.tiles(width, float(np.linalg.norm(eave - ridge)))
    along = frame.right * width
    panel(roof.scene, ridge, along, eave - ridge, tiles, roof.instance)
    back = frame.point(0, lip, -depth - over)
    panel(roof.scene, ridge + along, -along, back - ridge, tiles, roof.instance)
    plain = roof.sheets.paint(rng, roof.sheets.plain, (0.8, 0.76, 0.7), 8.0)
    plain = Paint(plain.texture, 0, 0, plain.texels_per_m * min(1.0, 8.0 / (depth + 1)), plain.tint)
    left = [frame.point(0, 0, -depth), ridge, frame.point(0, 0, 0)]
    polygon(roof.scene, np.array([left[0], left[1], left[2]]), plain, roof.instance)
    polygon(roof.scene, np.array([left[2] + along, left[1] + along, left[0] + along]), plain, roof.instance)
    gutter = roof.sheets.paint(rng, roof.sheets.iron, (2.2, 2.2, 2.1), 7.9)
    gutter = Paint(gutter.texture, 0, gutter.y, gutter.texels_per_m * min(1.0, 7.5 / width))
    box(
        roof.scene,
        Frame(eave, frame.right, frame.down),
        0,
        -0.02,
        width,
        0.1,
        -0.1,
        0.04,
        gutter,
        gutter,
        roof.instance,
    )
    slope = rise / (depth / 2)
    number = int(rng.integers(0, 4)) if width > 6 else int(rng.integers(0, 3))
    for index in range(number):
        dormer(roof, (index + 0.5) * width / number, slope, joinery)
    for _ in range(int(rng.integers(1, 3))):
        chimney(
            roof, frame.point(float(rng.uniform(0.6, width - 0.6)), -rise, -depth / 2 + float(rng.uniform(-0.6, 0.6)))
        )


def gable_roof(roof: Roofing, overhang: bool) -> None:
    """Ridge away from the street, behind a gable."""
    rng, frame, width, depth, gable = roof.rng, roof.frame, roof.width, roof.depth, roof.gable
    drop = 0.0 if overhang else 0.45
    front = 0.28 if overhang else -0.15
    ridge = frame.point(width / 2, drop, front)
    left, right = frame.point(-0.15, gable + 0.15, front), frame.point(width + 0.15, gable + 0.15, front)
    tiles = roof.tiles(depth + 0.5, float(np.linalg.norm(left - ridge)))
    away = -frame.out * (depth + front)
    panel(roof.scene, ridge + away, -away, left - ridge, tiles, roof.instance)
    panel(roof.scene, ridge, away, right - ridge, tiles, roof.instance)
    if overhang:
        board = roof.sheets.paint(rng, roof.sheets.wood, (0.8, 0.8, 0.8), 8.0)
        for a, b in ((left, ridge), (ridge, right)):
            along = b - a
            down = np.cross(along, frame.out)
            down = down / np.linalg.norm(down) * 0.2
            down = down if down[2] < 0 else -down
            board = Paint(
                board.texture, 0, 0, board.texels_per_m * min(1, 7.5 / float(np.linalg.norm(along))), board.tint
            )
            panel(roof.scene, a, along, down, board, roof.instance)
            panel(roof.scene, b, -along, -frame.out * 0.25, board, roof.instance)
    chimney(roof, ridge - frame.out * float(rng.uniform(2.0, depth - 1.5)))


def dormer(roof: Roofing, u: float, slope: float, joinery: Joinery) -> None:
    """A small house on the slope with one window."""
    rng, frame = roof.rng, roof.frame
    half, high, ppm = 0.55, 1.25, 64.0
    back = 0.9
    canvas = to_canvas(
        np.full((round(high * ppm), round(2 * half * ppm), 3), 0.5, np.float32) * np.array([0.8, 0.76, 0.7], np.float32)
    )
    edge = int(0.12 * ppm)
    paint_window(rng, canvas[edge:-edge, edge:-edge], ppm, joinery)
    face = Paint(roof.builder.add(canvas), 0, 0, ppm, glow=(0.5, 0.3, 0.12) if rng.random() < 0.2 else (0.0, 0.0, 0.0))
    side = roof.sheets.paint(rng, roof.sheets.wood, (0.7, 0.7, 0.72))
    foot = frame.point(u, -slope * back + 0.05, -back)
    reach = high / slope
    local = Frame(foot - half * frame.right + high * UP, frame.right, frame.down)
    box(roof.scene, local, 0, 0, 2 * half, high, -reach, 0, face, side, roof.instance, bottom=False)
    ridge = local.point(half, -0.4, 0.2)
    away = -frame.out * (reach + 0.9)
    tiles = roof.tiles(reach + 1.0, 0.85, 32.0)
    panel(roof.scene, ridge + away, -away, local.point(-0.15, 0.1, 0.2) - ridge, tiles, roof.instance)
    panel(roof.scene, ridge, away, local.point(2 * half + 0.15, 0.1, 0.2) - ridge, tiles, roof.instance)
    polygon(
        roof.scene,
        np.array([local.point(half, -0.35), local.point(2 * half, 0.0), local.point(0, 0.0)]),
        side,
        roof.instance,
    )


def chimney(roof: Roofing, ridge: np.ndarray) -> None:
    rng, ppm = roof.rng, 40.0
    width, high = 0.7, float(rng.uniform(0.9, 1.5))
    wall = brick(rng, round((high + 0.8) * ppm), round(width * ppm), ppm, (0.5, 0.3, 0.24))
    paint = Paint(roof.builder.add_colour(wall), 0, 0, ppm)
    local = Frame(ridge + high * UP - 0.35 * roof.frame.right, roof.frame.right, roof.frame.down)
    box(roof.scene, local, 0, 0, width, high + 0.8, -0.3, 0.3, paint, paint, roof.instance, bottom=False)
    cap = roof.sheets.paint(rng, roof.sheets.stone)
    box(
        roof.scene,
        Frame(local.point(-0.06, -0.1), local.right, local.down),
        0,
        0,
        width + 0.12,
        0.12,
        -0.36,
        0.36,
        cap,
        cap,
        roof.instance,
    )
