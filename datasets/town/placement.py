"""Where photographs are taken from: a walk for the database, other places and headings for the queries."""

from dataclasses import dataclass

import numpy as np

from samfeat_hloc.errors import InputError

from .camera import Camera, Matrix, Pose
from .raster import Field
from .render import Town, rasterize
from .square import Site

MIN_QUERY_DISTANCE_M = 1.05
COARSE = 0.25
ENOUGH_SHARED = 0.35  # share of a query's surface points that a database view must see to count
ENOUGH_VIEWS = 3


@dataclass(frozen=True)
class Shot:
    """One photograph to take. name is relative to images_upright."""

    name: str
    camera: Camera
    cam_from_world: Pose
    night: bool
    seed: int
    sunshine: float


@dataclass(frozen=True)
class Coarse:
    """A quick look at a shot: depth (h, w) float32, inf for sky; ground (h, w) marks the paving."""

    camera: Camera
    pose: Pose
    depth: Field
    ground: np.ndarray


class NoPlaceError(InputError):
    """The town of this seed has no room for the cameras asked for."""


def place_shots(town: Town, database: int, day: int, night: int) -> tuple[list[Shot], list[Shot], list[Shot]]:
    """Database, day and night shots.

    Every query stands at least MIN_QUERY_DISTANCE_M from every database camera and shares much of what it sees with at
    least ENOUGH_VIEWS of them. Raises NoPlaceError where that cannot be had.
    """
    rng = np.random.default_rng([town.seed, 7003])
    wide, tele = Camera(640, 480, 525.0), Camera(640, 480, 560.0)
    shots, looks = [], []
    for index in range(database):
        camera = wide if index % 4 else tele
        pose, look = _find(rng, town, camera, index / max(1, database), [], [])
        looks.append(look)
        shots.append(Shot(f"db/{index + 1:04d}.jpg", camera, pose, False, index, 1.0))
    centres = np.array([s.cam_from_world.centre for s in shots])
    phones = {
        "nexus4": Camera(640, 480, 498.0),
        "nexus5x": Camera(640, 480, 548.0),
        "milestone": Camera(640, 480, 585.0),
    }
    queries: tuple[list[Shot], list[Shot]] = ([], [])
    for when, number in ((0, day), (1, night)):
        for index in range(number):
            phone = "nexus5x" if when else list(phones)[index % 3]
            pose, _ = _find(rng, town, phones[phone], rng.random(), looks, centres)
            label, stamp = ("night", 9000) if when else ("day", 1000)
            sunshine = float(rng.choice([1.0, 0.85, 0.4, 0.1], p=[0.5, 0.2, 0.15, 0.15]))
            queries[when].append(
                Shot(
                    f"query/{label}/{phone}/IMG_{stamp + 7 * index:04d}.jpg",
                    phones[phone],
                    pose,
                    bool(when),
                    stamp + index,
                    sunshine,
                )
            )
    return shots, queries[0], queries[1]


