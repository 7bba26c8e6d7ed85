"""Observations of a model moved to where the photographs agree, finer than any detector places them.

A detector finds each photograph's keypoint alone, so that the observations of one 3D point scatter by half a pixel.
Here the photographs are compared: of each point the most central one gives a patch, which lies on the surface through
the point; it is seen in every other photograph of the point through the cameras of the model, and moved there until
both agree in the least-squares sense (Gruen 1985; for models of many photographs Furukawa and Ponce, IJCV 2009).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import faiss
import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, pycolmap
from samfeat_hloc.progress import progress

logger = logging.getLogger(__name__)

RADIUS = 7
"""Of a patch, pixels of the photograph that gives it: 15 x 15 is the usual window of least-squares matching."""
ITERATIONS = 8
MAX_SHIFT = 2.0
"""Pixels. Farther off is another place, or another keypoint."""
MIN_CORRELATION = 0.7
"""Of the two patches at the end (zero-mean, normalised): PMVS's limit."""
MAX_LAST_STEP = 0.05
"""Pixels; alignments that still move are left out."""
MIN_TEXTURE = 0.05
"""Least ratio of the eigenvalues of the patch's structure tensor: along an edge a patch slides."""
NEIGHBOURS = 8
"""Points whose common plane is the surface; where they have none (`MAX_ROUGHNESS`), the patch faces its photographs."""
MAX_ROUGHNESS = 0.05

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Observations:
    """All observations of a model's points.

    Attributes:
        image: (O,) image ids.
        index: (O,) keypoint of the image.
        point: (O,) row of the point.
        xy: (O, 2) pixels, COLMAP's convention.
        xyz: (P, 3) points.
    """

    image: Ints
    index: Ints
    point: Ints
    xy: FloatArray
    xyz: FloatArray

    @classmethod
    def of(cls, model: pycolmap.Reconstruction) -> Observations:
        """Collect them, in the order of points and tracks."""
        rows, xyz = [], []
        for row, point in enumerate(model.points3D.values()):
            xyz.append(point.xyz)
            rows += [(element.image_id, element.point2D_idx, row) for element in point.track.elements]
        table = np.array(rows, np.int64).reshape(-1, 3)
        points2D = {image_id: model.images[image_id].points2D for image_id in np.unique(table[:, 0]).tolist()}
        xy = [points2D[image_id][index].xy for image_id, index, _ in rows]
        return cls(table[:, 0], table[:, 1], table[:, 2], np.array(xy).reshape(-1, 2), np.array(xyz).reshape(-1, 3))


def align_observations(model: pycolmap.Reconstruction, image_dir: Path) -> int:
    """Move the observations of a model, in place; points and cameras stay. How many were moved.

    Args:
        model: with poses and points; photographs in their stored orientation, as COLMAP reads them.
        image_dir: root of the image names. Photographs that cannot be read are passed over with a warning.
    """
    found = Observations.of(model)
    if not len(found.xy):
        return 0
    central, normals = _surfaces(model, found)
    patches = np.zeros((len(found.xyz), (2 * RADIUS + 1) ** 2), np.float32)
    corners = np.zeros((*patches.shape, 3))
    images = np.unique(found.image).tolist()
    for image_id in images:  # what the central photograph of each point shows, and where that lies in space
        mine = central[found.image[central] == image_id]
        points = found.point[mine]
        pixels = found.xy[mine][:, None] + _grid()
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        corners[points] = _on_planes(image, camera, pixels, found.xyz[points], normals[points])
        if (photograph := _photograph(model, image_id, image_dir)) is not None:
            patches[points] = _read(photograph, pixels)
    moved = 0
    givers = np.zeros(len(found.xy), bool)
    givers[central] = True
    for image_id in progress(images, total=len(images), desc="align", unit="image"):
        mine = np.flatnonzero((found.image == image_id) & ~givers)
        image, photograph = model.images[image_id], _photograph(model, image_id, image_dir)
        if photograph is None:
            continue
        seen = _project(image, model.cameras[image.camera_id], corners[found.point[mine]])
        centre = seen[:, (seen.shape[1] - 1) // 2]
        start = found.xy[mine] - centre
        shift, good = _align(photograph, patches[found.point[mine]], seen, start)
        for row, xy in zip(mine[good], (centre + shift)[good], strict=True):
            image.points2D[found.index[row]].xy = xy
        moved += int(np.count_nonzero(good))
    logger.info("%d of %d observations aligned", moved, len(found.xy) - len(central))
    return moved


def _surfaces(model: pycolmap.Reconstruction, found: Observations) -> tuple[Ints, FloatArray]:
    """(P,) the observation in each point's most central photograph, and (P, 3) unit normals towards it."""
    centres = {image_id: model.images[image_id].projection_center() for image_id in np.unique(found.image).tolist()}
    towards = np.array([centres[image_id] for image_id in found.image.tolist()]) - found.xyz[found.point]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = np.zeros_like(found.xyz)
    np.add.at(facing, found.point, towards)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    order = np.lexsort((-np.sum(towards * facing[found.point], axis=1), found.point))
    central = order[np.unique(found.point[order], return_index=True)[1]]
    if len(found.xyz) <= NEIGHBOURS:
        return central, facing
    index = faiss.IndexFlatL2(3)
    cloud = np.ascontiguousarray(found.xyz - found.xyz.mean(axis=0), np.float32)
    index.add(cloud)
    near = found.xyz[index.search(cloud, NEIGHBOURS + 1)[1]]
    spread = near - near.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("pni,pnj->pij", spread, spread))
    normals = vectors[:, :, 0] * np.sign(np.sum(vectors[:, :, 0] * facing, axis=1, keepdims=True))
    flat = (values[:, 0] <= MAX_ROUGHNESS * values[:, 1]) & (np.sum(normals * facing, axis=1) > 0.3)
    return central, np.where(flat[:, None], normals, facing)


