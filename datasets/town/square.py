"""The plan of the town: four rows of houses around a crooked square, streets that leave it, and what stands on it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from . import furniture
from .atlas import AtlasBuilder
from .geometry import UP, Paint, Scene, Vector, panel
from .houses import build_house, random_plan
from .monument import build_monument
from .noise import Array
from .paving import setts, slabs, square_paving
from .plants import tree
from .sheets import Sheets, make_sheets
from .tower import build_tower

KERB_M = 0.11
PPM = 88.0
STREET_PPM = 48.0
GROUND_M = 46.0
GROUND_PPM = 58.0
SIDES = ("south", "west", "north", "east")


@dataclass(frozen=True)
class Obstacle:
    """A disc on the ground that cameras keep out of."""

    centre: Vector
    radius: float


@dataclass(frozen=True)
class Site:
    """What camera placement needs: the square's corners (4, 2), clockwise from the south east, and obstacles."""

    corners: Vector
    middle: Vector
    obstacles: list[Obstacle]


def build_square(rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, detail: float = 1.0) -> Site:
    """Fill scene with a town drawn from rng; detail scales the resolution of walls and paving."""
    sheets = make_sheets(rng, builder)
    half_x, half_y = rng.uniform(14.5, 18.0), rng.uniform(13.5, 16.5)
    corners = np.array([[half_x, -half_y], [-half_x, -half_y], [-half_x, half_y], [half_x, half_y]])
    corners = corners + rng.uniform(-1.6, 1.6, (4, 2))
    middle = np.array([*rng.uniform(-1.8, 1.8, 2), 0.0])
    open_sides = rng.permutation(4)[: int(rng.integers(3, 5))]
    half = GROUND_M / 2
    with ThreadPoolExecutor(1) as pool:  # the ground is one large picture: paint it while the houses are built
        picture = pool.submit(
            square_paving,
            np.random.default_rng(rng.integers(2**62)),
            GROUND_M,
            GROUND_PPM * detail,
            (half + middle[0], half - middle[1]),
        )
        streets = [
            row_of_houses(rng, scene, builder, sheets, (a, b), side in open_sides, SIDES[side], detail)
            for side, (a, b) in enumerate(zip(corners, np.roll(corners, -1, axis=0), strict=True))
        ]
        build_tower(rng, scene, builder, sheets, tower_foot(rng, corners, streets), scene.new_instance("tower"))
        ground(rng, scene, builder, picture.result())
    build_monument(rng, scene, builder, sheets, middle)
    return Site(corners, middle, furnish(rng, scene, builder, sheets, corners, middle))


def tower_foot(rng: np.random.Generator, corners: Vector, streets: list[float]) -> Vector:
    """A place behind the houses of one side, not in its street (given as a distance along the side, or -1)."""
    side = int(rng.integers(4))
    a, b = corners[side], corners[(side + 1) % 4]
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    places = [at for at in np.linspace(0.2, 0.8, 25) * length if streets[side] < 0 or abs(at - streets[side]) > 8.5]
    at = float(rng.choice(places)) if places else 0.2 * length
    return np.array([*(a + along * at + np.array([-along[1], along[0]]) * rng.uniform(13, 16)), 0.0])


def row_of_houses(
    rng: np.random.Generator,
    scene: Scene,
    builder: AtlasBuilder,
    sheets: Sheets,
    ends: tuple[Vector, Vector],
    with_street: bool,
    label: str,
    detail: float,
) -> float:
    """Houses side by side from the left end to the right end as seen from the square, with at most one street between.

    Returns how far along the side the street's middle is, or -1 without a street.
    """
    a, b = (np.array([*end, KERB_M]) for end in ends)
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    outward = np.cross(along, UP)  # from the wall into the square
    street = float(rng.uniform(4.4, 5.6)) if with_street else 0.0
    number = max(3, round((length - street) / rng.uniform(6.6, 7.8)))
    widths = rng.uniform(0.75, 1.25, number)
    widths *= (length - street) / widths.sum()
    after = int(rng.integers(1, number)) if with_street else -1
    at, opening = 0.0, -1.0
    for index, width in enumerate(widths):
        if index == after:
            build_street(
                rng, scene, builder, sheets, a + along * at, a + along * (at + street), -outward, label, detail
            )
            opening = at + street / 2
            at += street
        back = 0.0 if index in (0, number - 1) else float(rng.uniform(0, 0.4))
        left = a + along * at - outward * back
        house = np.random.default_rng(rng.integers(2**62))
        build_house(
            house,
            scene,
            builder,
            sheets,
            left,
            left + along * width,
            random_plan(house, float(width), True, PPM * detail),
            f"house {label}{index}",
        )
        pavement(rng, scene, builder, a + along * at, along, outward, float(width), back)
        at += width
    return opening


def pavement(
    rng: np.random.Generator,
    scene: Scene,
    builder: AtlasBuilder,
    left: Vector,
    along: Vector,
    outward: Vector,
    width: float,
    back: float,
) -> None:
    """A raised strip of slabs in front of one house, with a kerb."""
    ppm, depth = 64.0, 1.7
    picture = slabs(rng, round((depth + back + KERB_M) * ppm) + 1, round(width * ppm), ppm)
    paint = Paint(builder.add_colour(picture), 0, 0, ppm)
    corner = left - outward * back
    instance = scene.new_instance("pavement")
    panel(scene, corner, along * width, outward * (depth + back), paint, instance)
    kerb = Paint(paint.texture, 0, (depth + back) * ppm, ppm, (0.92, 0.92, 0.92))
    panel(scene, left + outward * depth, along * width, -UP * KERB_M, kerb, instance)
    for u, direction in ((0.0, outward), (width, -outward)):
        start = corner + along * u + (outward * (depth + back) if u else 0)
        panel(
            scene,
            start,
            direction * (depth + back),
            -UP * KERB_M,
            Paint(paint.texture, 0, 0, ppm * min(1, width / 3)),
            instance,
        )


