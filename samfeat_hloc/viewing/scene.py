"""What there is to see, as plain arrays: points, a dense cloud, cameras, and the paths between them.

This module imports numpy alone, so that the child processes that draw load neither pycolmap nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ColourArray = npt.NDArray[np.uint8]

DEFAULT_CORNERS = np.array([[-0.6, -0.45, 1], [0.6, -0.45, 1], [0.6, 0.45, 1], [-0.6, 0.45, 1]])
"""(4, 3) corners of a camera of unknown or panoramic intrinsics: a field of view of 62 x 48 degrees."""


@dataclass(frozen=True)
class Points:
    """Coloured points.

    Attributes:
        xyz: (P, 3) float64 positions in the model's coordinates.
        rgb: (P, 3) uint8 colours.
    """

    xyz: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    rgb: ColourArray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))

    def __len__(self) -> int:
        return len(self.xyz)

    def take(self, indices: IntArray) -> Points:
        """The points of these indices, in their order."""
        return Points(self.xyz[indices], self.rgb[indices])


@dataclass(frozen=True)
class Cameras:
    """Cameras and the points that each of them observes.

    Attributes:
        names: C names of photographs.
        rotations: (C, 3, 3) world_from_cam; x right, y down, z forward in the camera.
        centres: (C, 3) centres of projection in the model's coordinates.
        corners: (C, 4, 3) where the rays through the photograph's corners meet the plane z = 1 of the camera, in the
            camera's coordinates; top left, top right, bottom right, bottom left of the stored pixels.
        offsets: (C + 1,) where each camera's part of `observed` begins and ends.
        observed: (O,) indices of points of the scene.
    """

    names: tuple[str, ...]
    rotations: FloatArray
    centres: FloatArray
    corners: FloatArray
    offsets: IntArray
    observed: IntArray

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def make(
        cls,
        names: Sequence[str],
        rotations: npt.ArrayLike,
        centres: npt.ArrayLike,
        corners: npt.ArrayLike,
        observed: Sequence[npt.ArrayLike] | None = None,
    ) -> Cameras:
        """From one list of observed points a camera; none at all when `observed` is None."""
        count = len(names)
        lists = [np.asarray(part, np.int64) for part in observed] if observed else [np.zeros(0, np.int64)] * count
        offsets = np.cumsum([0, *(len(part) for part in lists)])
        return cls(
            tuple(names),
            np.asarray(rotations, np.float64).reshape(count, 3, 3),
            np.asarray(centres, np.float64).reshape(count, 3),
            np.asarray(corners, np.float64).reshape(count, 4, 3),
            offsets.astype(np.int64),
            np.concatenate([np.zeros(0, np.int64), *lists]),
        )

    def points_of(self, index: int) -> IntArray:
        """Indices of the points that one camera observes."""
        return self.observed[self.offsets[index] : self.offsets[index + 1]]

    def frusta(self, depth: float) -> FloatArray:
        """(C, 5, 3) apex and image corners of every camera, the image plane `depth` before the centre."""
        far = np.einsum("cij,ckj->cki", self.rotations, self.corners) * depth + self.centres[:, None]
        return np.concatenate([self.centres[:, None], far], axis=1)

    def take(self, indices: IntArray) -> Cameras:
        """The cameras of these indices, in their order."""
        return Cameras.make(
            [self.names[index] for index in indices],
            self.rotations[indices],
            self.centres[indices],
            self.corners[indices],
            [self.points_of(int(index)) for index in indices],
        )


def no_cameras() -> Cameras:
    """Zero cameras."""
    return Cameras.make([], [], [], [])


@dataclass(frozen=True)
class Scene:
    """Everything that a view shows.

    Attributes:
        title: what it is, for people.
        points: the model's points.
        cloud: a dense cloud beside them.
        database: the model's cameras.
        queries: localized photographs; they observe no point of the scene.
        paths: (N, 3) polylines through the centres of photographs of one folder in the order of their names.
        facts: lines of text about the model.
    """

    title: str
    points: Points
    database: Cameras
    queries: Cameras = field(default_factory=no_cameras)
    cloud: Points = field(default_factory=Points)
    paths: tuple[FloatArray, ...] = ()
    facts: tuple[str, ...] = ()


EDGES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
"""(8, 2) a frustum's edges between its five points."""
DATABASE_COLOUR, QUERY_COLOUR, PATH_COLOUR = (77, 163, 255), (255, 107, 107), (255, 209, 102)
BACKGROUND = (20, 23, 28)


def segments(cameras: Cameras, depth: float) -> FloatArray:
    """(8 C, 2, 3) both ends of every edge of every frustum."""
    return cameras.frusta(depth)[:, EDGES].reshape(-1, 2, 3)


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene for a child process, as an npz without pickled objects."""
    arrays: dict[str, Any] = {"title": np.array(scene.title), "facts": np.array(scene.facts, dtype=np.str_)}
    for kind in ("points", "cloud"):
        part: Points = getattr(scene, kind)
        arrays |= {f"{kind}.xyz": part.xyz, f"{kind}.rgb": part.rgb}
    for kind in ("database", "queries"):
        cameras: Cameras = getattr(scene, kind)
        arrays[f"{kind}.names"] = np.array(cameras.names, dtype=np.str_)
        for name in ("rotations", "centres", "corners", "offsets", "observed"):
            arrays[f"{kind}.{name}"] = getattr(cameras, name)
    for index, line in enumerate(scene.paths):
        arrays[f"path.{index}"] = line
    with path.open("wb") as file:
        np.savez(file, **arrays)


def load_scene(path: Path) -> Scene:
    """Read what `save_scene` wrote."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}

    def cameras(kind: str) -> Cameras:
        fields = ("rotations", "centres", "corners", "offsets", "observed")
        return Cameras(tuple(arrays[f"{kind}.names"].tolist()), *(arrays[f"{kind}.{name}"] for name in fields))

    return Scene(
        str(arrays["title"]),
        Points(arrays["points.xyz"], arrays["points.rgb"]),
        cameras("database"),
        cameras("queries"),
        Points(arrays["cloud.xyz"], arrays["cloud.rgb"]),
        tuple(arrays[name] for name in sorted(arrays, key=_path_number) if name.startswith("path.")),
        tuple(arrays["facts"].tolist()),
    )


def _path_number(name: str) -> int:
    return int(name.removeprefix("path.")) if name.startswith("path.") else -1
