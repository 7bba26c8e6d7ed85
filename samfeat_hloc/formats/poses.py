"""Pose files as of hloc and visuallocalization.net: `NAME qw qx qy qz tx ty tz` a line, cam_from_world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import nearest_name

Pose7: TypeAlias = npt.NDArray[np.float64]
"""(7,) qw qx qy qz tx ty tz of cam_from_world; the quaternion has unit length."""
Poses: TypeAlias = dict[str, Pose7]

UNIT_TOLERANCE = 1e-3


def read_poses(path: Path | str) -> Poses:
    """Poses by name, in the file's order.

    Raises:
        InputError: no such file, a malformed or repeated line, a value that is not finite, a quaternion that
            is not of unit length; the message has file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the pose file {path} does not exist; expected lines 'NAME qw qx qy qz tx ty tz'")
    poses: Poses = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}:{number}"
        try:
            pose = np.array([float(word) for word in words[1:]])
        except ValueError:
            raise InputError(f"{where}: '{line}' is not 'NAME qw qx qy qz tx ty tz'") from None
        if pose.shape != (7,):
            raise InputError(f"{where}: {len(pose)} numbers after the name; expected 7: qw qx qy qz tx ty tz")
        if not np.isfinite(pose).all():
            raise InputError(f"{where}: the pose of '{words[0]}' is not finite; leave out images without a pose")
        norm = float(np.linalg.norm(pose[:4]))
        if abs(norm - 1) > UNIT_TOLERANCE:
            raise InputError(f"{where}: the quaternion of '{words[0]}' has length {norm:.4f}; expected 1")
        if words[0] in poses:
            raise InputError(f"{where}: '{words[0]}' has a pose already; expected one line an image")
        poses[words[0]] = pose
    return poses


def write_poses(path: Path | str, poses: Mapping[str, npt.ArrayLike], *, basename: bool = False) -> None:
    """Write poses in their order; the file is whole or absent.

    Args:
        path: the text file.
        poses: (7,) qw qx qy qz tx ty tz by name; quaternions are normalised and written with qw >= 0.
        basename: write `a.jpg` for `query/a.jpg`, as visuallocalization.net wants.

    Raises:
        InputError: a pose that is not 7 finite numbers with a quaternion, or two images with one base name.
    """
    lines: dict[str, str] = {}
    for name, values in poses.items():
        pose = np.array(values, np.float64)
        if pose.shape != (7,) or not np.isfinite(pose).all() or np.linalg.norm(pose[:4]) < 1e-9:
            raise InputError(f"the pose of '{name}' is {pose.tolist()}; expected 7 finite numbers qw qx qy qz tx ty tz")
        pose[:4] /= np.linalg.norm(pose[:4]) * (-1 if pose[0] < 0 else 1)
        written = name.rsplit("/", 1)[-1] if basename else name
        if written in lines:
            raise InputError(f"two images are called '{written}'; the pose file cannot tell them apart")
        lines[written] = " ".join([written, *(repr(float(value)) for value in pose)])
    with replace_file(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines.values()))


def validate_submission(path: Path | str, query_names: Iterable[str]) -> int:
    """Check a pose file as visuallocalization.net reads it, and return its number of poses.

    Every line is the base name of a query and 7 finite numbers with a unit quaternion, at most one line a
    query.

    Raises:
        InputError: naming the first line that breaks a rule.
    """
    known = {name.rsplit("/", 1)[-1] for name in query_names}
    poses = read_poses(path)
    for name in poses:
        if "/" in name:
            raise InputError(f"{path}: '{name}' has a folder; a submission has base names only")
        if name not in known:
            near = nearest_name(name, known)
            hint = f"; the nearest query is '{near}'" if near else ""
            raise InputError(f"{path}: '{name}' is not a query{hint}")
    return len(poses)
