"""Light that varies slowly, computed once on a coarse grid over every polygon: skylight by day, lamps by night."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .geometry import Lamp, Polygon
from .raster import Field, Matrix, Mesh, perspective
from .sun import shadow_map, sky_directions

SAMPLES_PER_M = 2.4
INSET_M = 0.03
BOUNCE = 0.38  # share of the skylight that the ground throws back
SKY_DIRECTIONS = 20
CUBE_SIZE = 160
CUBE_FACES = [
    np.array(rows, float)
    for rows in (
        [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
        [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
        [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    )
]


@dataclass(frozen=True)
class LightMap:
    """values (H, W, 4) float32: skylight, then lamp light in red, green, blue; places (P, 4): x, y, sx, sy of every
    polygon's texel = (x, y) + (sx, sy) * (u, v)."""

    values: Field
    places: Field


@dataclass(frozen=True)
class Samples:
    points: Matrix  # (N, 3)
    normals: Matrix  # (N, 3)
    texels: Matrix  # (N, 2) integer column and row in the map
    two_sided: np.ndarray  # (N,)


def bake(rng: np.random.Generator, polygons: list[Polygon], mesh: Mesh, lamps: list[Lamp], radius_m: float) -> LightMap:
    places, samples, shape = _layout(polygons, mesh)
    occluders = _large(mesh, 0.35)
    values = np.zeros((*shape, 4), np.float32)
    light = np.concatenate(
        [_skylight(rng, occluders, samples, radius_m)[:, None], _lamplight(occluders, samples, lamps)], axis=1
    )
    values[samples.texels[:, 1], samples.texels[:, 0]] = light
    return LightMap(values, places)


def _layout(polygons: list[Polygon], mesh: Mesh) -> tuple[Field, Samples, tuple[int, int]]:
    """Pack one grid a polygon into shelves and list the world points of its nodes."""
    low = np.array([p.outline.min(axis=0) for p in polygons])
    size = np.array([p.outline.max(axis=0) for p in polygons]) - low
    grid = np.clip(np.ceil(size * SAMPLES_PER_M).astype(int) + 1, 2, 200)
    width = 2048
    corners = np.zeros((len(polygons), 2), int)
    x = y = shelf = 0
    for index in np.lexsort((np.arange(len(polygons)), -grid[:, 1])):
        if x + grid[index, 0] > width:
            x, y, shelf = 0, y + shelf, 0
        corners[index] = (x, y)
        x, shelf = x + grid[index, 0], max(shelf, grid[index, 1])
    inset = np.minimum(INSET_M, 0.2 * size)
    scale = (grid - 1) / (size - 2 * inset)
    places = np.concatenate([corners - (low + inset) * scale, scale], axis=1).astype(np.float32)
    counts = grid[:, 0] * grid[:, 1]
    owner = np.repeat(np.arange(len(polygons)), counts)
    inner = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    column, row = inner % grid[owner, 0], inner // grid[owner, 0]
    uv = low[owner] + inset[owner] + np.stack([column, row], axis=1) / scale[owner]
    normals = mesh.normals[owner]
    points = (
        mesh.basis[owner, :, 0] * uv[:, :1]
        + mesh.basis[owner, :, 1] * uv[:, 1:]
        + mesh.basis[owner, :, 2]
        + 0.05 * normals
    ).astype(np.float32)
    return (
        places,
        Samples(
            points, normals.astype(np.float32), corners[owner] + np.stack([column, row], axis=1), mesh.cutout[owner]
        ),
        (y + shelf, width),
    )


def _large(mesh: Mesh, minimum_m: float) -> Mesh:
    """The polygons that are big enough to matter as occluders; cut-outs count as whole when they are small."""
    extent = np.sort(mesh.vertices.max(axis=1) - mesh.vertices.min(axis=1), axis=1)
    keep = (extent[:, 1] > minimum_m) & (extent[:, 2] > 2 * minimum_m) & ~mesh.cutout
    leaves = mesh.cutout & (np.arange(len(keep)) % 3 == 0) & (extent[:, 2] > 0.5) & (extent[:, 2] < 1.6)
    keep |= leaves
    part = mesh.subset(keep)
    return Mesh(
        part.basis, part.edges, part.vertices, part.normals, part.offsets, part.texels, np.zeros(len(part.cutout), bool)
    )