def _find(
    rng: np.random.Generator,
    town: Town,
    camera: Camera,
    around: float,
    looks: list[Coarse],
    centres: Matrix | list[Matrix],
) -> tuple[Pose, Coarse]:
    """A pose that looks at the houses around that share of the way round the square, or at the monument."""
    for attempt in range(400):
        pose = _candidate(rng, town.site, around + rng.normal(0, 0.01 + 0.002 * attempt))
        if pose is None:
            continue
        if len(centres) and np.linalg.norm(np.asarray(centres) - pose.centre, axis=1).min() < MIN_QUERY_DISTANCE_M:
            continue
        look = coarse_look(town, camera, pose)
        sky = np.isinf(look.depth).mean()
        if sky > 0.4 or (look.depth < 2.2).mean() > 0.06 or look.ground.mean() > 0.45 or np.median(look.depth) < 5.0:
            continue
        if looks and shared_views(look, looks) < min(ENOUGH_VIEWS, 1 + len(looks) // 16):
            continue
        return pose, look
    raise NoPlaceError(
        f"town of seed {town.seed}: no free place for a camera after 400 tries; take another seed or fewer images"
    )


def _candidate(rng: np.random.Generator, site: Site, around: float) -> Pose | None:
    """Stand 6 to 25 m from a point on the houses' fronts, in the open, and look at it by hand."""
    sides = np.roll(site.corners, -1, axis=0) - site.corners
    lengths = np.linalg.norm(sides, axis=1)
    at = (around % 1.0) * lengths.sum()
    side = int(np.searchsorted(np.cumsum(lengths), at).clip(0, 3))
    at -= np.concatenate([[0], np.cumsum(lengths)])[side]
    target = site.corners[side] + sides[side] * np.clip(at / lengths[side], 0.0, 1.0)
    inward = np.array([sides[side][1], -sides[side][0]]) / lengths[side]
    angle = np.clip(rng.normal(0, 0.5), -1.0, 1.0)
    turned = np.array(
        [np.cos(angle) * inward[0] - np.sin(angle) * inward[1], np.sin(angle) * inward[0] + np.cos(angle) * inward[1]]
    )
    place = target + turned * rng.uniform(6.0, 22.0)
    if rng.random() < 0.12:
        target = site.middle[:2]
    if not is_free(site, place):
        return None
    towards = target - place
    distance = float(np.linalg.norm(towards))
    if distance < 4.5:
        return None
    yaw = np.degrees(np.arctan2(towards[1], towards[0])) + rng.normal(0, 5)
    eye = rng.uniform(1.5, 1.72)
    pitch = np.degrees(np.arctan2(rng.uniform(2.2, 4.0) - eye, distance)) + rng.normal(0, 1.5)
    return Pose.looking(np.array([*place, eye]), float(yaw), float(np.clip(pitch, -2, 16)), float(rng.normal(0, 1.6)))


def is_free(site: Site, place: Matrix) -> bool:
    """Whether someone can stand there: inside the square, 2 m from fronts, clear of obstacles."""
    for a, b in zip(site.corners, np.roll(site.corners, -1, axis=0), strict=True):
        along = (b - a) / np.linalg.norm(b - a)
        if (place - a) @ np.array([along[1], -along[0]]) < 2.0:
            return False
    return all(np.linalg.norm(place - o.centre[:2]) > o.radius + 0.6 for o in site.obstacles)


def coarse_look(town: Town, camera: Camera, pose: Pose) -> Coarse:
    small = camera.scaled(COARSE)
    raster = rasterize(town, small, pose)
    with np.errstate(divide="ignore"):
        depth = np.where(raster.ids >= 0, 1.0 / raster.depth_key, np.inf).astype(np.float32)
    flat = town.mesh.normals[:, 2] > 0.9
    return Coarse(small, pose, depth, (raster.ids >= 0) & flat[raster.ids])


def shared_share(query: Coarse, other: Coarse) -> float:
    """Share of the query's upright surface that the other view sees, from a similar side and at a similar scale."""
    rows, columns = np.nonzero(np.isfinite(query.depth) & ~query.ground)
    if len(rows) < 200:
        return 0.0
    pick = slice(None, None, max(1, len(rows) // 400))
    rows, columns = rows[pick], columns[pick]
    cx, cy = query.camera.centre
    z = query.depth[rows, columns].astype(np.float64)
    local = np.stack(
        [(columns + 0.5 - cx) / query.camera.focal * z, (rows + 0.5 - cy) / query.camera.focal * z, z], axis=1
    )
    world = (local - query.pose.translation) @ query.pose.rotation
    xy, depth = other.pose.project(other.camera, world)
    inside = (depth > 0.5) & (xy >= 0).all(axis=1) & (xy < (other.camera.width, other.camera.height)).all(axis=1)
    x, y = np.floor(np.where(inside[:, None], xy, 0)).astype(int).T
    with np.errstate(invalid="ignore"):
        seen = inside & (np.abs(other.depth[y, x] - depth) < 0.05 * depth)
    a, b = world - query.pose.centre, world - other.pose.centre
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    cosine = np.einsum("ni,ni->n", a, b) / (lengths[0] * lengths[1])
    ratio = lengths[0] / lengths[1]
    return float((seen & (cosine > np.cos(np.radians(35))) & (ratio < 2.2) & (ratio > 1 / 2.2)).mean())


def shared_views(query: Coarse, looks: list[Coarse]) -> int:
    return sum(shared_share(query, other) >= ENOUGH_SHARED for other in looks)
