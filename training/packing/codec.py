"""The bytes of a pack's parts: photographs, teacher maps, relations between cells, keypoints and correspondences.

Photographs are WebP (or whatever bytes their file had), arrays are numpy's own format under LZMA. Whatever reads a pack
needs Pillow or OpenCV, not both.
"""

from __future__ import annotations

import io
import lzma
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError, MissingDependencyError
from training.records import Image

STEPS_PER_PIXEL = 16
"""Correspondences are stored to 1/16 px, from ORIGIN_PX on."""
BAND_STEPS = 8 * STEPS_PER_PIXEL
ORIGIN_PX = 1.0
"""A point may lie up to a pixel left of or above the centre of the top-left pixel."""

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "pb": 0}]
"""Without a container: checksums are the file's business."""

Array = npt.NDArray[Any]


def encode_image(image: Image, quality: int) -> bytes:
    """(H, W, 3) uint8 RGB as WebP of a quality from 1 to 100.

    Raises:
        MissingDependencyError: neither Pillow nor OpenCV can write WebP here.
    """
    try:
        from PIL import Image as pillow
        from PIL import features

        if features.check("webp"):
            stream = io.BytesIO()
            pillow.fromarray(image).save(stream, "WEBP", quality=quality, method=4)
            return stream.getvalue()
    except ImportError:
        pass
    cv2 = _opencv()
    done, data = cv2.imencode(".webp", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise MissingDependencyError("neither Pillow nor OpenCV writes WebP here; install with: pip install pillow")
    return bytes(data.tobytes())


def decode_image(data: bytes, what: str) -> Image:
    """(H, W, 3) uint8 RGB of encoded bytes; `what` names them in messages.

    Raises:
        InputError: the bytes are no image, or a truncated one.
    """
    try:
        from PIL import Image as pillow
    except ImportError:
        pixels = _opencv().imdecode(np.frombuffer(data, np.uint8), 1)
        if pixels is None:
            raise InputError(f"{what} is damaged: its photograph cannot be decoded; make it again") from None
        return np.ascontiguousarray(pixels[:, :, ::-1])
    try:
        with pillow.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged bytes
        raise InputError(f"{what} is damaged: its photograph cannot be decoded ({error}); make it again") from None


def encode_array(array: Array) -> bytes:
    """An array of numbers, losslessly."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return lzma.compress(stream.getvalue(), lzma.FORMAT_RAW, filters=FILTERS)


def decode_array(data: bytes, what: str) -> Array:
    """What `encode_array` was given; `what` names it in messages.

    Raises:
        InputError: the bytes are damaged.
    """
    try:
        array: Array = np.load(io.BytesIO(lzma.decompress(data, lzma.FORMAT_RAW, filters=FILTERS)))
    except (lzma.LZMAError, ValueError, OSError, EOFError) as error:
        raise InputError(f"{what} is damaged ({error}); make it again") from None
    return array


def encode_points(points: npt.NDArray[np.float32]) -> bytes:
    """(M, 4) or (M, 2) pixels to 1/16 px, in another order: in bands of rows, as differences from their neighbours.

    Raises:
        InputError: a point lies outside what 16 bits reach.
    """
    steps = np.round((points.astype(np.float64) + ORIGIN_PX) * STEPS_PER_PIXEL).astype(np.int64)
    if len(steps) and (steps.min() < 0 or steps.max() > np.iinfo(np.uint16).max):
        raise InputError("a point lies outside its image, or the image has more than 4,094 px a side; set max_side")
    steps = steps[np.lexsort((steps[:, 0], steps[:, 1] // BAND_STEPS))]
    if steps.shape[1] == 4:
        steps[:, 2:] -= steps[:, :2]
    columns = np.diff(steps, axis=0, prepend=np.zeros((1, steps.shape[1]), np.int64)).T.astype("<i2")
    low_and_high = np.ascontiguousarray(columns).view(np.uint8).reshape(*columns.shape, 2)
    return encode_array(low_and_high.transpose(0, 2, 1))  # bytes of one weight together: they compress


def decode_points(data: bytes, what: str) -> npt.NDArray[np.float32]:
    """(M, 4) or (M, 2) pixels of `encode_points`; `what` names them in messages.

    Raises:
        InputError: the bytes are damaged.
    """
    low_and_high = np.ascontiguousarray(decode_array(data, what).transpose(0, 2, 1))
    differences = low_and_high.view("<i2").reshape(low_and_high.shape[:2])
    steps = np.cumsum(differences.T, axis=0, dtype=np.int64)
    if steps.shape[1] == 4:
        steps[:, 2:] += steps[:, :2]
    steps &= 0xFFFF  # differences are kept modulo 2^16
    return (steps / STEPS_PER_PIXEL - ORIGIN_PX).astype(np.float32)


@dataclass(frozen=True)
class Embedding:
    """A teacher's embedding, made small.

    Attributes:
        values: (h, w, K) int8; channels last, so that equal cells are equal bytes in a row.
        scale: (h, w) float16; a cell's embedding is its values times its scale.
        extent: as TeacherRow's.
        error: mean absolute difference of the cosines of random pairs of cells, before and after.
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float16]
    extent: tuple[float, float]
    error: float


