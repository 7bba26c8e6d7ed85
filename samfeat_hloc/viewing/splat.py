"""Our own picture of a scene: points and lines into a depth buffer, in numpy: nothing to install, no display."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from samfeat_hloc.viewing.framing import FIELD_OF_VIEW_DEG, View, frustum_depth
from samfeat_hloc.viewing.scene import (
    BACKGROUND,
    DATABASE_COLOUR,
    PATH_COLOUR,
    QUERY_COLOUR,
    ColourArray,
    FloatArray,
    Scene,
    segments,
)

SAMPLES = 2
"""The picture is drawn this many times larger and averaged down, against jagged lines."""
NEAR = 1e-3
"""Nearest depth that is drawn, as a fraction of the view's radius."""
LONGEST_PX = 20_000
"""A line that is longer on the screen is cut up more coarsely; it ends far outside the picture."""


def point_size_px(count: int, height: int) -> float:
    """Diameter of a point in a picture of `height` pixels: smaller the more there are."""
    return float(np.clip(height / 960 * 4.2 * (20_000 / max(count, 1)) ** 0.2, 1.0, 5.0 * max(1.0, height / 960)))


class _Buffer:
    """Colours and depths of a picture in the making."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rgb: ColourArray = np.tile(np.array(BACKGROUND, np.uint8), (height * width, 1))
        self.depth = np.full(height * width, np.inf, np.float32)

    def splat(self, xy: FloatArray, depth: FloatArray, rgb: ColourArray, diameter: float) -> None:
        """Draw discs: (N, 2) pixels, (N,) depths, (N, 3) colours; nearer ones cover farther ones."""
        reach = max(diameter, 1.0) / 2
        margin = reach + 1
        inside = (xy > -margin).all(axis=1) & (xy < [self.width + margin, self.height + margin]).all(axis=1)
        order = np.flatnonzero(inside)[np.argsort(-depth[inside], kind="stable")]  # of two on a pixel the last stays
        xy, z, rgb = xy[order], depth[order].astype(np.float32), rgb[order]
        steps = np.arange(-int(reach), int(reach) + 1)
        for dx in steps:
            for dy in steps:
                if dx * dx + dy * dy > reach * reach:
                    continue
                x, y = np.floor(xy[:, 0]).astype(np.int64) + dx, np.floor(xy[:, 1]).astype(np.int64) + dy
                ok = np.flatnonzero((x >= 0) & (x < self.width) & (y >= 0) & (y < self.height))
                at = y[ok] * self.width + x[ok]
                nearer = z[ok] < self.depth[at]
                ok, at = ok[nearer], at[nearer]
                self.depth[at] = z[ok]
                self.rgb[at] = rgb[ok]

    def picture(self) -> ColourArray:
        """(H / SAMPLES, W / SAMPLES, 3)."""
        blocks = self.rgb.reshape(self.height // SAMPLES, SAMPLES, self.width // SAMPLES, SAMPLES, 3)
        return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)


def draw(scene: Scene, view: View, size: tuple[int, int], *, cameras: bool = False) -> ColourArray:
    """Draw a scene.

    Args:
        scene: its points, cloud, queries and paths are drawn.
        view: from where.
        size: width and height in pixels.
        cameras: draw the model's cameras too.

    Returns:
        (height, width, 3) uint8.
    """
    width, height = size[0] * SAMPLES, size[1] * SAMPLES
    focal = focal_px((width, height))
    near = NEAR * view.radius
    buffer = _Buffer(width, height)

    def to_pixels(xyz: FloatArray) -> tuple[FloatArray, FloatArray]:
        in_view = (xyz - view.eye) @ view.rotation.T
        z = in_view[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = in_view[:, :2] / z[:, None] * focal + [width / 2, height / 2]
        xy[~(z > near)] = -np.inf
        return xy, z

    diameter = point_size_px(len(scene.points) + len(scene.cloud), size[1]) * SAMPLES
    for points in (scene.points, scene.cloud):
        if len(points):
            buffer.splat(*to_pixels(points.xyz), points.rgb, diameter)
    depth = frustum_depth(scene)
    drawn = [(segments(scene.queries, depth), QUERY_COLOUR)]
    drawn += [(np.stack([path[:-1], path[1:]], axis=1), PATH_COLOUR) for path in scene.paths]
    if cameras:
        drawn.append((segments(scene.database, depth), DATABASE_COLOUR))
    for ends, colour in drawn:
        if len(ends):
            along = _along(ends, view, focal, near)
            rgb = np.tile(np.array(colour, np.uint8), (len(along), 1))
            buffer.splat(*to_pixels(along), rgb, 1.3 * SAMPLES * max(1.0, size[1] / 960))
    return buffer.picture()


def focal_px(size: tuple[int, int]) -> float:
    """Focal length of a picture: the field of view is the vertical one, or the horizontal one of upright pictures."""
    return min(size) / 2 / float(np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2))


def draw_all(scene: Scene, views: list[View], size: tuple[int, int], *, cameras: bool = False) -> Iterator[ColourArray]:
    """One picture a view."""
    for view in views:
        yield draw(scene, view, size, cameras=cameras)


def _along(ends: FloatArray, view: View, focal: float, near: float) -> npt.NDArray[np.float64]:
    """Points along (E, 2, 3) segments, less than a pixel apart in the picture, what lies behind the eye cut off."""
    in_view = (ends - view.eye) @ view.rotation.T
    z = in_view[:, :, 2]
    keep = (z > near).any(axis=1)
    in_view, z, ends = in_view[keep], z[keep], ends[keep]
    if not len(ends):
        return np.zeros((0, 3))
    cut = np.clip((near * 1.01 - z[:, 0]) / np.where(z[:, 1] == z[:, 0], 1, z[:, 1] - z[:, 0]), 0, 1)
    start = np.where(z[:, 0] > near, 0.0, cut)
    stop = np.where(z[:, 1] > near, 1.0, cut)
    first = in_view[:, 0] + start[:, None] * (in_view[:, 1] - in_view[:, 0])
    last = in_view[:, 0] + stop[:, None] * (in_view[:, 1] - in_view[:, 0])
    length = np.linalg.norm(first[:, :2] / first[:, 2:] - last[:, :2] / last[:, 2:], axis=1) * focal
    count = np.clip(np.ceil(length * 1.2), 1, LONGEST_PX).astype(np.int64) + 1
    which = np.repeat(np.arange(len(ends)), count)
    position = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    t = position / np.repeat(count - 1, count)
    # even steps in the picture are uneven ones in space
    z0, z1 = first[which, 2], last[which, 2]
    s = t * z0 / (z1 + t * (z0 - z1))
    s = start[which] + s * (stop - start)[which]
    return ends[which, 0] + s[:, None] * (ends[which, 1] - ends[which, 0])
