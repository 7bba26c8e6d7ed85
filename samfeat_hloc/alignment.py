"""Similarity transform between two sets of camera centres: what a reconstruction is compared with the truth by.

Closed form of Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991),
reweighted until the sum of the distances, not of their squares, is smallest: one camera that is far off then moves the
others' errors by little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, pycolmap
from samfeat_hloc.errors import InputError

ITERATIONS = 100
CONVERGED = 1e-10
COLLINEAR = 1e-9
"""Second singular value over the first below which centres are on a line, and no rotation can be told from them."""


@dataclass(frozen=True)
class Similarity:
    """target = scale * rotation @ source + translation.

    Attributes:
        scale: positive.
        rotation: (3, 3).
        translation: (3,) in the target's unit.
    """

    scale: float
    rotation: FloatArray
    translation: FloatArray

    def apply(self, points: npt.ArrayLike) -> FloatArray:
        """(N, 3) points of the source in the target."""
        moved: FloatArray = self.scale * np.asarray(points, np.float64) @ self.rotation.T + self.translation
        return moved

    def to_sim3d(self) -> pycolmap.Sim3d:
        """The same for pycolmap, whose models it transforms in place: `model.transform(similarity.to_sim3d())`."""
        return pycolmap.Sim3d(self.scale, pycolmap.Rotation3d(self.rotation), self.translation)


def umeyama(source: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Similarity:
    """The similarity with the smallest weighted sum of squared distances.

    Args:
        source: (N, 3).
        target: (N, 3).
        weights: (N,) not negative; None: all one.

    Raises:
        InputError: fewer than three points, or points on one line, which leave the rotation open.
    """
    x, y = np.asarray(source, np.float64).reshape(-1, 3), np.asarray(target, np.float64).reshape(-1, 3)
    if len(x) != len(y) or len(x) < 3:
        raise InputError(f"{len(x)} and {len(y)} camera centres cannot be aligned; at least three pairs are needed")
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    w = w / w.sum()
    x0, y0 = w @ x, w @ y
    dx, dy = x - x0, y - y0
    for spread, name in ((dx, "reconstructed"), (dy, "true")):
        values = np.linalg.svd(spread, compute_uv=False)
        if values[1] <= COLLINEAR * max(values[0], 1e-300):
            raise InputError(f"the {name} camera centres are on one line, which leaves their rotation about it open")
    left, values, right = np.linalg.svd((dy * w[:, None]).T @ dx)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(signs) @ right
    scale = float((values * signs).sum() / (w @ (dx**2).sum(axis=1)))
    return Similarity(scale, rotation, y0 - scale * rotation @ x0)


def align_centers(source: npt.ArrayLike, target: npt.ArrayLike) -> Similarity:
    """The similarity with the smallest sum of distances, which a few wrong points do not pull along.

    Args:
        source: (N, 3).
        target: (N, 3).

    Raises:
        InputError: as of `umeyama`.
    """
    x, y = np.asarray(source, np.float64).reshape(-1, 3), np.asarray(target, np.float64).reshape(-1, 3)
    found, before = umeyama(x, y), np.inf
    floor = 1e-6 * max(float(np.ptp(y, axis=0).max()), 1e-12)
    for _ in range(ITERATIONS):
        distances = np.linalg.norm(found.apply(x) - y, axis=1)
        total = float(np.maximum(distances, floor).sum())
        if before - total <= CONVERGED * total:
            break
        before = total
        found = umeyama(x, y, 1 / np.maximum(distances, floor))
    return found


def align_models(estimated: Mapping[str, FloatArray], truth: Mapping[str, FloatArray]) -> Similarity:
    """The similarity of the centres of the cameras with one name.

    Args:
        estimated: (3,) centre by image name.
        truth: the same; names in one of the two alone are left out.

    Raises:
        InputError: as of `umeyama`.
    """
    names = sorted(estimated.keys() & truth.keys())
    return align_centers(
        np.array([estimated[name] for name in names]).reshape(-1, 3), np.array([truth[name] for name in names])
    )
