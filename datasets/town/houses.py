"""One house: storeys, openings and ornaments are drawn from a seed, painted on its wall and given relief."""

from dataclasses import dataclass

import numpy as np

from . import ornaments
from .atlas import AtlasBuilder, to_canvas
from .facade import Facade, Rect
from .geometry import Frame, Paint, Scene
from .ground_floor import Street, ground_floor
from .materials import Colour, ashlar, brick, plaster, timber_frame, weather
from .openings import Joinery, paint_window, random_joinery
from .roofs import Roofing, gable_roof, ridge_roof
from .sheets import Sheets

PLASTERS: list[Colour] = [
    (0.85, 0.78, 0.62),
    (0.80, 0.62, 0.45),
    (0.74, 0.45, 0.36),
    (0.66, 0.70, 0.66),
    (0.86, 0.84, 0.79),
    (0.60, 0.66, 0.72),
    (0.83, 0.69, 0.38),
    (0.68, 0.60, 0.52),
    (0.78, 0.58, 0.55),
    (0.56, 0.62, 0.50),
]
BRICKS: list[Colour] = [
    (0.52, 0.28, 0.22),
    (0.58, 0.38, 0.28),
    (0.45, 0.30, 0.26),
    (0.64, 0.50, 0.36),
    (0.40, 0.25, 0.22),
]
STONES: list[Colour] = [(0.68, 0.64, 0.55), (0.60, 0.58, 0.54), (0.70, 0.60, 0.47), (0.52, 0.53, 0.52)]
ROOFS: list[Colour] = [(0.48, 0.24, 0.17), (0.40, 0.21, 0.17), (0.28, 0.29, 0.31), (0.34, 0.25, 0.21)]


@dataclass(frozen=True)
class HousePlan:
    """The numbers a house is drawn from; lengths in metres."""

    width: float
    depth: float
    storeys: int
    ground: float
    storey: float
    gable: str  # "eaves", "stepped" or "pointed"
    gable_height: float
    wall: str  # "plaster", "brick", "ashlar" or "timber"
    shop: bool
    near: bool  # on the square rather than in a street
    ppm: float
    columns: tuple[tuple[float, float], ...]  # left and right edge of every column of windows

    @property
    def eaves(self) -> float:
        return self.ground + (self.storeys - 1) * self.storey + 0.35

    @property
    def top(self) -> float:
        return self.eaves + self.gable_height

    def floor_v(self, storey: int) -> float:
        """Canvas v of the floor of a storey; 0 is the ground floor."""
        return self.top - (0.0 if storey == 0 else self.ground + (storey - 1) * self.storey)


def random_plan(rng: np.random.Generator, width: float, near: bool, ppm: float) -> HousePlan:
    gable = str(rng.choice(["eaves", "stepped", "pointed"], p=[0.5, 0.25, 0.25]))
    if width > 9.0:
        gable = "eaves"
    storeys = int(rng.choice([2, 3, 3, 4]))
    wall = str(rng.choice(["plaster", "brick", "ashlar", "timber"], p=[0.42, 0.24, 0.14, 0.2]))
    if wall == "timber" and gable == "stepped":
        gable = "pointed"
    gable_height = 0.0 if gable == "eaves" else width * rng.uniform(0.42, 0.62)
    return HousePlan(
        width,
        float(rng.uniform(8.0, 9.5)),
        storeys,
        float(rng.uniform(3.3, 4.0)),
        float(rng.uniform(2.6, 3.1)),
        gable,
        float(gable_height),
        wall,
        bool(rng.random() < (0.6 if near else 0.4)),
        near,
        ppm,
        window_columns(rng, width),
    )