def restore_embedding(values: npt.NDArray[np.int8], scale: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """(K, h, w) float16 of an `Embedding`'s values and scale."""
    cells = values.astype(np.float32) * scale.astype(np.float32)[:, :, None]
    return np.ascontiguousarray(cells.astype(np.float16).transpose(2, 0, 1))


def shrink_embedding(
    embedding: npt.NDArray[np.float16], extent: tuple[float, float] | None, cells: int, channels: int
) -> Embedding:
    """At most `cells` cells a side (blocks are averaged), and exactly `channels` channels.

    The channels are the coordinates in the basis of the image's own cells (singular vectors of the unit cells, no mean
    taken off), which among all bases of that size loses least of the unit cells in the mean square.

    Args:
        embedding: (C, h, w).
        extent: as TeacherRow's.
        cells: largest h and w of the result.
        channels: C of the result; what a teacher has less is zero, which changes no cosine.
    """
    full = embedding.astype(np.float32)
    extent = extent or (float(full.shape[2]), float(full.shape[1]))
    factor = -(-max(full.shape[1:]) // cells)
    small = _block_mean(full, factor)
    flat = small.reshape(len(small), -1)
    unit = _unit(flat)
    kept = flat
    if len(flat) > channels:
        _, vectors = np.linalg.eigh(unit @ unit.T)
        kept = vectors[:, ::-1][:, :channels].T @ flat
    kept = np.pad(kept, ((0, channels - len(kept)), (0, 0)))
    scale = (np.abs(kept).max(axis=0) / 127).astype(np.float16)
    values = np.round(kept / np.maximum(scale.astype(np.float32), 1e-12)).clip(-127, 127).astype(np.int8)
    error = _relation_error(unit, _unit(values.astype(np.float32)))
    shape = small.shape[1:]
    reduced = (extent[0] / factor, extent[1] / factor)
    return Embedding(values.T.reshape(*shape, -1), scale.reshape(shape), reduced, error)


def _block_mean(full: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Average blocks of factor x factor cells; a block that is cut off counts the last cell again."""
    if factor == 1:
        return full
    rows, columns = (-size % factor for size in full.shape[1:])
    padded = np.pad(full, ((0, 0), (0, rows), (0, columns)), mode="edge")
    channels, height, width = padded.shape
    return padded.reshape(channels, height // factor, factor, width // factor, factor).mean(axis=(2, 4))


def _unit(flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return flat / np.maximum(np.linalg.norm(flat, axis=0, keepdims=True), 1e-12)


def _relation_error(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    pick = np.random.default_rng(0).choice(before.shape[1], min(before.shape[1], 256), replace=False)
    return float(np.abs(before[:, pick].T @ before[:, pick] - after[:, pick].T @ after[:, pick]).mean())


def shrink_groups(groups: npt.NDArray[np.int16], cells: int) -> npt.NDArray[np.int16]:
    """(h, w) labels with at most `cells` cells a side: the label at each new cell's centre."""
    rows, columns = (_centres(size, max(groups.shape), cells) for size in groups.shape)
    return np.ascontiguousarray(groups[np.ix_(rows, columns)])


def shrink_edges(edges: npt.NDArray[np.uint8], cells: int) -> npt.NDArray[np.uint8]:
    """(h, w) boundary strengths with at most `cells` cells a side: the strongest in each, for edges are thinner."""
    shape = edges.shape
    for axis, size in enumerate(shape):
        starts = _starts(size, max(shape), cells)
        edges = edges if len(starts) == size else np.maximum.reduceat(edges, starts, axis=axis)
    return np.ascontiguousarray(edges)


def _centres(size: int, longest: int, cells: int) -> npt.NDArray[np.int64]:
    count = _count(size, longest, cells)
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)


def _starts(size: int, longest: int, cells: int) -> npt.NDArray[np.int64]:
    count = _count(size, longest, cells)
    return (np.arange(count) * size / count).astype(np.int64)


def _count(size: int, longest: int, cells: int) -> int:
    return size if longest <= cells else max(1, round(size * cells / longest))


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(f"photographs need Pillow or OpenCV ({error}); pip install pillow") from None
    return cv2
