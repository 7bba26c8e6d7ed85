"""A z-buffer for convex polygons: all tests and the inverse depth are linear in image coordinates, hence exact."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .atlas import LEVELS, Atlas, lookup
from .geometry import Polygon

MAX_EDGES = 8
NEAR_M = 0.05
LARGE = 6000  # pixels from which a polygon is drawn by itself rather than in a batch
BATCH = 200_000  # pixels a batch: what the processor's cache holds
Matrix = NDArray[np.float64]
Field = NDArray[np.floating]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """The scene's P polygons as arrays, ready to be transformed at once."""

    basis: Matrix  # (P, 3, 3) columns: right, down, origin
    edges: Matrix  # (P, MAX_EDGES, 3) half planes over (u, v, 1), >= 0 inside
    vertices: Matrix  # (P, MAX_EDGES, 3) world; short outlines repeat their last vertex
    normals: Matrix  # (P, 3)
    offsets: Matrix  # (P,) normal . origin
    texels: Field  # (P, 3) atlas x, atlas y of (0, 0) and texels a metre
    cutout: NDArray[np.bool_]

    @staticmethod
    def build(polygons: list[Polygon], atlas: Atlas) -> "Mesh":
        count = len(polygons)
        edges = np.zeros((count, MAX_EDGES, 3))
        edges[:, :, 2] = 1.0
        vertices = np.zeros((count, MAX_EDGES, 3))
        for index, item in enumerate(polygons):
            outline = item.outline
            step = np.roll(outline, -1, axis=0) - outline
            length = np.maximum(np.linalg.norm(step, axis=1), 1e-12)
            rows = np.stack([-step[:, 1], step[:, 0], step[:, 1] * outline[:, 0] - step[:, 0] * outline[:, 1]], axis=1)
            rows /= length[:, None]
            rows[:, 2] += 2e-4  # polygons that share an edge overlap by a hair: no cracks
            edges[index, : len(outline)] = rows
            corners = item.vertices
            vertices[index, : len(corners)] = corners
            vertices[index, len(corners) :] = corners[-1]
        basis = np.stack([np.stack([p.right, p.down, p.origin], axis=1) for p in polygons])
        normals = -np.cross(basis[:, :, 0], basis[:, :, 1])
        texels = np.array(
            [[*(atlas.corners[p.paint.texture] + (p.paint.x, p.paint.y)), p.paint.texels_per_m] for p in polygons],
            np.float32,
        )
        return Mesh(
            basis,
            edges,
            vertices,
            normals,
            np.einsum("pi,pi->p", normals, basis[:, :, 2]),
            texels,
            np.array([p.paint.cutout for p in polygons]),
        )

    def subset(self, keep: NDArray) -> "Mesh":
        return Mesh(
            self.basis[keep],
            self.edges[keep],
            self.vertices[keep],
            self.normals[keep],
            self.offsets[keep],
            self.texels[keep],
            self.cutout[keep],
        )


@dataclass(frozen=True)
class Raster:
    """ids (H, W) int32 polygon in each pixel or -1; depth_key (H, W) float32, larger is nearer, 1 / z in a perspective
    view; planes (P, 3, 3): rows give u * key, v * key and key as linear functions of (x, y, 1)."""

    ids: NDArray[np.int32]
    depth_key: Field
    planes: Matrix


def perspective(
    mesh: Mesh,
    rotation: Matrix,
    translation: Matrix,
    intrinsics: Matrix,
    width: int,
    height: int,
    atlas: Atlas | None = None,
    double_sided: bool = False,
) -> Raster:
    """Draw the scene through a pinhole; polygons seen from behind are skipped unless double_sided.

    Without an atlas, cut-outs are drawn whole.
    """
    image = mesh.vertices @ (intrinsics @ rotation).T + intrinsics @ translation
    good = image[..., 2].max(axis=1) > NEAR_M
    if not double_sided:
        good &= (mesh.normals @ (-rotation.T @ translation) - mesh.offsets > 1e-6) | mesh.cutout
    in_front = image[..., 2].min(axis=1) > NEAR_M
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = image[..., :2] / image[..., 2:]
    low = np.where(in_front[:, None], xy.min(axis=1), -np.inf)
    high = np.where(in_front[:, None], xy.max(axis=1), np.inf)
    chosen = np.flatnonzero(good & (low < (width, height)).all(axis=1) & (high > 0).all(axis=1))
    basis = rotation @ mesh.basis[chosen]
    basis[:, :, 2] += translation
    solid = np.abs(np.linalg.det(basis)) > 1e-7
    chosen = chosen[solid]
    planes = np.zeros((len(good), 3, 3))
    planes[chosen] = np.linalg.inv(basis[solid]) @ np.linalg.inv(intrinsics)
    bounds = np.stack([planes[chosen, 2], -planes[chosen, 2]], axis=1)
    bounds[:, 1, 2] += 1.0 / NEAR_M
    bounds[in_front[chosen]] = 0.0  # nothing to cut off
    tests = np.concatenate([mesh.edges[chosen] @ planes[chosen], bounds], axis=1)
    return _draw(_Job(mesh, planes, atlas, True), chosen, tests, low[chosen], high[chosen], width, height)


