"""A church tower behind the houses: the one thing seen from everywhere."""

import numpy as np

from .atlas import AtlasBuilder, to_canvas
from .facade import Facade, resize_to
from .geometry import UP, Frame, Paint, Scene, Vector, lathe
from .lettering import clock_face
from .materials import ashlar, planks, roof_tiles, weather
from .sheets import Sheets


def build_tower(
    rng: np.random.Generator, scene: Scene, builder: AtlasBuilder, sheets: Sheets, foot: Vector, instance: int
) -> None:
    """Four faces with belfry openings and a clock, and a spire of four or eight sides."""
    ppm, half, height = 40.0, float(rng.uniform(2.4, 3.2)), float(rng.uniform(19.0, 24.0))
    turn, hour = float(rng.uniform(0, np.pi / 2)), float(rng.uniform(8, 19))
    tone = rng.uniform(0.9, 1.05)
    side = sheets.paint(rng, sheets.stone)
    for face in range(4):
        wall = ashlar(rng, round(height * ppm), round(2 * half * ppm), ppm, (0.6 * tone, 0.55, 0.47 / tone), 0.45)
        facade = Facade(to_canvas(weather(rng, wall, ppm, 1.3)), ppm)
        for v in (0.3, 4.4, 9.5):
            band = (0.0, v, 2 * half, v + 0.3)
            facade.fill(rng, band, (0.66, 0.62, 0.54))
            facade.soft_shadow(band, 0.4)
            facade.lift(band, 0.16, side)
        for u in (half - 1.25, half + 0.35):
            louvre = (u, 1.4, u + 0.9, 4.0)
            view = facade.view(louvre)
            slats = planks(rng, view.shape[1], view.shape[0], ppm, (0.3, 0.26, 0.22), 0.16)
            view[...] = to_canvas(np.ascontiguousarray(slats.transpose(1, 0, 2)))
            facade.sink(louvre, 0.35)
        clock = (half - 1.1, 5.2, half + 1.1, 7.4)
        dial = np.zeros((88, 88, 4), np.uint8)
        clock_face(dial, hour)
        resize_to(facade.view(clock), dial)
        facade.lift(clock, 0.08, side)
        slit = (half - 0.25, 11.0, half + 0.25, 13.0)
        facade.fill(rng, slit, (0.1, 0.1, 0.11), bevel=False)
        facade.sink(slit, 0.4)
        angle = turn + face * np.pi / 2
        out, right = np.array([np.cos(angle), np.sin(angle), 0.0]), np.array([-np.sin(angle), np.cos(angle), 0.0])
        left = foot + out * half - right * half
        frame = Frame.facing(left, left + 2 * half * right, height)
        glow = (0.8, 0.7, 0.45)
        facade.emit(
            scene, frame, builder.add(facade.canvas), instance, side, [(0.0, 0.0, facade.width, facade.height)], glow
        )
    sides = int(rng.choice([4, 8]))
    spire = float(rng.uniform(6.0, 10.0))
    reach = half * (1.5 if sides == 4 else 1.16)
    slope = roof_tiles(rng, round((spire + 2) * 32), round(2 * reach * 32), 32.0, (0.27, 0.33, 0.31))
    paint = Paint(builder.add_colour(slope), 0, 0, 32.0)
    start = turn + np.pi / sides
    lathe(
        scene,
        foot + height * UP,
        [(0.0, spire), (reach * 0.62, spire * 0.22), (reach, 0.0)],
        sides,
        paint,
        instance,
        start,
    )
    gold = sheets.paint(rng, sheets.plain, (1.2, 0.85, 0.3))
    lathe(
        scene,
        foot + (height + spire) * UP,
        [(0.0, 1.4), (0.03, 1.38), (0.03, 0.5), (0.22, 0.3), (0.0, 0.05)],
        8,
        gold,
        instance,
    )
