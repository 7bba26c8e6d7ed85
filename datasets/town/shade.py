"""From polygon numbers to light: filtered textures, sun and lamps, for every sample of a frame."""

import numpy as np
from numpy.typing import NDArray

from .atlas import LEVELS, Atlas, lookup
from .raster import Field, Raster

MAX_PROBES = 4
TO_LINEAR = np.where(
    np.arange(256) / 255 <= 0.04045, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4
).astype(np.float32)


class Surface:
    """The N covered samples of some rows: polygon, place on it in metres, depth, and how the place changes."""

    def __init__(self, raster: Raster, top: int, bottom: int) -> None:
        ids = raster.ids[top:bottom]
        self.row, self.column = (axis.astype(np.int32) for axis in np.nonzero(ids >= 0))
        self.ids = ids[self.row, self.column]
        self.row += top
        x = self.column.astype(np.float32) + np.float32(0.5)
        y = self.row.astype(np.float32) + np.float32(0.5)
        rows = raster.planes.reshape(-1, 9).take(self.ids, axis=0).astype(np.float32, copy=False)
        self._p, self._q, self._w = ([np.ascontiguousarray(rows[:, 3 * i + k]) for k in range(3)] for i in range(3))
        self.depth = 1.0 / (self._w[0] * x + self._w[1] * y + self._w[2])
        self.u = (self._p[0] * x + self._p[1] * y + self._p[2]) * self.depth
        self.v = (self._q[0] * x + self._q[1] * y + self._q[2]) * self.depth
        self.x, self.y = x, y

    def footprint(self) -> tuple[Field, Field, Field, Field]:
        """du/dx, dv/dx, du/dy, dv/dy in metres a sample."""
        d = self.depth
        return (
            (self._p[0] - self.u * self._w[0]) * d,
            (self._q[0] - self.v * self._w[0]) * d,
            (self._p[1] - self.u * self._w[1]) * d,
            (self._q[1] - self.v * self._w[1]) * d,
        )


def texture(surface: Surface, atlas: Atlas, texels: Field) -> NDArray[np.uint8]:
    """Filtered texels (N, 4): the mip level follows the narrow side of the footprint, up to four probes its long side.

    The level is rounded with an offset that alternates over each 2 x 2 block of samples: their mean blends levels.
    """
    scale = texels[:, 2].take(surface.ids)
    s = surface.u * scale + texels[:, 0].take(surface.ids)
    t = surface.v * scale + texels[:, 1].take(surface.ids)
    ux, vx, uy, vy = (d * scale for d in surface.footprint())
    along_x, along_y = ux * ux + vx * vx, uy * uy + vy * vy
    area = np.abs(ux * vy - uy * vx)
    longest = np.maximum(along_x, along_y)
    flip = along_y > along_x
    du, dv = np.where(flip, uy, ux), np.where(flip, vy, vx)
    probes = np.clip(longest / np.maximum(area, 1e-12), 1.0, MAX_PROBES)  # long side / short side of the footprint
    offset = ((surface.column % 2) * 2 + (surface.row % 2)).astype(np.float32) * np.float32(0.25) - np.float32(0.375)
    level = 0.5 * np.log2(np.maximum(longest, 1e-12)) - np.log2(probes) + offset + 0.15
    level = np.clip(np.floor(level + 0.5), 0, LEVELS - 1).astype(np.int8)
    number = np.where(probes > 2.6, 4, np.where(probes > 1.4, 2, 1)).astype(np.int8)
    out = np.empty((len(s), 4), np.uint8)
    group = level.astype(np.int16) * 8 + number
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    for part in np.split(order, bounds):
        if not len(part):
            continue
        k, count = int(level[part[0]]), int(number[part[0]])
        shrink = np.float32(0.5**k)
        px, py = s[part] * shrink - np.float32(0.5), t[part] * shrink - np.float32(0.5)
        if count == 1:
            out[part] = lookup(atlas.levels[k], px, py)
            continue
        stepx, stepy = du[part] * shrink / count, dv[part] * shrink / count
        total = np.zeros((len(part), 4), np.uint16)
        for probe in range(count):
            shift = np.float32(probe - (count - 1) / 2)
            total += lookup(atlas.levels[k], px + shift * stepx, py + shift * stepy)
        out[part] = (total // count).astype(np.uint8)
    return out


def to_linear(srgb: NDArray[np.uint8]) -> Field:
    return TO_LINEAR[srgb]


def to_srgb(linear: Field) -> Field:
    """Linear light in [0, 1] -> display values in [0, 1]."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055).astype(np.float32)
