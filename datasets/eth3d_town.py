"""The embedded town as a scene of the ETH3D multi-view benchmark: photographs, calibration, laser scans.

The photographs are the first ones of the database that `datasets.town.write_town` takes of the same seed, with one
camera. A scanner stands above every third photographer and looks the same way with a field of view of 100 degrees; its
exact returns are thinned to one a voxel of 2 cm, and of these the ones stay that two photographs see, as ETH3D's
scans are cut to what the photographs show. `dense-from-depth.ply` is the cloud of the photographs' own depth maps: a
perfect dense reconstruction, to try an evaluation with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from datasets.eth3d import ALIGNMENT, IMAGES, SCANS, VARIANTS, write_alignment
from datasets.town import Camera, Pose, Shot, Town, build_town, photograph, place_shots
from datasets.town.render import rasterize
from datasets.town.writer import JPEG_QUALITY
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import write_ply
from samfeat_hloc.nearest import voxel_keys
from samfeat_hloc.progress import progress

CAMERA = Camera(640, 480, 525.0)
PLACED = 64
"""Photographs of the town's database, the first of which are taken."""
SCANNER_EVERY = 3
SCANNER_ABOVE_M = 0.7
SCANNER_RANGE_M = 15.0
SCAN_VOXEL_M = 0.02
DENSE_VOXEL_M = 0.015
DENSE_RANGE_M = 40.0
DENSE_SCALE = 2.0
"""Depth maps of the dense cloud have this many pixels a side for one of the photograph."""
SEEN_BY = 2
SAME_DEPTH = 0.01
"""Relative difference of depth up to which a photograph sees a scan's point."""
NEAR_M = 0.1
"""Nearer than this, a camera sees nothing."""
DENSE = "dense-from-depth.ply"
DONE = "scene.json"


def write_town_scene(
    output: Path | str,
    seed: int = 0,
    views: int = 24,
    detail: float = 1.0,
    scan_width: int = 3000,
    camera: Camera = CAMERA,
    town: Town | None = None,
) -> Path:
    """Render the scene into `output` and return it; what an earlier run finished is kept.

    Args:
        output: folder of the scene.
        seed: of the town.
        views: photographs, 3 to 64.
        detail: of the town's textures, as of `build_town`.
        scan_width: rays of a scan across its field of view.
        camera: of the photographs.
        town: one that is built already, of this seed and detail.

    Raises:
        InputError: too few or too many views, or the folder holds another scene.
    """
    output = Path(output)
    if not 3 <= views <= PLACED:
        raise InputError(f"{views} views of the town were asked for; expected 3 to {PLACED}")
    size = [camera.width, camera.height, camera.focal]
    signature = {"seed": seed, "views": views, "detail": detail, "scan_width": scan_width, "camera": size}
    done = output / DONE
    if done.is_file():
        if json.loads(done.read_text())["signature"] != signature:
            raise InputError(f"{output} holds another scene of the town ({done}); give another folder, or remove it")
        if json.loads(done.read_text())["finished"]:
            return output
    else:
        _mark(done, signature, finished=False)
    town = town or build_town(seed, detail)
    folder = VARIANTS["undistorted"][1]
    shots = [
        replace(shot, name=f"{folder}/{Path(shot.name).name}", camera=camera)
        for shot in place_shots(town, PLACED, 0, 0)[0][:views]
    ]
    for shot in progress(shots, total=len(shots), desc="photographs", unit="photograph"):
        _photograph(town, shot, output / IMAGES / shot.name)
    _write_calibration(shots, output / VARIANTS["undistorted"][0])
    depths = [_depth(town, shot.camera, shot.cam_from_world) for shot in shots]
    _write_scans(town, shots, depths, output / SCANS, scan_width)
    if not (output / DENSE).is_file():
        _write_dense(town, shots, output / DENSE)
    _mark(done, signature, finished=True)
    return output


def _mark(path: Path, signature: dict[str, object], *, finished: bool) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps({"signature": signature, "finished": finished}))