def build_street(
    rng: np.random.Generator,
    scene: Scene,
    builder: AtlasBuilder,
    sheets: Sheets,
    left: Vector,
    right: Vector,
    outward: Vector,
    label: str,
    detail: float,
) -> None:
    """A street away from the square, slightly askew, two houses a side and one across its end."""
    turn = np.radians(rng.uniform(-7, 7))
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    ahead = rotation @ outward
    aside = np.cross(ahead, UP)
    lengths = rng.uniform(7.5, 9.5, 4)
    begin = 8.2

    def place(a: Vector, b: Vector, name: str) -> None:
        house = np.random.default_rng(rng.integers(2**62))
        plan = random_plan(house, float(np.linalg.norm(b - a)), False, STREET_PPM * detail)
        build_house(house, scene, builder, sheets, a, b, plan, f"{name} {label}")

    at_left = at_right = begin
    for index in range(2):
        place(left + ahead * at_left, left + ahead * (at_left + lengths[index]), "street house")
        place(right + ahead * (at_right + lengths[2 + index]), right + ahead * at_right, "street house")
        at_left, at_right = at_left + lengths[index], at_right + lengths[2 + index]
    reach = max(at_left, at_right) + 3.5
    place(left + ahead * reach - aside * 3.2, left + ahead * reach + aside * 5.0, "end house")
    place(left + ahead * (reach - 0.01) + aside * 5.0, left + ahead * reach + aside * 12.0, "end house")
    width, ppm = float(np.linalg.norm(right - left)) + 9.0, 36.0
    picture = setts(rng, round((reach + 1) * ppm), round(width * ppm), ppm, 0.2)
    origin = left + ahead * reach - aside * 4.5
    origin = np.array([origin[0], origin[1], 0.012])
    panel(
        scene,
        origin,
        aside * width,
        -ahead * (reach + 0.6),
        Paint(builder.add_colour(picture), 0, 0, ppm),
        scene.new_instance("street"),
    )
    furniture.wall_lamp(rng, scene, sheets, left + ahead * 10.0 + UP * 3.4, aside)
    furniture.wall_lamp(rng, scene, sheets, right + ahead * 17.0 + UP * 3.4, -aside)


def ground(rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, picture: Array) -> None:
    """The square's own paving and, just below, plain ground to the horizon."""
    half = GROUND_M / 2
    instance = scene.new_instance("ground")
    panel(
        scene,
        np.array([-half, half, 0.0]),
        np.array([GROUND_M, 0, 0]),
        np.array([0, -GROUND_M, 0]),
        Paint(builder.add_colour(picture), 0, 0, picture.shape[0] / GROUND_M),
        instance,
    )
    far = setts(rng, 512, 512, 12.0, 0.5)
    panel(
        scene,
        np.array([-160.0, 160.0, -0.03]),
        np.array([320.0, 0, 0]),
        np.array([0, -320.0, 0]),
        Paint(builder.add_colour(far), 0, 0, 1.5),
        instance,
    )


def furnish(
    rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, sheets: Sheets, corners: Vector, middle: Vector
) -> list[Obstacle]:
    """Lamps, trees, benches, tables, stalls and a pillar, clear of each other and of the houses."""
    taken = [Obstacle(middle, 3.4)]
    centre = corners.mean(axis=0)

    def spot(low: float, high: float, radius: float) -> Vector | None:
        """A free place at a share low..high of the way from the centre to the houses."""
        for _ in range(60):
            angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
            reach = min(_reach(corners, centre, angle), 30.0)
            place = np.array([*(centre + share * (reach - 1.0) * np.array([np.cos(angle), np.sin(angle)])), 0.0])
            if all(np.linalg.norm(place - o.centre) > radius + o.radius + 0.4 for o in taken):
                taken.append(Obstacle(place, radius))
                return place
        return None

    def put(number: int, low: float, high: float, radius: float) -> list[Vector]:
        return [p for p in (spot(low, high, radius) for _ in range(number)) if p is not None]

    for foot in put(2, 0.6, 0.8, 0.8):
        furniture.advertising_column(rng, scene, builder, sheets, foot)
    for foot in put(int(rng.integers(7, 10)), 0.55, 0.86, 0.25):
        furniture.lamp_post(rng, scene, sheets, foot)
    for foot in put(int(rng.integers(3, 6)), 0.6, 0.78, 0.9):
        tree(rng, scene, sheets, foot, scene.new_instance("tree"))
    for foot in put(int(rng.integers(3, 6)), 0.62, 0.84, 1.2):
        furniture.parasol(rng, scene, sheets, foot)
    for foot in put(int(rng.integers(1, 4)), 0.45, 0.7, 1.6):
        furniture.stall(rng, scene, sheets, foot, float(rng.uniform(0, 2 * np.pi)))
    for foot in put(int(rng.integers(4, 7)), 0.4, 0.8, 0.9):
        furniture.bench(rng, scene, sheets, foot, float(rng.uniform(0, 2 * np.pi)))
    for foot in put(int(rng.integers(8, 14)), 0.35, 0.85, 0.2):
        furniture.bollard(rng, scene, sheets, foot)
    return taken


def _reach(corners: Vector, centre: Vector, angle: float) -> float:
    """Distance from the centre to the houses in a direction."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    best = np.inf
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        matrix = np.stack([direction, a - b], axis=1)
        if abs(np.linalg.det(matrix)) > 1e-9:
            t, s = np.linalg.solve(matrix, a - centre)
            if t > 0 and -1e-6 <= s <= 1 + 1e-6:
                best = min(best, float(t))
    return best
