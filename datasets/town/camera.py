"""Pinhole cameras and rigid transforms; the top-left pixel's centre is at (0.5, 0.5), as in COLMAP."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """SIMPLE_RADIAL without distortion: focal length and principal point in pixels."""

    width: int
    height: int
    focal: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.width / 2.0, self.height / 2.0

    @property
    def matrix(self) -> Matrix:
        cx, cy = self.centre
        return np.array([[self.focal, 0, cx], [0, self.focal, cy], [0, 0, 1.0]])

    def scaled(self, factor: float) -> "Camera":
        """The same view with factor times as many pixels a side."""
        return Camera(round(self.width * factor), round(self.height * factor), self.focal * factor)


@dataclass(frozen=True)
class Pose:
    """cam_from_world: x right, y down, z forward; metres."""

    rotation: Matrix
    translation: Matrix

    @property
    def centre(self) -> Matrix:
        return -self.rotation.T @ self.translation

    @property
    def quaternion(self) -> Matrix:
        """(qw, qx, qy, qz) with qw >= 0."""
        r = self.rotation
        k = (
            np.array(
                [
                    [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
                    [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
                    [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
                    [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
                ]
            )
            / 3.0
        )
        _, vectors = np.linalg.eigh(k)
        x, y, z, w = vectors[:, 3]
        sign = -1.0 if w < 0 else 1.0
        return sign * np.array([w, x, y, z])

    @staticmethod
    def looking(centre: Matrix, yaw_deg: float, pitch_deg: float, roll_deg: float) -> "Pose":
        """Camera at centre; yaw from the x axis counter-clockwise, pitch upwards, roll clockwise."""
        yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
        forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        down = np.cross(forward, right)
        c, s = np.cos(roll), np.sin(roll)
        rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
        return Pose(rotation, -rotation @ np.asarray(centre, np.float64))

    def project(self, camera: Camera, points: Matrix) -> tuple[Matrix, Matrix]:
        """World points (N, 3) -> image points (N, 2) and depths (N,) in metres; depths may be negative."""
        local = points @ self.rotation.T + self.translation
        safe = np.where(np.abs(local[:, 2]) < 1e-9, 1e-9, local[:, 2])
        return local[:, :2] / safe[:, None] * camera.focal + np.array(camera.centre), local[:, 2]
