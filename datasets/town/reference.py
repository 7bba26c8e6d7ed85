"""The database as a model: exact surface points, the views that see them, written for COLMAP or as NVM."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Matrix
from .placement import Shot
from .render import View


@dataclass(frozen=True)
class Model:
    """points (N, 3) metres, colours (N, 3) uint8; observations by shot: point, shot and exact projection (x, y)."""

    points: Matrix
    colours: NDArray[np.uint8]
    point_of: NDArray[np.int64]
    shot_of: NDArray[np.int64]
    xy: Matrix


def build_model(shots: list[Shot], views: list[View], per_image: int = 110) -> Model:
    """Points on the corners of every image, kept where at least two images see the same polygon there."""
    found, owners, colours = [], [], []
    for shot, view in zip(shots, views, strict=True):
        rows, columns = _corners(view, per_image)
        z = view.depth_m[rows, columns].astype(np.float64)
        cx, cy = shot.camera.centre
        local = np.stack(
            [(columns + 0.5 - cx) / shot.camera.focal * z, (rows + 0.5 - cy) / shot.camera.focal * z, z], axis=1
        )
        found.append((local - shot.cam_from_world.translation) @ shot.cam_from_world.rotation)
        owners.append(view.polygons[rows, columns])
        colours.append(view.image[rows, columns])
    points, owner, colour = np.concatenate(found), np.concatenate(owners), np.concatenate(colours)
    point_of, shot_of, xys = [], [], []
    for index, (shot, view) in enumerate(zip(shots, views, strict=True)):
        xy, depth = shot.cam_from_world.project(shot.camera, points)
        size = (shot.camera.width, shot.camera.height)
        inside = np.flatnonzero((depth > 0.1) & (xy >= 0).all(axis=1) & (xy < size).all(axis=1))
        column, row = np.floor(xy[inside]).astype(int).T
        seen = inside[view.polygons[row, column] == owner[inside]]
        point_of.append(seen)
        shot_of.append(np.full(len(seen), index))
        xys.append(xy[seen])
    which, shot_index, xy = np.concatenate(point_of), np.concatenate(shot_of), np.concatenate(xys)
    keep = np.bincount(which, minlength=len(points)) >= 2
    number = np.cumsum(keep) - 1
    chosen = keep[which]
    return Model(points[keep], colour[keep], number[which[chosen]], shot_index[chosen], xy[chosen])


def _corners(view: View, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of well textured pixels on surfaces."""
    grey = cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY)
    mask = (np.isfinite(view.depth_m) * 255).astype(np.uint8)
    places = cv2.goodFeaturesToTrack(grey, number, 0.005, 9, mask=mask)
    if places is None:
        return np.zeros(0, int), np.zeros(0, int)
    columns, rows = np.round(places.reshape(-1, 2)).astype(int).T
    return rows, columns


def write_colmap(model: Model, shots: list[Shot], folder: Path) -> None:
    """cameras, images, points3D (and rigs, frames) .bin."""
    from samfeat_hloc._pycolmap import pycolmap  # heavy, and needed here alone

    folder.mkdir(parents=True, exist_ok=True)
    reconstruction = pycolmap.Reconstruction()
    ids: dict[float, int] = {}
    for shot in shots:
        if shot.camera.focal not in ids:
            ids[shot.camera.focal] = len(ids) + 1
            reconstruction.add_camera_with_trivial_rig(
                pycolmap.Camera(
                    model="SIMPLE_RADIAL",
                    width=shot.camera.width,
                    height=shot.camera.height,
                    params=[shot.camera.focal, *shot.camera.centre, 0.0],
                    camera_id=ids[shot.camera.focal],
                )
            )
    slots = np.zeros(len(model.xy), int)
    for index, shot in enumerate(shots):
        mine = np.flatnonzero(model.shot_of == index)
        slots[mine] = np.arange(len(mine))
        image = pycolmap.Image(
            name=shot.name, keypoints=model.xy[mine], camera_id=ids[shot.camera.focal], image_id=index + 1
        )
        pose = pycolmap.Rigid3d(
            pycolmap.Rotation3d(np.roll(shot.cam_from_world.quaternion, -1)), shot.cam_from_world.translation
        )
        reconstruction.add_image_with_trivial_frame(image, pose)
    order = np.argsort(model.point_of, kind="stable")
    for observations in np.split(order, np.cumsum(np.bincount(model.point_of))[:-1]):
        track = pycolmap.Track()
        for k in observations:
            track.add_element(int(model.shot_of[k]) + 1, int(slots[k]))
        point = model.point_of[observations[0]]
        reconstruction.add_point3D(model.points[point], track, model.colours[point])
    reconstruction.update_point_3d_errors()
    reconstruction.write(folder)


def write_nvm(model: Model, shots: list[Shot], path: Path) -> None:
    """VisualSFM's NVM_V3: camera centres, measurements from the image centre."""
    lines = ["NVM_V3", "", str(len(shots))]
    for shot in shots:
        numbers = [shot.camera.focal, *shot.cam_from_world.quaternion, *shot.cam_from_world.centre]
        lines.append(f"{shot.name} {' '.join(_number(x) for x in numbers)} 0 0")
    lines += ["", str(len(model.points))]
    slot = np.zeros(len(model.xy), int)
    for index in range(len(shots)):
        mine = np.flatnonzero(model.shot_of == index)
        slot[mine] = np.arange(len(mine))
    order = np.argsort(model.point_of, kind="stable")
    for observations in np.split(order, np.cumsum(np.bincount(model.point_of))[:-1]):
        point = model.point_of[observations[0]]
        parts = [
            *(_number(x) for x in model.points[point]),
            *(str(c) for c in model.colours[point]),
            str(len(observations)),
        ]
        for k in observations:
            camera = shots[model.shot_of[k]].camera
            x, y = model.xy[k] - np.array(camera.centre)
            parts += [str(model.shot_of[k]), str(slot[k]), _number(x), _number(y)]
        lines.append(" ".join(parts))
    path.write_text("\n".join(lines) + "\n\n0\n", encoding="utf-8")


def _number(value: float) -> str:
    return f"{float(value):.12g}"
