"""A wall as a painting in relief: everything is painted on one canvas, then parts of it are lifted out or sunk in."""

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np

from .geometry import Frame, Paint, Polygon, Scene, box, recess, rectangle
from .lettering import Canvas
from .noise import fbm, smoothstep

Rect = tuple[float, float, float, float]  # u0, v0, u1, v1 in metres from the top left


@dataclass
class Sunk:
    rect: Rect
    depth: float
    glow: tuple[float, float, float]


@dataclass
class Lifted:
    rect: Rect
    out: float
    side: Paint
    from_out: float = 0.0


@dataclass
class Facade:
    """canvas (H, W, 4) uint8 at ppm texels a metre; rects are metres on the wall."""

    canvas: Canvas
    ppm: float
    sunk: list[Sunk] = field(default_factory=list)
    lifted: list[Lifted] = field(default_factory=list)
    relief: float = 0.0  # parts that stand out less than this stay painted

    @property
    def width(self) -> float:
        return self.canvas.shape[1] / self.ppm

    @property
    def height(self) -> float:
        return self.canvas.shape[0] / self.ppm

    def view(self, rect: Rect) -> Canvas:
        """The canvas under a rect, to paint on."""
        u0, v0, u1, v1 = (max(0, round(x * self.ppm)) for x in rect)
        return self.canvas[v0 : max(v1, v0 + 1), u0 : max(u1, u0 + 1)]

    def tone(self, rect: Rect, factor: float) -> None:
        view = self.view(rect)
        view[..., :3] = np.clip(view[..., :3] * factor, 0, 255)

    def fill(
        self, rng: np.random.Generator, rect: Rect, colour: tuple[float, float, float], bevel: bool = True
    ) -> None:
        """Paint a dressed stone or painted board: even colour with grain and a light upper, dark lower edge."""
        view = self.view(rect)
        height, width = view.shape[:2]
        grain = 1 + 0.05 * fbm(rng, height, width, max(3.0, 0.25 * self.ppm), 4) + rng.normal(0, 0.02)
        view[..., :3] = np.clip(np.asarray(colour, np.float32) * 255 * grain[..., None], 0, 255)
        view[..., 3] = 0
        if bevel and min(height, width) > 5:
            edge = max(1, min(height, width) // 10)
            view[:edge, :, :3] = np.clip(view[:edge, :, :3] * 1.15, 0, 255)
            view[-edge:, :, :3] = view[-edge:, :, :3] * 0.75
            view[:, -edge:, :3] = view[:, -edge:, :3] * 0.88

    def stain(self, rng: np.random.Generator, u0: float, u1: float, v: float, length: float) -> None:
        """Dirty water has run down the wall below (u0..u1, v)."""
        view = self.view((u0, v, u1, min(self.height, v + length)))
        height, width = view.shape[:2]
        if height < 4 or width < 4:
            return
        streaks = smoothstep(0.0, 1.6, fbm(rng, height, width, max(3.0, 0.09 * self.ppm), 2, stretch=14.0))
        fade = np.linspace(1, 0, height, dtype=np.float32)[:, None] ** 1.5
        ends = np.exp(-np.minimum(np.arange(width), np.arange(width)[::-1]) / (0.12 * self.ppm))[None, :]
        weight = 0.4 * fade * (streaks * 0.7 + 0.7 * ends)
        view[..., :3] = np.clip(view[..., :3] * (1 - np.clip(weight, 0, 0.6))[..., None], 0, 255)

    def soft_shadow(self, rect: Rect, reach: float) -> None:
        """Dirt gathers below ledges: darken a band of the given reach under rect."""
        u0, _, u1, v1 = rect
        view = self.view((u0, v1, u1, min(self.height, v1 + reach)))
        ramp = np.linspace(0.7, 1.0, view.shape[0], dtype=np.float32)[:, None, None]
        view[..., :3] = np.clip(view[..., :3] * ramp, 0, 255)

    def sink(self, rect: Rect, depth: float, glow: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        self.sunk.append(Sunk(rect, depth, glow))

    def lift(self, rect: Rect, out: float, side: Paint, from_out: float = 0.0) -> None:
        if out >= self.relief:
            self.lifted.append(Lifted(rect, out, side, from_out))

    def emit(
        self,
        scene: Scene,
        frame: Frame,
        texture: int,
        instance: int,
        reveal: Paint,
        regions: list[Rect],
        glow: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Turn the painting into polygons: wall pieces of the regions around the sunk parts, recesses and blocks."""
        paint = Paint(texture, 0, 0, self.ppm, glow=glow)
        for region in regions:
            for u0, v0, u1, v1 in pieces(region, [s.rect for s in self.sunk]):
                rectangle(scene, frame, u0, v0, u1, v1, 0.0, paint, instance)
        for item in self.sunk:
            back = Paint(texture, 0, 0, self.ppm, glow=item.glow)
            recess(scene, frame, *item.rect, item.depth, back, reveal, instance)
        for lifted in self.lifted:
            box(scene, frame, *lifted.rect, lifted.from_out, lifted.out, paint, lifted.side, instance)

    def emit_outline(
        self, scene: Scene, frame: Frame, texture: int, instance: int, outline: list[tuple[float, float]]
    ) -> None:
        """A convex part of the wall that is no rectangle, such as a gable."""
        scene.polygons.append(
            Polygon(
                frame.point(0, 0),
                frame.right,
                frame.down,
                np.array(outline, float),
                Paint(texture, 0, 0, self.ppm),
                instance,
            )
        )


def pieces(region: Rect, holes: list[Rect]) -> list[Rect]:
    """The region minus the holes, as rectangles."""
    u_low, v_low, u_high, v_high = region
    inside = [h for h in holes if h[0] < u_high and h[2] > u_low and h[1] < v_high and h[3] > v_low]
    levels = sorted({v_low, v_high, *(min(max(v, v_low), v_high) for h in inside for v in (h[1], h[3]))})
    out: list[Rect] = []
    for top, bottom in itertools.pairwise(levels):
        if bottom - top < 1e-6:
            continue
        u = u_low
        for hole in sorted(h for h in inside if h[1] < bottom - 1e-6 and h[3] > top + 1e-6):
            if hole[0] > u + 1e-6:
                out.append((u, top, hole[0], bottom))
            u = max(u, hole[2])
        if u < u_high - 1e-6:
            out.append((u, top, u_high, bottom))
    return out


def resize_to(canvas: Canvas, picture: Canvas) -> None:
    """Paint a picture over the whole canvas."""
    canvas[...] = cv2.resize(picture, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_AREA)
