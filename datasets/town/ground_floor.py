"""The storey people look at: shop fronts with signs and awnings, doors with steps, windows near the street."""

from dataclasses import dataclass

import numpy as np

from . import ornaments
from .facade import Facade, Rect
from .geometry import Frame, Lamp, Paint, Scene, box, panel, polygon
from .lettering import house_colour, sign_board
from .materials import Colour
from .names import shop_sign
from .openings import Joinery, Tint, paint_door, paint_shop_window, paint_window
from .plants import creeper, pot
from .sheets import SHEET_PPM, Sheets


@dataclass(frozen=True)
class Street:
    """The strip of wall the ground floor takes: canvas v of the first floor and of the pavement."""

    first_floor: float
    pavement: float
    columns: tuple[tuple[float, float], ...]
    shop: bool
    wall: str


def ground_floor(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    street: Street,
    joinery: Joinery,
    stone: Colour,
    side: Paint,
) -> None:
    if street.shop:
        shop_front(rng, scene, facade, sheets, frame, instance, street, side)
    else:
        dwelling(rng, scene, facade, sheets, frame, instance, street, joinery, stone, side)
    plinth: Rect = (0.0, street.pavement - 0.4, facade.width, street.pavement)
    for piece in _around(plinth, [s.rect for s in facade.sunk]):
        facade.fill(rng, piece, (stone[0] * 0.75, stone[1] * 0.75, stone[2] * 0.77))
        facade.lift(piece, 0.07, side)


def _around(rect: Rect, holes: list[Rect]) -> list[Rect]:
    """The parts of a plinth left and right of the doors that cut it."""
    u, out = rect[0], []
    for hole in sorted(h for h in holes if h[3] > rect[1] + 0.01):
        if hole[0] - u > 0.05:
            out.append((u, rect[1], hole[0], rect[3]))
        u = max(u, hole[2])
    if rect[2] - u > 0.05:
        out.append((u, rect[1], rect[2], rect[3]))
    return out


def door(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    u0: float,
    width: float,
    pavement: float,
    side: Paint,
    depth: float = 0.3,
) -> None:
    """A door over one to three steps."""
    steps = int(rng.integers(1, 4))
    foot = pavement - 0.15 * steps
    rect: Rect = (u0, foot - float(rng.uniform(2.2, 2.6)), u0 + width, foot)
    paint_door(rng, facade.view(rect), facade.ppm, house_colour(rng, 50, 130))
    facade.sink(rect, depth, ornaments.window_glow(rng, 0.25))
    surface = sheets.paint(rng, sheets.stone, (0.95, 0.95, 0.95))
    for step in range(steps):
        lowered = Frame(frame.point(u0 - 0.12, pavement - 0.15 * (step + 1)), frame.right, frame.down)
        box(scene, lowered, 0, 0, width + 0.24, 0.15, 0, 0.3 * (steps - step), surface, surface, instance, bottom=False)