def orthographic(
    mesh: Mesh,
    rotation: Matrix,
    shift: Matrix,
    texels_per_m: float,
    size: int,
    far_m: float,
    atlas: Atlas | None = None,
) -> Raster:
    """Draw both sides of everything along rotation's third row; the depth key is far_m minus the distance along it."""
    image = (mesh.vertices @ rotation.T + shift)[..., :2] * texels_per_m
    basis = rotation @ mesh.basis
    basis[:, :, 2] += shift
    flat = basis[:, :2, :2] * texels_per_m
    chosen = np.flatnonzero(np.abs(np.linalg.det(flat)) > 1e-2)
    inverse = np.linalg.inv(flat[chosen])
    uv = np.concatenate(
        [inverse, -np.einsum("pij,pj->pi", inverse, basis[chosen, :2, 2] * texels_per_m)[..., None]], axis=2
    )
    planes = np.zeros((len(mesh.basis), 3, 3))
    planes[chosen, :2] = uv
    z = basis[chosen, 2, 0, None] * uv[:, 0] + basis[chosen, 2, 1, None] * uv[:, 1]
    z[:, 2] += basis[chosen, 2, 2]
    planes[chosen, 2] = -z
    planes[chosen, 2, 2] += far_m
    tests = mesh.edges[chosen, :, :2] @ uv
    tests[..., 2] += mesh.edges[chosen, :, 2]
    job = _Job(mesh, planes, atlas, False)
    return _draw(job, chosen, tests, image.min(axis=1)[chosen], image.max(axis=1)[chosen], size, size)


@dataclass(frozen=True)
class _Job:
    mesh: Mesh
    planes: Matrix
    atlas: Atlas | None
    divide: bool  # a perspective view: (u, v) = (u * key, v * key) / key

    def opaque(self, polygons: Index, x: NDArray, y: NDArray, key: Field) -> NDArray[np.bool_]:
        """Which of N pixels their polygon covers, by its texture's coverage where it is a cut-out."""
        out = np.ones(len(polygons), bool)
        if self.atlas is None:
            return out
        cut = np.flatnonzero(self.mesh.cutout[polygons])
        if not len(cut):
            return out
        polygons, key = polygons[cut], key[cut]
        plane = self.planes[polygons]
        x, y = x[cut], y[cut]
        u = plane[:, 0, 0] * x + plane[:, 0, 1] * y + plane[:, 0, 2]
        v = plane[:, 1, 0] * x + plane[:, 1, 1] * y + plane[:, 1, 2]
        texels = self.mesh.texels[polygons]
        density = np.sqrt(np.abs(plane[:, 0, 0] * plane[:, 1, 1] - plane[:, 0, 1] * plane[:, 1, 0])) * texels[:, 2]
        if self.divide:
            u, v, density = u / key, v / key, density / key
        level = np.clip(np.round(np.log2(np.maximum(density, 1e-6))), 0, LEVELS - 1).astype(int)
        for k in np.unique(level):
            part = np.flatnonzero(level == k)
            s = (u[part] * texels[part, 2] + texels[part, 0]) * 0.5**k - 0.5
            t = (v[part] * texels[part, 2] + texels[part, 1]) * 0.5**k - 0.5
            out[cut[part]] = lookup(self.atlas.coverage[k], s.astype(np.float32), t.astype(np.float32))[:, 0] > 110
        return out


