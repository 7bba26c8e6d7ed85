"""What is fixed to a front above the street: surrounds, sills, shutters, balconies, cornices, corner stones, gables."""

import numpy as np

from .facade import Facade, Rect
from .geometry import Frame, Paint, Scene, box, panel
from .lettering import house_colour, poster, write_text
from .materials import Colour
from .openings import Tint
from .plants import flower_box
from .sheets import SHEET_PPM, Sheets

LIT_COLOURS = [(1.0, 0.62, 0.28), (1.0, 0.72, 0.42), (1.0, 0.55, 0.22), (0.85, 0.85, 0.8), (0.6, 0.7, 1.0)]


def window_glow(rng: np.random.Generator, share: float = 0.34) -> tuple[float, float, float]:
    """Light behind a window at night, zero where nobody is at home."""
    if rng.random() > share:
        return (0.0, 0.0, 0.0)
    colour = np.array(LIT_COLOURS[int(rng.choice(5, p=[0.4, 0.3, 0.15, 0.1, 0.05]))]) * rng.uniform(0.35, 1.5)
    return float(colour[0]), float(colour[1]), float(colour[2])


def surround(rng: np.random.Generator, facade: Facade, rect: Rect, stone: Colour, side: Paint, wall: str) -> None:
    """Dressed stones around an opening, with a keystone or a flat hood above."""
    u0, v0, u1, v1 = rect
    w = 0.13
    light: Colour = (min(1, stone[0] * 1.18), min(1, stone[1] * 1.18), min(1, stone[2] * 1.18))
    if wall == "timber":
        facade.fill(rng, (u0 - 0.08, v0 - 0.08, u1 + 0.08, v1 + 0.08), (0.3, 0.2, 0.14))
        return
    facade.fill(rng, (u0 - w, v0, u0, v1), light)
    facade.fill(rng, (u1, v0, u1 + w, v1), light)
    head: Rect = (u0 - w - 0.04, v0 - 0.24, u1 + w + 0.04, v0)
    if v0 > 0.3:
        facade.fill(rng, head, light)
        facade.soft_shadow(head, 0.1)
        facade.lift(head, 0.07, side)
        if rng.random() < 0.4:
            middle = (u0 + u1) / 2
            stone_rect: Rect = (middle - 0.12, v0 - 0.3, middle + 0.12, v0)
            facade.fill(rng, stone_rect, (light[0] * 0.92, light[1] * 0.92, light[2] * 0.92))
            facade.lift(stone_rect, 0.11, side)


def sill(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    rect: Rect,
    stone: Colour,
    side: Paint,
) -> None:
    u0, _, u1, v1 = rect
    ledge: Rect = (u0 - 0.16, v1, u1 + 0.16, v1 + 0.12)
    facade.fill(rng, ledge, (min(1, stone[0] * 1.2), min(1, stone[1] * 1.2), min(1, stone[2] * 1.2)))
    facade.soft_shadow(ledge, 0.12)
    facade.stain(rng, ledge[0] - 0.05, ledge[2] + 0.05, v1 + 0.12, float(rng.uniform(0.4, 1.1)))
    facade.lift(ledge, 0.13, side)
    if rng.random() < 0.24:
        flower_box(rng, scene, sheets, frame, instance, u0, u1, v1)


