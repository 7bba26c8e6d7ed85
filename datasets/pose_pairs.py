"""Pairs of photographs with known cameras: what a benchmark of relative pose needs, from three layouts.

A Strecha scene (every pair), a folder of RGB-D frames (frames a fixed number apart), or a pair list as SuperGlue's and
LoFTR's evaluations of ScanNet-1500 and MegaDepth-1500 have it, 38 words a line:

    NAME0 NAME1 ROT0 ROT1 K0 (9) K1 (9) T_0to1 (16)

Pixels: the centre of the top-left pixel is (0, 0), in the intrinsics too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.rgbd import INTRINSICS, list_frames, read_intrinsics, read_pose
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names

logger = logging.getLogger(__name__)
Matrix = npt.NDArray[np.float64]
COLUMNS = 38
COLMAP_CENTRE = 0.5
"""Strecha's principal points are used as COLMAP's, which has the centre of the top-left pixel at (0.5, 0.5)."""
NO_BASELINE = 1e-6


@dataclass(frozen=True)
class PosePair:
    """Two photographs whose cameras are known.

    Attributes:
        name0: of the first photograph, relative to the images' folder.
        name1: of the second.
        intrinsics0: (3, 3) of the first, in its file's pixels.
        intrinsics1: (3, 3) of the second.
        cam1_from_cam0: (4, 4); its translation is not zero, in any unit.
    """

    name0: str
    name1: str
    intrinsics0: Matrix
    intrinsics1: Matrix
    cam1_from_cam0: Matrix


def read_pose_pairs(dataset: Path | str, images: Path | None = None, gap: int = 8) -> tuple[Path, list[PosePair]]:
    """The pairs of a data set, whichever of the three layouts it has.

    Args:
        dataset: a folder with ``cameras.json`` (Strecha), one with ``camera-intrinsics.txt`` (RGB-D), or a pair list.
        images: root of a pair list's names; the folder of the list when None.
        gap: frames between the two of an RGB-D pair, counted in the folder's own frames.

    Returns:
        the images' folder, and the pairs.

    Raises:
        InputError: none of the three, a malformed file, a missing image, or a pair without a baseline.
    """
    dataset = Path(dataset)
    if dataset.is_file():
        root, pairs = images or dataset.parent, _listed(dataset)
    elif (dataset / "cameras.json").is_file():
        root, pairs = dataset / "images", _strecha(dataset / "cameras.json")
    elif (dataset / INTRINSICS).is_file():
        root, pairs = dataset, _rgbd(dataset, gap)
    else:
        raise InputError(
            f"{dataset} has no pairs with known cameras; expected a folder with cameras.json or {INTRINSICS}, or a "
            "text file of NAME0 NAME1 ROT0 ROT1 K0 K1 T_0to1"
        )
    if not pairs:
        raise InputError(f"{dataset} has no pair; expected at least two photographs (or, of RGB-D, a smaller gap)")
    for pair in pairs:
        if np.linalg.norm(pair.cam1_from_cam0[:3, 3]) < NO_BASELINE:
            raise InputError(
                f"{pair.name0} and {pair.name1} were taken from one place; their translation has no direction"
            )
        for name in (pair.name0, pair.name1):
            if not (root / name).is_file():
                raise InputError(f"{dataset} names {name}, which is not in {root}; check the images' folder")
    return root, pairs


def image_names(pairs: Sequence[PosePair]) -> list[str]:
    """Every image of the pairs once, in order."""
    return list(dict.fromkeys(name for pair in pairs for name in (pair.name0, pair.name1)))


def _strecha(listing: Path) -> list[PosePair]:
    """Every pair of a scene."""
    try:
        entries: dict[str, dict[str, Any]] = json.loads(listing.read_text())
        cameras = {name: _strecha_camera(entry) for name, entry in sorted(entries.items())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{listing} is malformed ({type(error).__name__}: {error}); expected Strecha's cameras"
        ) from None
    names = list(cameras)
    return [
        PosePair(
            first, second, cameras[first][0], cameras[second][0], cameras[second][1] @ np.linalg.inv(cameras[first][1])
        )
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    ]  # fmt: skip


def _strecha_camera(entry: dict[str, Any]) -> tuple[Matrix, Matrix]:
    """Intrinsics, and (4, 4) cam_from_world."""
    x, y = entry["cx"] - COLMAP_CENTRE, entry["cy"] - COLMAP_CENTRE
    intrinsics = np.array([[entry["fx"], 0, x], [0, entry["fy"], y], [0, 0, 1]], np.float64)
    cam_from_world = np.eye(4)
    cam_from_world[:3, :3] = np.array(entry["world_from_cam_rotation"], np.float64).T
    cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ np.array(entry["camera_center_m"], np.float64)
    return intrinsics, cam_from_world


def _rgbd(folder: Path, gap: int) -> list[PosePair]:
    if gap < 1:
        raise InputError(f"the gap is {gap} frames; expected at least 1")
    frames, intrinsics = list_frames(folder), read_intrinsics(folder)
    poses = [read_pose(frame.pose) for frame in frames]
    return [
        PosePair(
            frames[i].name, frames[i + gap].name, intrinsics, intrinsics, np.linalg.inv(poses[i + gap]) @ poses[i]
        )
        for i in range(len(frames) - gap)
    ]  # fmt: skip


def _listed(path: Path) -> list[PosePair]:
    pairs, turned = [], 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = np.array(words[2:], np.float64)
        except ValueError:
            values = np.zeros(0)
        if len(values) != COLUMNS - 2 or not np.isfinite(values).all():
            raise InputError(
                f"{path}:{number}: expected {COLUMNS} words, NAME0 NAME1 ROT0 ROT1 K0 (9) K1 (9) T_0to1 (16), numbers "
                f"from the third; found {len(words)} words"
            )
        check_names(words[:2], f"{path}:{number}")
        turned += bool(values[:2].any())
        first, second, transform = values[2:11], values[11:20], values[20:]
        rotation = transform.reshape(4, 4)[:3, :3]
        if (
            not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2)
            or min(first[[0, 4]].min(), second[[0, 4]].min()) <= 0
        ):
            raise InputError(f"{path}:{number}: K0, K1 or T_0to1 is no camera; expected 3x3, 3x3 and 4x4 by rows")
        pairs.append(PosePair(words[0], words[1], first.reshape(3, 3), second.reshape(3, 3), transform.reshape(4, 4)))
    if turned:
        logger.warning(
            "warning: %d pairs of %s have photographs stored turned; they are matched as stored", turned, path
        )
    return pairs