def _skylight(rng: np.random.Generator, occluders: Mesh, samples: Samples, radius_m: float) -> Field:
    """Cosine-weighted share of the sky seen, plus light thrown back by the ground."""
    points = samples.points
    total, seen, opening = (np.zeros(len(points), np.float32) for _ in range(3))

    def one(direction: Matrix) -> tuple[Field, Field]:
        cosine = samples.normals @ direction.astype(np.float32)
        return cosine, shadow_map(occluders, direction, 900, radius_m, None).lit(points, 0.12)

    with ThreadPoolExecutor(2) as pool:
        for cosine, lit in pool.map(one, sky_directions(rng, SKY_DIRECTIONS)):
            total += np.maximum(cosine, 0) + 0.05
            seen += np.where(samples.two_sided, 0.5 + 0.5 * np.abs(cosine), np.maximum(cosine, 0)) * lit
            opening += lit
    facing_down = np.clip(0.5 - 0.5 * samples.normals[:, 2], 0, 1)
    opening /= SKY_DIRECTIONS
    share = seen / total
    return (share * (1 - facing_down) + BOUNCE * facing_down * (0.35 + 0.65 * opening) + 0.06).astype(np.float32)


def _lamplight(occluders: Mesh, samples: Samples, lamps: list[Lamp]) -> Field:
    """Inverse-square light of all lamps (N, 3); the strong ones cast shadows."""
    out = np.zeros((len(samples.points), 3), np.float32)

    def one(lamp: Lamp) -> tuple[np.ndarray, Field]:
        strong = lamp.colour.max() > 5
        offset = lamp.position.astype(np.float32) - samples.points
        square = np.einsum("ni,ni->n", offset, offset)
        facing = np.einsum("ni,ni->n", offset, samples.normals)
        near = np.flatnonzero((square < (22.0 if strong else 7.0) ** 2) & ((facing > 0) | samples.two_sided))
        cosine = facing[near] / np.sqrt(square[near] + 1e-9)
        cosine = np.where(samples.two_sided[near], 0.3 + 0.7 * np.abs(cosine), cosine)
        strength = cosine / (square[near] + 0.15)
        if strong:
            strength *= _visible_from(occluders, lamp.position, -offset[near])
        return near, strength[:, None] * lamp.colour.astype(np.float32)

    with ThreadPoolExecutor(2) as pool:
        for near, strength in pool.map(one, lamps):
            out[near] += strength
    lum = out.mean(axis=1, keepdims=True)
    return (out + 0.04 * lum + 0.004).astype(np.float32)


def _visible_from(occluders: Mesh, position: Matrix, offsets: Field) -> Field:
    """1 where position + offsets (N, 3) is seen from position by a depth cube; what is above counts as seen."""
    reach = np.linalg.norm(occluders.vertices - position, axis=2)
    keep = (reach.min(axis=1) < 14.0) & (reach.min(axis=1) > 0.3)
    seen = np.ones(len(offsets), np.float32)
    if not keep.any():
        return seen
    part = occluders.subset(keep)
    half = CUBE_SIZE / 2
    intrinsics = np.array([[half, 0, half], [0, half, half], [0, 0, 1.0]])
    axis = np.abs(offsets).argmax(axis=1)
    sign = offsets[np.arange(len(offsets)), axis] > 0
    for face in CUBE_FACES:
        forward = int(np.abs(face[2]).argmax())
        inside = np.flatnonzero((axis == forward) & (sign == (face[2, forward] > 0)))
        local = offsets[inside] @ face.T.astype(np.float32)
        z = np.maximum(local[:, 2], 1e-6)
        column, row = (np.clip(half * local[:, k] / z + half, 0, CUBE_SIZE - 1).astype(int) for k in (0, 1))
        raster = perspective(part, face, -face @ position, intrinsics, CUBE_SIZE, CUBE_SIZE, double_sided=True)
        seen[inside] = raster.depth_key[row, column] <= 1.0 / np.maximum(0.97 * z - 0.12, 0.01)
    return seen
