"""What localization needs of a COLMAP model: which 3D point each database keypoint observes, and where it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np

from samfeat_hloc._pycolmap import FloatArray, IntArray, point3D_ids, pycolmap
from samfeat_hloc.formats.names import check_known


class Scene:
    """A model's points as arrays, and its images' observations, read when first asked for.

    Safe to use from several threads.

    Args:
        model: a reconstruction with points; kept, not changed.
    """

    def __init__(self, model: pycolmap.Reconstruction) -> None:
        self.model = model
        self.image_ids: dict[str, int] = {image.name: image_id for image_id, image in model.images.items()}
        points = model.points3D
        ids = np.fromiter((key for key in points), np.int64, len(points))
        order = np.argsort(ids)
        self._ids: IntArray = ids[order]
        xyz = np.array([point.xyz for point in points.values()], np.float64).reshape(-1, 3)
        self._xyz: FloatArray = xyz[order]
        self._observed: dict[str, IntArray] = {}
        self._lock = Lock()

    def __contains__(self, name: str) -> bool:
        return name in self.image_ids

    def observed(self, name: str) -> IntArray:
        """(N,) id of the 3D point that each keypoint of a database image observes, -1 for none."""
        with self._lock:
            if name not in self._observed:
                self._observed[name] = point3D_ids(self.model.images[self.image_ids[name]])
            return self._observed[name]

    def xyz(self, ids: IntArray) -> FloatArray:
        """(C, 3) positions of (C,) point ids, all of them in the model."""
        return self._xyz[np.searchsorted(self._ids, ids)]

    def clusters(self, names: Sequence[str]) -> list[list[str]]:
        """Images that see common points, directly or over others of `names`: connected components, largest first.

        Of two components of one size the one with the earlier image comes first.
        """
        remaining = list(dict.fromkeys(names))
        found: list[list[str]] = []
        while remaining:
            component, frontier = [], [remaining.pop(0)]
            while frontier:
                name = frontier.pop(0)
                component.append(name)
                points = self.observed(name)
                linked = [other for other in remaining if _share_points(points, self.observed(other))]
                remaining = [other for other in remaining if other not in linked]
                frontier += linked
            found.append(component)
        return sorted(found, key=len, reverse=True)


def posed_images(model: pycolmap.Reconstruction, names: Iterable[str]) -> pycolmap.Reconstruction:
    """A model of some images alone, with their poses, ids and cameras, and without points: to triangulate anew.

    Raises:
        InputError: a name that is not in the model, or an image of it without a pose.
    """
    images = {image.name: image for image in model.images.values() if image.has_pose}
    wanted = list(dict.fromkeys(names))
    check_known(wanted, images, "the request", "the model")
    chosen = [images[name] for name in wanted]
    part = pycolmap.Reconstruction()
    for camera_id in sorted({image.camera_id for image in chosen}):
        part.add_camera_with_trivial_rig(model.cameras[camera_id])
    for image in sorted(chosen, key=lambda image: image.image_id):
        alone = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
        part.add_image_with_trivial_frame(alone, image.cam_from_world())
    return part


def _share_points(ids0: IntArray, ids1: IntArray) -> bool:
    return bool(np.isin(ids0[ids0 >= 0], ids1[ids1 >= 0]).any())