def _draw(job: _Job, chosen: Index, tests: Matrix, low: Matrix, high: Matrix, width: int, height: int) -> Raster:
    """Cut every polygon into one span of pixels a row; draw large ones one by one and small ones in batches."""
    ids = np.full((height, width), -1, np.int32)
    keys = np.zeros((height, width), np.float32)
    x0, x1 = _centres_between(low[:, 0], high[:, 0], width)
    y0, y1 = _centres_between(low[:, 1], high[:, 1], height)
    counts = np.where(x1 > x0, np.maximum(y1 - y0, 0), 0)
    owner = np.repeat(np.arange(len(chosen)), counts)
    first = np.cumsum(counts) - counts
    row = np.arange(len(owner)) - first[owner] + y0[owner]
    left, right = _spans(tests, owner, row + 0.5)
    c0 = np.maximum(np.ceil(np.clip(left, -1.0, width + 1.0) - 0.5).astype(int), x0[owner])
    c1 = np.minimum(np.ceil(np.clip(right, -1.0, width + 1.0) - 0.5).astype(int), x1[owner])
    length = np.maximum(c1 - c0, 0)
    area = np.bincount(owner, length, len(chosen))
    columns = np.arange(width)
    for number in np.flatnonzero(area > LARGE):
        spans = slice(first[number], first[number] + counts[number])
        a, b = int(c0[spans].min()), int(c1[spans].max())
        p = job.planes[chosen[number], 2]
        part = (slice(y0[number], y1[number]), slice(a, b))
        base = (p[1] * (row[spans] + 0.5) + p[2] + 0.5 * p[0]).astype(np.float32)
        key = base[:, None] + (p[0] * columns[a:b]).astype(np.float32)
        mask = key > keys[part]
        mask &= columns[a:b] >= c0[spans, None]
        mask &= columns[a:b] < c1[spans, None]
        if job.mesh.cutout[chosen[number]]:
            y, x = np.nonzero(mask)
            mask[y, x] = job.opaque(np.full(len(y), chosen[number]), x + a + 0.5, y + y0[number] + 0.5, key[y, x])
        np.copyto(keys[part], key, where=mask)
        np.copyto(ids[part], np.int32(chosen[number]), where=mask)
    small = np.flatnonzero((length > 0) & (area[owner] <= LARGE))
    ends = np.cumsum(length[small])
    cuts = np.searchsorted(ends, np.arange(BATCH, ends[-1] if len(ends) else 0, BATCH))
    for batch in np.split(small, cuts):
        _draw_batch(job, chosen[owner[batch]], row[batch], c0[batch], length[batch], ids, keys)
    return Raster(ids, keys, job.planes)


def _centres_between(low: Matrix, high: Matrix, limit: int) -> tuple[Index, Index]:
    """First and one past the last pixel whose centre lies in low..high."""
    first = np.ceil(np.clip(low, 0.0, limit) - 0.5).astype(int)
    return first, np.floor(np.clip(high, 0.0, limit) - 0.5).astype(int) + 1


def _spans(tests: Matrix, owner: Index, y: Matrix) -> tuple[Matrix, Matrix]:
    """Where every test a x + b y + c >= 0 of a row's polygon holds: from left to right."""
    left, right = np.full(len(owner), -np.inf), np.full(len(owner), np.inf)
    for edge in range(tests.shape[1]):
        a, b, c = (tests[:, edge, k] for k in range(3))
        used = np.flatnonzero((a != 0) | (b != 0))
        if not len(used):
            continue
        rows = np.arange(len(owner)) if len(used) == len(a) else np.flatnonzero(((a != 0) | (b != 0))[owner])
        who = owner[rows]
        slope = a[who]
        rest = b[who] * y[rows] + c[who]
        with np.errstate(divide="ignore", invalid="ignore"):
            cross = -rest / slope
        left[rows] = np.maximum(left[rows], np.where(slope > 0, cross, -np.inf))
        right[rows] = np.minimum(
            right[rows], np.where(slope < 0, cross, np.where((slope == 0) & (rest < 0), -np.inf, np.inf))
        )
    return left, right


def _draw_batch(
    job: _Job, polygons: Index, row: Index, start: Index, length: Index, ids: NDArray[np.int32], keys: Field
) -> None:
    """Spans of many polygons at once: of the pixels in front of what is there, the nearest stay."""
    if not len(length):
        return
    width = keys.shape[1]
    p = job.planes[polygons, 2]
    base = p[:, 1] * (row + 0.5) + p[:, 2] + p[:, 0] * 0.5
    first = np.cumsum(length) - length
    span = np.repeat(np.arange(len(length), dtype=np.int32), length)
    column = np.arange(len(span), dtype=np.int32) - (first - start).astype(np.int32).take(span)
    key = base.astype(np.float32).take(span) + p[:, 0].astype(np.float32).take(span) * column.astype(np.float32)
    pixel = (row * width).astype(np.int32).take(span) + column
    front = np.flatnonzero(key > keys.reshape(-1).take(pixel))
    span, column, key, pixel = span[front], column[front], key[front], pixel[front]
    if job.mesh.cutout[polygons].any():
        solid = job.opaque(polygons[span], column + 0.5, row[span] + 0.5, key)
        span, key, pixel = span[solid], key[solid], pixel[solid]
    flat_keys, flat_ids = keys.reshape(-1), ids.reshape(-1)
    polygon = polygons.astype(np.int32).take(span)
    while len(key):  # where several want one pixel, one of them is written; those in front of it try again
        flat_keys[pixel] = key
        flat_ids[pixel] = polygon
        again = np.flatnonzero(key > flat_keys.take(pixel))
        pixel, key, polygon = pixel[again], key[again], polygon[again]