def build_house(
    rng: np.random.Generator,
    scene: Scene,
    builder: AtlasBuilder,
    sheets: Sheets,
    left: np.ndarray,
    right: np.ndarray,
    plan: HousePlan,
    name: str,
) -> None:
    """Paint and place a house whose front stands on the ground segment left -> right."""
    instance = scene.new_instance(name)
    frame = Frame.facing(left, right, plan.top)
    joinery = random_joinery(rng)
    stone: Colour = STONES[int(rng.integers(len(STONES)))]
    facade = Facade(to_canvas(paint_wall(rng, plan, stone)), plan.ppm, relief=0.0 if plan.near else 0.1)
    side = sheets.paint(rng, sheets.stone, (stone[0] * 1.45, stone[1] * 1.5, stone[2] * 1.6))
    for storey in range(1, plan.storeys):
        windows_of_storey(rng, scene, facade, sheets, plan, frame, instance, storey, joinery, stone, side)
    ground_floor(
        rng,
        scene,
        facade,
        sheets,
        frame,
        instance,
        Street(plan.floor_v(1), plan.top, plan.columns, plan.shop, plan.wall),
        joinery,
        stone,
        side,
    )
    ornaments.bands_and_corners(
        rng,
        facade,
        [plan.floor_v(s) for s in range(1, plan.storeys)],
        plan.gable_height,
        plan.gable == "eaves",
        plan.wall,
        stone,
        side,
    )
    ornaments.clutter(rng, facade, plan.floor_v(1), plan.top, side)
    regions: list[Rect] = [(0.0, plan.gable_height, plan.width, plan.top)]
    if plan.gable != "eaves":
        loft_window(rng, facade, plan, joinery, stone, side)
    if plan.gable == "stepped":
        regions += ornaments.gable_steps(rng, facade, plan.gable_height, stone, side)
    texture = builder.add(facade.canvas)
    facade.emit(scene, frame, texture, instance, side, regions)
    if plan.gable == "pointed":
        half = plan.width / 2
        facade.emit_outline(
            scene, frame, texture, instance, [(half, 0.0), (plan.width, plan.gable_height), (0.0, plan.gable_height)]
        )
    roofing = Roofing(
        rng,
        scene,
        builder,
        sheets,
        frame,
        plan.width,
        plan.depth,
        plan.gable_height,
        ROOFS[int(rng.integers(len(ROOFS)))],
        instance,
    )
    if plan.gable == "eaves":
        ridge_roof(roofing, plan.top, joinery)
    else:
        gable_roof(roofing, plan.gable == "pointed")
    flanks(rng, scene, builder, plan, frame, instance)


def window_columns(rng: np.random.Generator, width: float) -> tuple[tuple[float, float], ...]:
    """Even columns of windows across a front, with the spacing and width of this house."""
    number = max(2, round((width - 0.6) / rng.uniform(1.75, 2.5)))
    pitch = (width - 0.7) / number
    half = min(0.62, pitch * 0.5 - 0.28) * rng.uniform(0.8, 1.0)
    return tuple((0.35 + (i + 0.5) * pitch - half, 0.35 + (i + 0.5) * pitch + half) for i in range(number))


def paint_wall(rng: np.random.Generator, plan: HousePlan, stone: Colour) -> np.ndarray:
    """The bare wall (H, W, 3), weathered; the ground floor is sometimes of another material."""
    ppm = plan.ppm
    height, width = round(plan.top * ppm), round(plan.width * ppm)
    base: Colour = PLASTERS[int(rng.integers(len(PLASTERS)))]
    base = (base[0] * rng.uniform(0.93, 1.04), base[1] * rng.uniform(0.95, 1.03), base[2] * rng.uniform(0.92, 1.05))
    if plan.wall == "brick":
        wall = brick(rng, height, width, ppm, BRICKS[int(rng.integers(len(BRICKS)))])
        wall *= 1 + 0.07 * np.asarray(rng.standard_normal(), np.float32)
    elif plan.wall == "ashlar":
        wall = ashlar(rng, height, width, ppm, stone, float(rng.uniform(0.26, 0.42)))
    else:
        wall = plaster(rng, height, width, ppm, base, float(rng.uniform(0.1, 0.9)))
    if plan.wall == "timber":
        posts = sorted({0.09, plan.width - 0.09, *(u for c in plan.columns for u in (c[0] - 0.18, c[1] + 0.18))})
        rails = [plan.gable_height * 0.05 + 0.05] + [
            v for s in range(plan.storeys - 1, 0, -1) for v in (plan.floor_v(s) - plan.storey * 0.3, plan.floor_v(s))
        ]
        rails = sorted({*rails, plan.gable_height + 0.1})
        wood: Colour = (0.24, 0.16, 0.11) if rng.random() < 0.6 else (0.36, 0.22, 0.15)
        wall = timber_frame(rng, height, width, ppm, wall, posts, rails, wood)
    if plan.wall != "ashlar" and rng.random() < 0.6:
        split = round(plan.floor_v(1) * ppm)
        kind = rng.random()
        rows = height - split
        if kind < 0.5:
            wall[split:] = ashlar(rng, rows, width, ppm, stone, float(rng.uniform(0.3, 0.5)))
        else:
            wall[split:] = plaster(rng, rows, width, ppm, (base[0] * 0.7, base[1] * 0.7, base[2] * 0.72), 0.6)
    return weather(rng, wall, ppm, float(rng.uniform(0.6, 1.3)))