def _photograph(town: Town, shot: Shot, path: Path) -> None:
    if path.is_file():
        return
    image = photograph(town, shot.camera, shot.cam_from_world, shot.night, shot.seed, shot.sunshine)
    encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )[1]  # fmt: skip
    with replace_file(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _write_calibration(shots: Sequence[Shot], folder: Path) -> None:
    camera = shots[0].camera
    model = pycolmap.Reconstruction()
    params = [camera.focal, camera.focal, *camera.centre]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="PINHOLE", width=camera.width, height=camera.height, params=params, camera_id=1)
    )
    for index, shot in enumerate(shots):
        pose = pycolmap.Rigid3d(
            pycolmap.Rotation3d(np.roll(shot.cam_from_world.quaternion, -1)), shot.cam_from_world.translation
        )
        model.add_image_with_trivial_frame(pycolmap.Image(name=shot.name, camera_id=1, image_id=index + 1), pose)
    folder.mkdir(parents=True, exist_ok=True)
    model.write_text(folder)
    for extra in ("rigs.txt", "frames.txt"):  # ETH3D's models are older than these
        (folder / extra).unlink(missing_ok=True)


def _write_scans(
    town: Town, shots: Sequence[Shot], depths: Sequence[np.ndarray], folder: Path, scan_width: int
) -> None:
    focal = scan_width / 2 / np.tan(np.radians(50))
    scanner = Camera(scan_width, scan_width * 3 // 4, float(focal))
    transforms = []
    stations = list(shots[::SCANNER_EVERY])
    for index, shot in enumerate(progress(stations, total=len(stations), desc="scans", unit="scan")):
        centre = shot.cam_from_world.centre + np.array([0.0, 0.0, SCANNER_ABOVE_M])
        world_from_scan = np.eye(4)  # z is upwards in the town as in a scanner
        world_from_scan[:3, 3] = centre
        transforms.append((f"scan{index + 1}.ply", world_from_scan))
        path = folder / transforms[-1][0]
        if path.is_file():
            continue
        rotation = shot.cam_from_world.rotation
        points = _surface(town, scanner, Pose(rotation, -rotation @ centre), SCANNER_RANGE_M)
        points = _thinned(points, SCAN_VOXEL_M)
        write_ply(path, (points[_seen(points, shots, depths)] - centre).astype(np.float32))
    write_alignment(folder / ALIGNMENT, transforms)


def _write_dense(town: Town, shots: Sequence[Shot], path: Path) -> None:
    clouds = [
        _thinned(_surface(town, shot.camera.scaled(DENSE_SCALE), shot.cam_from_world, DENSE_RANGE_M), DENSE_VOXEL_M)
        for shot in progress(shots, total=len(shots), desc="depth maps", unit="photograph")
    ]
    write_ply(path, _thinned(np.concatenate(clouds), DENSE_VOXEL_M).astype(np.float32))


def _depth(town: Town, camera: Camera, pose: Pose) -> np.ndarray:
    """(H, W) float32 along the optical axis at pixel centres, inf for sky."""
    exact = rasterize(town, camera, pose)
    with np.errstate(divide="ignore"):
        return np.where(exact.ids >= 0, 1.0 / exact.depth_key, np.inf).astype(np.float32)


def _surface(town: Town, camera: Camera, pose: Pose, range_m: float) -> np.ndarray:
    """(N, 3) float64 points of the surface in the world, one a pixel."""
    depth = _depth(town, camera, pose)
    rows, columns = np.nonzero(depth < range_m)
    z = depth[rows, columns].astype(np.float64)
    cx, cy = camera.centre
    local = np.stack([(columns + 0.5 - cx) / camera.focal * z, (rows + 0.5 - cy) / camera.focal * z, z], axis=1)
    points: np.ndarray = (local - pose.translation) @ pose.rotation
    return points


def _thinned(points: np.ndarray, voxel_m: float) -> np.ndarray:
    """The first point of each voxel."""
    kept = np.sort(np.unique(voxel_keys(points, voxel_m), return_index=True)[1])
    return np.asarray(points[kept])


def _seen(points: np.ndarray, shots: Sequence[Shot], depths: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) whether at least `SEEN_BY` photographs see each point."""
    count = np.zeros(len(points), np.int64)
    for shot, depth in zip(shots, depths, strict=True):
        pose, camera = shot.cam_from_world, shot.camera
        open_ones = np.flatnonzero(count < SEEN_BY)
        open_ones = open_ones[points[open_ones] @ pose.rotation[2] + pose.translation[2] > NEAR_M]
        xy, z = pose.project(camera, points[open_ones])
        inside = ((xy >= 0) & (xy < (camera.width, camera.height))).all(axis=1)
        column, row = np.floor(xy[inside]).astype(int).T
        count[open_ones[inside][np.abs(depth[row, column] - z[inside]) <= SAME_DEPTH * z[inside]]] += 1
    return count >= SEEN_BY
