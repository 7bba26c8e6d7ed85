"""Where to look from: the up direction, the part of a scene that matters, and views that show it.

A model has a few points that are far off, behind walls or at infinity, and cameras that were held upright, most of
them. Medians and percentiles decide here, never means and extremes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from samfeat_hloc.viewing.scene import FloatArray, Scene

FIELD_OF_VIEW_DEG = 50.0
"""Vertical."""
ELEVATION_DEG = 28.0
KEPT = (3.0, 97.0)
"""Percentiles of the points' coordinates between which lies the part that a view must show."""
FAR = 4.0
"""A view that shows the cameras too is at most this much wider than one of the points alone."""
MARGIN = 1.06
"""Room around what a view shows."""
AGREE = 0.3
"""Length of the median of the cameras' unit up vectors below which they do not agree on one."""


@dataclass(frozen=True)
class View:
    """A point of view.

    Attributes:
        eye, target: (3,) positions in the model's coordinates.
        up: (3,) unit vector.
        radius: of the ball around `target` that is to be seen.
    """

    eye: FloatArray
    target: FloatArray
    up: FloatArray
    radius: float

    @property
    def rotation(self) -> FloatArray:
        """(3, 3) cam_from_world; x right, y down, z forward."""
        forward = _unit(self.target - self.eye)
        right = _unit(np.cross(forward, self.up))
        return np.stack([right, np.cross(forward, right), forward])

    def turned(self, angle_deg: float) -> View:
        """This view after walking `angle_deg` around the target, anticlockwise seen from above."""
        angle = np.radians(angle_deg)
        arm = self.eye - self.target
        along = self.up * (arm @ self.up)
        across = arm - along
        moved = along + np.cos(angle) * across + np.sin(angle) * np.cross(self.up, across)
        return replace(self, eye=self.target + moved)


def up_direction(scene: Scene) -> FloatArray:
    """(3,) unit vector: the median of the cameras' up vectors, or where these disagree, as looking down from the air,
    the direction in which the cameras' centres spread least, from the points to the cameras.
    """
    cameras = scene.database if len(scene.database) else scene.queries
    if not len(cameras):
        return np.array([0.0, -1.0, 0.0])
    up = np.median(-cameras.rotations[:, :, 1], axis=0)
    if np.linalg.norm(up) >= AGREE:
        return _unit(up)
    centred = cameras.centres - np.median(cameras.centres, axis=0)
    normal: FloatArray = np.linalg.svd(centred, full_matrices=True)[2][2]
    points = scene.points.xyz if len(scene.points) else scene.cloud.xyz
    rise = (np.median(cameras.centres, axis=0) - np.median(points, axis=0)) @ normal if len(points) else 1.0
    return normal if rise >= 0 else -normal


def kept_ball(scene: Scene, *, cameras: bool = False) -> tuple[FloatArray, float]:
    """Centre (3,) and radius of a ball around the part of the scene that matters: points without outliers.

    Args:
        scene: what is to be seen.
        cameras: the ball holds the cameras too, unless they are very far from the points.
    """
    xyz = _sample(scene.points.xyz if len(scene.points) else scene.cloud.xyz)
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    centres = np.concatenate([scene.database.centres, scene.queries.centres])
    if not len(xyz):
        xyz = centres if len(centres) else np.zeros((1, 3))
    low, high = np.percentile(xyz, KEPT, axis=0)
    if cameras and len(centres):
        with_low, with_high = np.percentile(centres, KEPT, axis=0)
        with_low, with_high = np.minimum(low, with_low), np.maximum(high, with_high)
        if np.linalg.norm(with_high - with_low) <= FAR * np.linalg.norm(high - low):
            low, high = with_low, with_high
    radius = float(np.linalg.norm(high - low)) / 2
    return (low + high) / 2, radius if radius > 0 else 1.0


def default_view(scene: Scene, *, aspect: float = 4 / 3, cameras: bool = False, tight: bool = True) -> View:
    """A view of the whole scene from behind the cameras and above them.

    Args:
        scene: what is to be seen.
        aspect: width / height of the picture.
        cameras: the cameras are to be seen too.
        tight: as near as this view allows; otherwise so far that all is seen from every side.
    """
    up = up_direction(scene)
    target, radius = kept_ball(scene, cameras=cameras)
    posed = scene.database if len(scene.database) else scene.queries
    behind = -np.median(posed.rotations[:, :, 2], axis=0) if len(posed) else np.zeros(3)
    behind -= up * (behind @ up)
    if np.linalg.norm(behind) < AGREE / 2 and len(posed):  # they look everywhere: from where most of them stand
        behind = np.median(posed.centres, axis=0) - target
        behind -= up * (behind @ up)
    if np.linalg.norm(behind) < 1e-3 * radius:
        behind = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    elevation, half = np.radians(ELEVATION_DEG), np.radians(FIELD_OF_VIEW_DEG) / 2
    direction = np.cos(elevation) * _unit(behind) + np.sin(elevation) * up
    slopes = np.tan(half) * np.array([aspect, 1.0]) if aspect >= 1 else np.tan(half) * np.array([1.0, 1 / aspect])
    far = View(target + direction * radius / np.sin(half), target, up, radius)
    if not tight:
        return far
    points = _sample(scene.points.xyz if len(scene.points) else scene.cloud.xyz)
    parts = [points, scene.database.centres, scene.queries.centres] if cameras else [points]
    needed = [_distance(part - target, far.rotation, slopes) for part in parts if len(part)]
    distance = np.clip(MARGIN * max(needed, default=np.inf), 0.3 * radius, radius / np.sin(half))
    return replace(far, eye=target + direction * distance)


def _distance(offsets: FloatArray, rotation: FloatArray, slopes: FloatArray) -> float:
    """How far from the target an eye must be to see nearly all points, given as (P, 3) offsets from it."""
    turned = offsets[np.isfinite(offsets).all(axis=1)] @ rotation.T
    return float(np.percentile((np.abs(turned[:, :2]) / slopes).max(axis=1) - turned[:, 2], KEPT[1]))


def frustum_depth(scene: Scene) -> float:
    """How deep to draw frusta: a third of the median distance between neighbouring cameras, within limits."""
    _, radius = kept_ball(scene)
    centres = scene.database.centres if len(scene.database) else scene.queries.centres
    if len(centres) < 2:
        return 0.08 * radius
    chosen = centres[:: max(1, len(centres) // 400)]
    distance = np.linalg.norm(chosen[:, None] - chosen[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(np.clip(np.median(distance.min(axis=1)) * 0.6, 0.025 * radius, 0.1 * radius))


def _sample(xyz: FloatArray, limit: int = 200_000) -> FloatArray:
    return xyz[:: max(1, len(xyz) // limit)]


def _unit(vector: npt.ArrayLike) -> FloatArray:
    values = np.asarray(vector, np.float64)
    return values / max(float(np.linalg.norm(values)), 1e-12)