def shop_front(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    street: Street,
    side: Paint,
) -> None:
    width, pavement = facade.width, street.pavement
    text = shop_sign(rng)
    joinery: Tint = house_colour(rng, 40, 110)
    glow = tuple(float(c) for c in np.array([1.0, 0.68, 0.36]) * rng.uniform(0.8, 1.6) * (rng.random() < 0.75))
    door_width = float(rng.uniform(1.0, 1.25))
    door_first = rng.random() < 0.5
    door_u = float(rng.uniform(0.4, 0.7)) if door_first else width - door_width - float(rng.uniform(0.4, 0.7))
    door(rng, scene, facade, sheets, frame, instance, door_u, door_width, pavement, side, 0.5)
    left, right = (door_u + door_width + 0.35, width - 0.45) if door_first else (0.45, door_u - 0.35)
    panes = max(1, round((right - left) / 2.6))
    head = street.first_floor + 1.05
    for index in range(panes):
        u0 = left + index * (right - left) / panes
        rect: Rect = (u0, head, u0 + (right - left) / panes - 0.22, pavement - float(rng.uniform(0.5, 0.65)))
        facade.fill(rng, (rect[0] - 0.1, rect[1] - 0.1, rect[2] + 0.1, rect[3] + 0.1), tuple(c / 255 for c in joinery))  # type: ignore[arg-type]
        paint_shop_window(rng, facade.view(rect), facade.ppm, joinery, text.split(" ")[0])
        facade.sink(rect, 0.28, glow)  # type: ignore[arg-type]
        if max(glow) > 0:
            middle = frame.point((rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2, 0.7)
            scene.lamps.append(Lamp(middle, np.array([1.0, 0.75, 0.45]) * 1.1 * max(glow)))
    sign: Rect = (0.35, street.first_floor + 0.18, width - 0.35, street.first_floor + 0.78)
    sign_board(rng, facade.view(sign), text, 50)
    facade.lift(sign, 0.14, side)
    if rng.random() < 0.55:
        awning(rng, scene, sheets, frame, instance, left - 0.1, right, street.first_floor + 0.8)
    if rng.random() < 0.8:
        hanging_sign(rng, scene, facade, sheets, frame, instance, street.first_floor - 0.5)
    for _ in range(int(rng.integers(0, 3))):
        pot(
            rng,
            scene,
            sheets,
            frame.point(float(rng.uniform(0.4, width - 0.4)), pavement, float(rng.uniform(0.5, 0.8))),
            instance,
        )


def awning(
    rng: np.random.Generator, scene: Scene, sheets: Sheets, frame: Frame, instance: int, u0: float, u1: float, v: float
) -> None:
    """Striped cloth rolled out over the pavement, with a valance."""
    reach, drop = float(rng.uniform(1.0, 1.5)), float(rng.uniform(0.45, 0.7))
    cloth = Paint(
        sheets.stripes[int(rng.integers(len(sheets.stripes)))],
        float(rng.uniform(0, 60)),
        0,
        SHEET_PPM * min(1, 7.0 / (u1 - u0)),
    )
    top = frame.point(u0, v, 0.12)
    edge = frame.point(u0, v + drop, reach)
    along = frame.right * (u1 - u0)
    panel(scene, top, along, edge - top, cloth, instance)
    panel(scene, edge, along, frame.down * 0.24, cloth, instance)
    under = Paint(cloth.texture, cloth.x, cloth.y, cloth.texels_per_m, (0.75, 0.75, 0.75))
    panel(scene, edge, along, top - edge, under, instance)
    panel(scene, edge + along, -along, frame.down * 0.24, under, instance)
    wall = frame.point(u0, v + drop, 0.12)
    polygon(scene, np.array([wall, top, edge]), cloth, instance)
    polygon(scene, np.array([edge + along, top + along, wall + along]), cloth, instance)


def hanging_sign(
    rng: np.random.Generator, scene: Scene, facade: Facade, sheets: Sheets, frame: Frame, instance: int, v: float
) -> None:
    """A small board at right angles to the wall on an iron arm, read from both sides."""
    u = float(rng.choice([0.7, facade.width - 0.7]))
    arm = sheets.paint(rng, sheets.iron)
    box(scene, Frame(frame.point(u - 0.02, v), frame.right, frame.down), 0, 0, 0.04, 0.05, 0, 1.05, arm, arm, instance)
    paint = Paint(sheets.signs[int(rng.integers(len(sheets.signs)))], 0, 0, 128.0)
    block = Frame(frame.point(u - 0.025, v + 0.05), frame.right, frame.down)
    o, r, d = frame.out, frame.right, frame.down
    height = 0.75
    origin = block.point(0, 0, 0.3)
    panel(scene, origin, o * 0.75, d * height, paint, instance)
    panel(scene, origin + 0.05 * r + 0.75 * o, -o * 0.75, d * height, paint, instance)
    panel(scene, origin + 0.75 * o, r * 0.05, d * height, arm, instance)


def dwelling(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    street: Street,
    joinery: Joinery,
    stone: Colour,
    side: Paint,
) -> None:
    """A door under one column and windows under the others."""
    entrance = int(rng.integers(len(street.columns)))
    for number, (u0, u1) in enumerate(street.columns):
        if number == entrance:
            middle, width = (u0 + u1) / 2, float(rng.uniform(1.05, 1.5))
            middle = min(max(middle, width / 2 + 0.3), facade.width - width / 2 - 0.3)
            facade.fill(
                rng,
                (middle - width / 2 - 0.18, street.pavement - 3.0, middle + width / 2 + 0.18, street.pavement),
                (stone[0] * 1.15, stone[1] * 1.15, stone[2] * 1.15),
            )
            hood: Rect = (
                middle - width / 2 - 0.3,
                street.pavement - 3.2,
                middle + width / 2 + 0.3,
                street.pavement - 3.02,
            )
            facade.fill(rng, hood, stone)
            facade.lift(hood, 0.3, side)
            door(rng, scene, facade, sheets, frame, instance, middle - width / 2, width, street.pavement, side)
            lamp = frame.point(middle + width / 2 + 0.25, street.pavement - 2.3, 0.3)
            if rng.random() < 0.5:
                scene.lamps.append(Lamp(lamp, np.array([1.0, 0.7, 0.4]) * 1.2))
        elif rng.random() < 0.92:
            rect: Rect = (u0, street.first_floor + 0.75, u1, street.pavement - float(rng.uniform(0.85, 1.0)))
            ornaments.surround(rng, facade, rect, stone, side, street.wall)
            paint_window(rng, facade.view(rect), facade.ppm, joinery)
            facade.sink(rect, 0.2, ornaments.window_glow(rng))
            ornaments.sill(rng, scene, facade, sheets, frame, instance, rect, stone, side)
    if rng.random() < 0.5:
        creeper(
            rng,
            scene,
            sheets,
            frame,
            instance,
            float(rng.uniform(0.5, facade.width - 0.5)),
            street.pavement,
            float(rng.uniform(2.0, 5.0)),
        )
    if rng.random() < 0.4:
        pot(
            rng, scene, sheets, frame.point(float(rng.uniform(0.4, facade.width - 0.4)), street.pavement, 0.5), instance
        )
