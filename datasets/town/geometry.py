"""The scene as a list of flat convex polygons, and the shapes built from them."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def cross(a: Vector, b: Vector) -> Vector:
    """Cross product of two 3-vectors, many times faster than np.cross on single ones."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


@dataclass(frozen=True)
class Paint:
    """A window into the atlas: texel = origin + scale * (u, v), with (u, v) in metres on the polygon."""

    texture: int
    x: float = 0.0
    y: float = 0.0
    texels_per_m: float = 64.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    glow: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cutout: bool = False


@dataclass
class Polygon:
    """Points origin + u * right + v * down, (u, v) inside the convex outline (K, 2), clockwise from the front."""

    origin: Vector
    right: Vector
    down: Vector
    outline: Vector
    paint: Paint
    instance: int

    @property
    def normal(self) -> Vector:
        return -cross(self.right, self.down)

    @property
    def vertices(self) -> Vector:
        return self.origin + self.outline[:, :1] * self.right + self.outline[:, 1:] * self.down


@dataclass
class Lamp:
    """A point light at night: position in metres, intensity (radiant, RGB)."""

    position: Vector
    colour: Vector


@dataclass
class Scene:
    polygons: list[Polygon] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    instances: list[str] = field(default_factory=lambda: ["sky"])

    def new_instance(self, name: str) -> int:
        self.instances.append(name)
        return len(self.instances) - 1


UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Frame:
    """A local wall frame: origin at the top left, right along the wall, down, and out towards the viewer."""

    origin: Vector
    right: Vector
    down: Vector

    @property
    def out(self) -> Vector:
        return -cross(self.right, self.down)

    def point(self, u: float, v: float, out: float = 0.0) -> Vector:
        return self.origin + u * self.right + v * self.down + out * self.out

    @staticmethod
    def facing(left: Vector, right: Vector, height: float) -> "Frame":
        """The wall above the ground segment left -> right as seen by someone in front of it."""
        along = (right - left) / np.linalg.norm(right - left)
        return Frame(left + height * UP, along, -UP)


def rectangle(
    scene: Scene, frame: Frame, u0: float, v0: float, u1: float, v1: float, out: float, paint: Paint, instance: int
) -> None:
    """Rectangle parallel to the frame at distance out; its texture starts at the frame's (0, 0)."""
    outline = np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]])
    scene.polygons.append(Polygon(frame.point(0, 0, out), frame.right, frame.down, outline, paint, instance))


def panel(scene: Scene, origin: Vector, right: Vector, down: Vector, paint: Paint, instance: int) -> None:
    """Parallelogram spanned by two perpendicular edge vectors from its top left corner."""
    width, height = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    outline = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    scene.polygons.append(Polygon(origin, right / width, down / height, outline, paint, instance))


def polygon(scene: Scene, points: Vector, paint: Paint, instance: int) -> None:
    """Any planar convex polygon given by its corners, clockwise seen from the front; u runs along the first edge."""
    right = points[1] - points[0]
    right = right / np.linalg.norm(right)
    normal = np.zeros(3)
    for index in range(1, len(points) - 1):
        normal = normal + cross(points[index] - points[0], points[index + 1] - points[0])
    normal = -normal / np.linalg.norm(normal)
    down = -cross(normal, right)
    outline = np.stack([(points - points[0]) @ right, (points - points[0]) @ down], axis=1)
    shift = outline.min(axis=0)
    origin = points[0] + shift[0] * right + shift[1] * down
    scene.polygons.append(Polygon(origin, right, down, outline - shift, paint, instance))


def box(
    scene: Scene,
    frame: Frame,
    u0: float,
    v0: float,
    u1: float,
    v1: float,
    out0: float,
    out1: float,
    front: Paint,
    side: Paint,
    instance: int,
    bottom: bool = True,
) -> None:
    """Block on a wall, from distance out0 to out1; its front is textured from the frame, its sides from a sheet."""
    rectangle(scene, frame, u0, v0, u1, v1, out1, front, instance)
    depth, width, height = out1 - out0, u1 - u0, v1 - v0
    r, d, o = frame.right, frame.down, frame.out
    panel(scene, frame.point(u0, v0, out0), o * depth, d * height, side, instance)
    panel(scene, frame.point(u1, v0, out1), -o * depth, d * height, side, instance)
    panel(scene, frame.point(u0, v0, out0), r * width, o * depth, side, instance)
    if bottom:
        panel(scene, frame.point(u0, v1, out1), r * width, -o * depth, side, instance)


def recess(
    scene: Scene,
    frame: Frame,
    u0: float,
    v0: float,
    u1: float,
    v1: float,
    depth: float,
    back: Paint,
    side: Paint,
    instance: int,
) -> None:
    """A hole in the wall: its back, textured from the frame, and four reveals."""
    rectangle(scene, frame, u0, v0, u1, v1, -depth, back, instance)
    width, height = u1 - u0, v1 - v0
    r, d, o = frame.right, frame.down, frame.out
    panel(scene, frame.point(u0, v0, 0), -o * depth, d * height, side, instance)
    panel(scene, frame.point(u1, v0, -depth), o * depth, d * height, side, instance)
    panel(scene, frame.point(u0, v0, 0), r * width, -o * depth, side, instance)
    panel(scene, frame.point(u0, v1, -depth), r * width, o * depth, side, instance)


def lathe(
    scene: Scene,
    centre: Vector,
    profile: list[tuple[float, float]],
    sides: int,
    paint: Paint,
    instance: int,
    turn: float = 0.0,
    varied: float = 0.0,
) -> None:
    """Solid of revolution with flat sides: profile is (radius, height) from the top down.

    varied shifts the texture from side to side, in texels.
    """
    angles = turn + np.arange(sides + 1) * 2 * np.pi / sides
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(sides + 1)], axis=1)
    for band, ((r0, z0), (r1, z1)) in enumerate(itertools.pairwise(profile)):
        if abs(r0 - r1) < 1e-9 and abs(z0 - z1) < 1e-9:
            continue
        for side in range(sides):
            corners = [
                centre + r0 * ring[side] + z0 * UP,
                centre + r0 * ring[side + 1] + z0 * UP,
                centre + r1 * ring[side + 1] + z1 * UP,
                centre + r1 * ring[side] + z1 * UP,
            ]
            if r0 < 1e-6:
                corners = [corners[0], corners[2], corners[3]]
            if r1 < 1e-6:
                corners = corners[:3]
            if varied:
                shifted = Paint(
                    paint.texture,
                    paint.x + varied * ((side * 7 + band * 3) % 11),
                    paint.y,
                    paint.texels_per_m,
                    paint.tint,
                    paint.glow,
                    paint.cutout,
                )
                polygon(scene, np.array(corners), shifted, instance)
            else:
                polygon(scene, np.array(corners), paint, instance)