def shutters(
    rng: np.random.Generator,
    facade: Facade,
    rect: Rect,
    columns: tuple[tuple[float, float], ...],
    number: int,
    width: float,
    sheets: Sheets,
) -> None:
    """Louvred shutters folded back against the wall where there is room; a house has them or not."""
    house = np.random.default_rng(int(width * 1e6) % 2**31)
    if house.random() > 0.4:
        return
    colour: Tint = house_colour(house, 60, 140)
    u0, v0, u1, v1 = rect
    leaf = (u1 - u0) / 2
    gap_left = u0 - (columns[number - 1][1] if number else 0.0)
    gap_right = (columns[number + 1][0] if number + 1 < len(columns) else width) - u1
    for start, gap in ((u0 - 0.03 - leaf, gap_left), (u1 + 0.03, gap_right)):
        if gap < (2 if 0 < number < len(columns) - 1 else 1) * leaf + 0.06 or rng.random() < 0.06:
            continue
        board: Rect = (start, v0, start + leaf, v1)
        facade.fill(rng, board, (colour[0] / 255, colour[1] / 255, colour[2] / 255))
        step = 0.05
        for index in range(int((v1 - v0 - 0.2) / step)):
            v = v0 + 0.1 + index * step
            facade.tone((start + 0.06, v, start + leaf - 0.06, v + step * 0.45), 0.62 if rng.random() > 0.02 else 0.3)
        facade.lift(board, 0.05, sheets.paint(rng, sheets.plain, (colour[0] / 230, colour[1] / 230, colour[2] / 230)))


def balcony(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    frame: Frame,
    instance: int,
    rect: Rect,
    side: Paint,
) -> None:
    """A slab on two brackets with an iron railing on three sides."""
    u0, _, u1, v1 = rect
    left, right, reach = u0 - 0.45, u1 + 0.45, float(rng.uniform(0.75, 1.0))
    slab = sheets.paint(rng, sheets.stone)
    lowered = Frame(frame.point(left, v1), frame.right, frame.down)
    box(scene, lowered, 0, 0, right - left, 0.16, 0, reach, slab, side, instance)
    for u in (0.15, right - left - 0.3):
        box(scene, lowered, u, 0.16, u + 0.15, 0.45, 0, reach * 0.6, slab, side, instance)
    rail = Paint(sheets.railing, float(rng.integers(0, 90)), 0, SHEET_PPM, cutout=True)
    r, d, o = frame.right, frame.down, frame.out
    corner = frame.point(left + 0.03, v1 - 1.0, 0)
    panel(scene, corner + (reach - 0.04) * o, r * (right - left - 0.06), d * 1.0, rail, instance)
    panel(scene, corner, o * (reach - 0.04), d * 1.0, rail, instance)
    panel(scene, corner + (right - left - 0.06) * r, o * (reach - 0.04), d * 1.0, rail, instance)
    facade.soft_shadow((left, v1, right, v1 + 0.16), 0.5)
    if rng.random() < 0.6:
        flower_box(
            rng,
            scene,
            sheets,
            Frame(frame.point(0, 0, reach - 0.2), r, d),
            instance,
            left + 0.1,
            right - 0.1,
            v1 - 0.82,
        )


def bands_and_corners(
    rng: np.random.Generator,
    facade: Facade,
    floors: list[float],
    gable: float,
    eaves: bool,
    wall: str,
    stone: Colour,
    side: Paint,
) -> None:
    """String courses between storeys, a cornice under the eaves, stones or pilasters at the corners."""
    width = facade.width
    light: Colour = (min(1, stone[0] * 1.12), min(1, stone[1] * 1.12), min(1, stone[2] * 1.12))
    if wall == "timber":
        light = (0.28, 0.19, 0.13)
    some = rng.random()
    for number, v in enumerate(floors):
        if some < 0.6 or number == 0:
            band: Rect = (0.0, v - 0.22, width, v)
            facade.fill(rng, band, light)
            facade.soft_shadow(band, 0.18)
            facade.stain(rng, 0.0, width, v, 0.5)
            facade.lift(band, 0.09, side)
            facade.lift((0.0, v - 0.29, width, v - 0.22), 0.15, side)
            facade.fill(rng, (0.0, v - 0.29, width, v - 0.22), light)
    if eaves:
        for top, bottom, out in ((0.0, 0.14, 0.34), (0.14, 0.28, 0.2), (0.28, 0.42, 0.1)):
            facade.fill(rng, (0.0, top, width, bottom), light)
            facade.lift((0.0, top, width, bottom), out, side)
        facade.soft_shadow((0.0, 0.28, width, 0.42), 0.5)
        if rng.random() < 0.5 and wall != "timber":
            for index in range(int(width / 0.32)):
                u = 0.1 + index * 0.32
                facade.fill(rng, (u, 0.42, u + 0.16, 0.56), light)
                facade.lift((u, 0.42, u + 0.16, 0.56), 0.14, side)
    if wall in ("plaster", "brick") and rng.random() < 0.6:
        v, long = gable + (0.6 if eaves else 0.1), True
        while v < facade.height - 0.3:
            for left in (True, False):
                reach = 0.34 if long == left else 0.22
                stone_rect: Rect = (0.0, v, reach, v + 0.3) if left else (width - reach, v, width, v + 0.3)
                facade.fill(rng, stone_rect, light)
                facade.lift(stone_rect, 0.035, side)
            v, long = v + 0.32, not long