def _grid() -> FloatArray:
    """(G, 2) offsets of a patch's pixels, its centre in the middle."""
    side = np.arange(-RADIUS, RADIUS + 1, dtype=np.float64)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def _on_planes(
    image: pycolmap.Image, camera: pycolmap.Camera, pixels: FloatArray, xyz: FloatArray, normals: FloatArray
) -> FloatArray:
    """(P, G, 3) where the rays of (P, G, 2) pixels meet the planes through `xyz` with these normals."""
    rays = np.asarray(camera.cam_from_img(pixels.reshape(-1, 2))).reshape(pixels.shape)
    pose = image.cam_from_world()
    directions = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=2) @ pose.rotation.matrix()
    centre = image.projection_center()
    distance = np.sum((xyz - centre) * normals, axis=1)
    return centre + directions * (distance[:, None] / np.einsum("pgi,pi->pg", directions, normals))[..., None]


def _project(image: pycolmap.Image, camera: pycolmap.Camera, xyz: FloatArray) -> FloatArray:
    """(P, G, 2) pixels of (P, G, 3) points."""
    in_camera = image.cam_from_world() * xyz.reshape(-1, 3)
    return np.asarray(camera.img_from_cam(in_camera)).reshape(*xyz.shape[:2], 2)


def _photograph(model: pycolmap.Reconstruction, image_id: int, image_dir: Path) -> npt.NDArray[np.float32] | None:
    """(H, W) brightness; None, with a warning, when it cannot be read or is not what its camera says."""
    image = model.images[image_id]
    camera = model.cameras[image.camera_id]
    read = cv2.imread(str(image_dir / image.name), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if read is None or read.shape != (camera.height, camera.width):
        found = "cannot be read" if read is None else f"is {read.shape[1]} x {read.shape[0]}"
        logger.warning("warning: %s %s; its observations are not aligned", image_dir / image.name, found)
        return None
    return read.astype(np.float32)


def _read(photograph: npt.NDArray[np.float32], pixels: FloatArray) -> npt.NDArray[np.float32]:
    """(P, G) values at (P, G, 2) pixels; those outside repeat the border."""
    at = (pixels - 0.5).astype(np.float32)
    rows = max(1, 32000 // max(1, at.shape[1]))
    parts = [
        cv2.remap(photograph, part[..., 0], part[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for part in (at[i : i + rows] for i in range(0, len(at), rows))
    ]
    return np.concatenate(parts) if parts else np.zeros(at.shape[:2], np.float32)


def _align(
    photograph: npt.NDArray[np.float32], patches: npt.NDArray[np.float32], seen: FloatArray, start: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Gauss-Newton over translations; brightness and contrast are free.

    Args:
        photograph: (H, W).
        patches: (M, G) wanted values.
        seen: (M, G, 2) their pixels by the model.
        start: (M, 2) first translations.

    Returns:
        (M, 2) translations, and which of them can be trusted.
    """
    slopes = [cv2.Sobel(photograph, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    wanted = _normalised(patches)[0]
    shift, step = start.copy(), np.full_like(start, np.inf)
    texture = np.zeros(len(start))
    for _ in range(ITERATIONS):
        pixels = seen + shift[:, None]
        values, deviation = _normalised(_read(photograph, pixels))
        slope = np.stack([_read(image, pixels) for image in slopes], axis=2) / deviation[:, :, None]
        slope -= slope.mean(axis=1, keepdims=True)
        normal = np.einsum("mgi,mgj->mij", slope, slope).astype(np.float64)
        right = np.einsum("mgi,mg->mi", slope, wanted - values).astype(np.float64)
        eigenvalues = np.linalg.eigvalsh(normal)
        texture = eigenvalues[:, 0] / np.maximum(eigenvalues[:, 1], 1e-12)
        step = np.linalg.solve(normal + 1e-9 * np.eye(2), right[..., None])[..., 0]
        shift = shift + np.clip(step, -1, 1)
    correlation = np.mean(wanted * _normalised(_read(photograph, seen + shift[:, None]))[0], axis=1)
    good = (np.linalg.norm(shift - start, axis=1) <= MAX_SHIFT) & (correlation >= MIN_CORRELATION)
    good &= (np.abs(step).max(axis=1) <= MAX_LAST_STEP) & (texture >= MIN_TEXTURE)
    height, width = photograph.shape
    inside = (seen >= 0).all(axis=(1, 2)) & (seen <= [width, height]).all(axis=(1, 2))
    return shift, good & inside & np.isfinite(shift).all(axis=1)


def _normalised(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(M, G) with mean 0 and deviation 1 in each row, and the (M, 1) deviations."""
    centred = values - values.mean(axis=1, keepdims=True)
    deviation = np.maximum(centred.std(axis=1, keepdims=True), 1e-3)
    return centred / deviation, deviation
