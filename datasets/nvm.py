"""VisualSFM's NVM_V3 models, the reference model of Aachen v1.0, to COLMAP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samfeat_hloc._pycolmap import pose_from_array, pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import rotation_matrix
from samfeat_hloc.formats.queries import read_queries


def read_nvm(nvm: Path, intrinsics: Path) -> pycolmap.Reconstruction:
    """The COLMAP model of an NVM file.

    NVM has a camera's centre where COLMAP has a translation; rotations agree. Observations become the image's 2D points
    in the order of the file.

    Args:
        nvm: lines ``name focal qw qx qy qz cx cy cz radial 0`` for cameras, then points with their measurements.
        intrinsics: ``name MODEL width height params...`` for each image, in place of the NVM's focal lengths.

    Raises:
        InputError: a malformed file, with its line; an image without intrinsics.
    """
    cameras = {query.name: query.camera for query in read_queries(intrinsics)}
    lines = _lines(nvm)
    number, header = next(lines, (0, ["", ""]))
    if not header[0].startswith("NVM_V3"):
        raise InputError(f"{nvm} is no NVM_V3 file; its first line is {' '.join(header)[:40]!r}")
    model = pycolmap.Reconstruction()
    observations: list[list[tuple[float, float]]] = []
    names: list[str] = []
    poses: list[list[float]] = []
    try:
        for _ in range(int(next(lines)[1][0])):
            number, words = next(lines)
            names.append(words[0])
            poses.append([float(word) for word in words[2:9]])
            observations.append([])
        points = []
        for _ in range(int(next(lines)[1][0])):
            number, words = next(lines)
            track = pycolmap.Track()
            for start in range(7, 7 + 4 * int(words[6]), 4):
                observer = int(words[start])
                track.add_element(observer + 1, len(observations[observer]))
                observations[observer].append((float(words[start + 2]), float(words[start + 3])))
            points.append((np.array(words[:3], np.float64), np.array(words[3:6], np.float64).astype(np.uint8), track))
    except StopIteration:
        raise InputError(
            f"{nvm} ends after line {number}; expected more cameras or points; download it again"
        ) from None
    except (ValueError, IndexError) as error:
        raise InputError(f"{nvm}:{number} is malformed ({error}); download it again") from None
    for index, (name, pose) in enumerate(zip(names, poses, strict=True)):
        if name not in cameras:
            raise InputError(f"{nvm} has the image {name}, {intrinsics} has no intrinsics for it")
        known = cameras[name]
        camera = pycolmap.Camera(
            camera_id=index + 1, model=known.model, width=known.width, height=known.height, params=list(known.params)
        )
        model.add_camera_with_trivial_rig(camera)
        translation = -rotation_matrix(pose[:4]) @ np.array(pose[4:])
        centre = np.array([camera.principal_point_x, camera.principal_point_y])
        points2D = np.array(observations[index], np.float64).reshape(-1, 2) + centre
        image = pycolmap.Image(name=name, camera_id=index + 1, image_id=index + 1, keypoints=points2D)
        model.add_image_with_trivial_frame(image, pose_from_array([*pose[:4], *translation]))
    for xyz, colour, track in points:
        model.add_point3D(xyz, track, colour)
    return model


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open() as stream:
        for number, line in enumerate(stream, 1):
            words = line.split()
            if words:
                yield number, words