def gable_steps(rng: np.random.Generator, facade: Facade, gable: float, stone: Colour, side: Paint) -> list[Rect]:
    """The stepped gable's rectangles from the eaves up; each step gets a coping stone."""
    width = facade.width
    steps = int(rng.integers(3, 6))
    run = width * rng.uniform(0.36, 0.42) / steps
    regions: list[Rect] = []
    for step in range(steps):
        inset = run * (step + 0.35)
        top = gable * (1 - (step + 1) / steps)
        regions.append((inset, top, width - inset, gable * (1 - step / steps)))
        next_inset = run * (step + 1.35) if step + 1 < steps else width / 2
        for u0, u1 in ((inset, next_inset), (width - next_inset, width - inset)):
            coping: Rect = (u0 - (0.05 if u0 < width / 2 else -0.0), top, u1 + 0.05, top + 0.12)
            facade.fill(rng, coping, (stone[0] * 1.1, stone[1] * 1.1, stone[2] * 1.1))
            facade.soft_shadow(coping, 0.15)
            facade.lift(coping, 0.08, side, -0.3)
    return regions


def clutter(rng: np.random.Generator, facade: Facade, first_floor: float, ground: float, side: Paint) -> None:
    """Posters, cables, a house number, a drain pipe: what nobody planned."""
    for _ in range(int(rng.integers(1, 4))):
        w, h = rng.uniform(0.3, 0.55), rng.uniform(0.45, 0.8)
        u, v = rng.uniform(0.1, facade.width - w - 0.1), rng.uniform(ground - 2.2, ground - 1.0 - h * 0.5)
        rect: Rect = (float(u), float(v), float(u + w), float(v + h))
        if not any(u < s.rect[2] and s.rect[0] < u + w and v < s.rect[3] and s.rect[1] < v + h for s in facade.sunk):
            poster(rng, facade.view(rect))
    plate = facade.view((0.45, ground - 2.5, 0.72, ground - 2.3))
    plate[...] = (28, 46, 110, 0)
    write_text(
        facade.canvas,
        str(int(rng.integers(1, 60))),
        (
            int(0.47 * facade.ppm),
            int((ground - 2.49) * facade.ppm),
            int(0.7 * facade.ppm),
            int((ground - 2.31) * facade.ppm),
        ),
        (240, 240, 235, 0),
        0,
    )
    for _ in range(int(rng.integers(0, 3))):
        v = float(rng.uniform(first_floor - 0.6, first_floor + 0.3))
        facade.tone((0.0, v, facade.width, v + 0.025), 0.45)
    if rng.random() < 0.75:
        u = 0.05 if rng.random() < 0.5 else facade.width - 0.19
        pipe: Rect = (u, 0.42 if facade.height == ground else 0.3, u + 0.11, ground)
        if facade.height > first_floor + 3.0:
            top = min(s.rect[1] for s in facade.sunk) - 0.3 if facade.sunk else 0.3
            pipe = (u, max(0.42, top), u + 0.11, ground)
        tone = float(rng.uniform(0.2, 0.5))
        facade.fill(rng, pipe, (tone, tone * 1.02, tone * 0.98))
        facade.lift(pipe, 0.15, Paint(side.texture, side.x, side.y, side.texels_per_m, (tone, tone, tone)), 0.04)