def windows_of_storey(
    rng: np.random.Generator,
    scene: Scene,
    facade: Facade,
    sheets: Sheets,
    plan: HousePlan,
    frame: Frame,
    instance: int,
    storey: int,
    joinery: Joinery,
    stone: Colour,
    side: Paint,
) -> None:
    floor = plan.floor_v(storey)
    high = plan.storey * (0.6 if storey < plan.storeys - 1 or plan.storeys < 4 else 0.5)
    sill = floor - plan.storey * 0.3
    balcony_at = int(rng.integers(len(plan.columns))) if storey == 1 and rng.random() < 0.35 else -1
    for number, (u0, u1) in enumerate(plan.columns):
        has_balcony = number == balcony_at
        rect: Rect = (u0, sill - high, u1, floor - 0.08 if has_balcony else sill)
        ornaments.surround(rng, facade, rect, stone, side, plan.wall)
        paint_window(rng, facade.view(rect), plan.ppm, joinery)
        facade.sink(rect, 0.2, ornaments.window_glow(rng))
        if has_balcony:
            ornaments.balcony(rng, scene, facade, sheets, frame, instance, rect, side)
            continue
        ornaments.sill(rng, scene, facade, sheets, frame, instance, rect, stone, side)
        ornaments.shutters(rng, facade, rect, plan.columns, number, plan.width, sheets)


def loft_window(
    rng: np.random.Generator, facade: Facade, plan: HousePlan, joinery: Joinery, stone: Colour, side: Paint
) -> None:
    """A small window under the gable, a hole where the gable is built of rectangles and a framed panel otherwise."""
    half = 0.42
    middle = plan.width / 2
    rect: Rect = (middle - half, plan.gable_height * 0.62 - 0.55, middle + half, plan.gable_height * 0.62 + 0.55)
    border: Rect = (rect[0] - 0.12, rect[1] - 0.12, rect[2] + 0.12, rect[3] + 0.12)
    facade.fill(rng, border, (stone[0] * 1.1, stone[1] * 1.1, stone[2] * 1.1))
    paint_window(rng, facade.view(rect), plan.ppm, joinery)
    if plan.gable == "stepped":
        facade.sink(rect, 0.16)
    else:
        facade.lift(border, 0.06, side)


def flanks(
    rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, plan: HousePlan, frame: Frame, instance: int
) -> None:
    """Side and back walls: coarse render, seen above lower neighbours and along streets."""
    ppm = 40.0
    height, width = round(plan.eaves * ppm), round(plan.depth * ppm)
    base = (0.6, 0.57, 0.52) if rng.random() < 0.5 else (0.7, 0.66, 0.58)
    wall = (
        plaster(rng, height, width, ppm, base, 0.7)
        if rng.random() < 0.6
        else brick(rng, height, width, ppm, (0.5, 0.33, 0.27))
    )
    facade = Facade(to_canvas(weather(rng, wall, ppm, 1.2)), ppm)
    joinery = random_joinery(rng)
    for storey in range(plan.storeys):
        for u in (0.25, 0.66):
            if rng.random() < 0.6:
                v = plan.eaves - (plan.ground * 0.35 if storey == 0 else plan.ground + (storey - 1) * plan.storey + 0.9)
                rect: Rect = (u * plan.depth, v - 1.25, u * plan.depth + 0.85, v)
                facade.fill(rng, (rect[0] - 0.1, rect[1] - 0.1, rect[2] + 0.1, rect[3] + 0.12), (0.62, 0.6, 0.56))
                paint_window(rng, facade.view(rect), ppm, joinery)
                facade.sink(rect, 0.15, ornaments.window_glow(rng))
    texture = builder.add(facade.canvas)
    reveal = Paint(texture, 0, 0, ppm)
    ground = frame.point(0, plan.top)
    far = frame.point(0, plan.top, -plan.depth)
    along = plan.width * frame.right
    region: list[Rect] = [(0.0, 0.0, plan.depth, plan.eaves)]
    facade.emit(scene, Frame.facing(far, ground, plan.eaves), texture, instance, reveal, region)
    facade.emit(scene, Frame.facing(ground + along, far + along, plan.eaves), texture, instance, reveal, region)
    back = Frame.facing(far + along, far, plan.eaves)
    Facade(facade.canvas, min(ppm, facade.canvas.shape[1] / plan.width)).emit(
        scene, back, texture, instance, reveal, [(0.0, 0.0, plan.width, plan.eaves)]
    )
