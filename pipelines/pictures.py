"""Pictures of a run: a query beside the map's photograph it was recognised in, and the map from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

GREEN, ORANGE, BLUE, GREY, DARK = (60, 180, 75), (255, 140, 0), (30, 100, 220), (150, 150, 150), (40, 40, 40)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_image(path: Path, image: Image) -> None:
    """Write an (H, W, 3) RGB picture as PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with replace_file(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def side_by_side(left: Image, right: Image) -> Image:
    """Two pictures in one, the right one scaled to the left one's height."""
    width = round(right.shape[1] * left.shape[0] / right.shape[0])
    return np.concatenate([left, cv2.resize(right, (width, left.shape[0]), interpolation=cv2.INTER_AREA)], axis=1)


def draw_matches(
    query: Image, reference: Image, query_points: FloatArray, reference_points: FloatArray, all_points: FloatArray,
    title: str, height: int = 480,
) -> Image:  # fmt: skip
    """The query at the left, a photograph of the map at the right, lines between inlier matches.

    Args:
        query, reference: (H, W, 3) RGB.
        query_points, reference_points: (M, 2) pixels of the matches that are inliers of the pose.
        all_points: (N, 2) pixels of all inliers of the query, over all photographs of the map.
        title: written above.
        height: of the pictures, pixels.
    """
    scales = [height / image.shape[0] for image in (query, reference)]
    left, right = (
        cv2.resize(image, (round(image.shape[1] * s), height), interpolation=cv2.INTER_AREA)
        for image, s in zip((query, reference), scales, strict=True)
    )
    gap = 8
    canvas = np.full((height + 30, left.shape[1] + gap + right.shape[1], 3), 255, np.uint8)
    canvas[30:, : left.shape[1]] = left
    canvas[30:, left.shape[1] + gap :] = right
    shift = np.array([0, 30])
    for point in all_points * scales[0] + shift:
        cv2.circle(canvas, _pixel(point), 2, ORANGE, -1, cv2.LINE_AA)
    a = query_points * scales[0] + shift
    b = reference_points * scales[1] + shift + [left.shape[1] + gap, 0]
    step = max(1, len(a) // 60)
    for p, q in zip(a[::step], b[::step], strict=True):
        cv2.line(canvas, _pixel(p), _pixel(q), GREEN, 1, cv2.LINE_AA)
    for point in np.concatenate([a, b]):
        cv2.circle(canvas, _pixel(point), 2, GREEN, -1, cv2.LINE_AA)
    cv2.putText(canvas, title, (6, 20), FONT, 0.5, DARK, 1, cv2.LINE_AA)
    return canvas


def draw_map(
    points: FloatArray,
    database: FloatArray,
    estimated: Mapping[str, Sequence[tuple[FloatArray, FloatArray]]],
    truth: FloatArray,
    up: FloatArray,
    size: int = 720,
) -> Image:
    """The map from above: its points, the photographs it was made of, and where the queries were found.

    Args:
        points: (P, 3) of the map.
        database: (D, 3) camera centres of the map.
        estimated: condition ("day", "night") to the queries' camera centres and optical axes in the world.
        truth: (Q, 3) true centres, drawn as crosses; may be empty.
        up: (3,) upward direction of the world.
        size: of the picture, pixels.
    """
    axes = _ground_axes(up)
    low, high = _extent(database @ axes.T, points @ axes.T)
    scale = (size - 1) / (high - low).max()
    canvas = np.full((*np.ceil((high - low) * scale).astype(int)[::-1] + 40, 3), 255, np.uint8)

    def place(xyz: FloatArray) -> FloatArray:
        flat = (xyz @ axes.T - low) * scale
        return np.column_stack([flat[:, 0], canvas.shape[0] - 40 - flat[:, 1]])

    density = np.zeros(canvas.shape[:2], np.float32)
    pixels = place(points).round().astype(int)
    within = ((pixels >= 0) & (pixels < [canvas.shape[1], canvas.shape[0] - 40])).all(axis=1)
    np.add.at(density, (pixels[within, 1], pixels[within, 0]), 1.0)
    shade = 1 - 0.75 * np.minimum(1, cv2.GaussianBlur(density, (0, 0), 0.8) / 1.2)
    canvas = (canvas * shade[..., None]).astype(np.uint8)
    for point in place(database):
        cv2.circle(canvas, _pixel(point), 3, GREY, -1, cv2.LINE_AA)
    for condition, found in estimated.items():
        colour = BLUE if condition == "night" else ORANGE
        for centre, axis in found:
            start, end = place(np.stack([centre, centre + axis]))
            direction = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
            cv2.line(canvas, _pixel(start), _pixel(start + 16 * direction), colour, 1, cv2.LINE_AA)
            cv2.circle(canvas, _pixel(start), 4, colour, -1, cv2.LINE_AA)
    for point in place(truth) if len(truth) else []:
        cv2.drawMarker(canvas, _pixel(point), DARK, cv2.MARKER_CROSS, 11, 1, cv2.LINE_AA)
    return _legend(canvas, [("map", GREY), *((c, BLUE if c == "night" else ORANGE) for c in estimated)], len(truth) > 0)


def _legend(canvas: Image, entries: Sequence[tuple[str, tuple[int, int, int]]], with_truth: bool) -> Image:
    x, y = 12, canvas.shape[0] - 16
    for name, colour in entries:
        cv2.circle(canvas, (x, y - 4), 5, colour, -1, cv2.LINE_AA)
        cv2.putText(canvas, name, (x + 10, y), FONT, 0.5, DARK, 1, cv2.LINE_AA)
        x += 30 + 10 * len(name)
    if with_truth:
        cv2.drawMarker(canvas, (x, y - 4), DARK, cv2.MARKER_CROSS, 11, 1, cv2.LINE_AA)
        cv2.putText(canvas, "truth", (x + 12, y), FONT, 0.5, DARK, 1, cv2.LINE_AA)
    return canvas


def _extent(cameras: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners (2,), (2,) of what the map shows: the cameras, and the bulk of the points not too far from them."""
    low, high = cameras.min(axis=0), cameras.max(axis=0)
    reach = (high - low).max() + 1e-9
    near = points[((points > low - reach) & (points < high + reach)).all(axis=1)]
    if len(near):
        low = np.minimum(low, np.percentile(near, 3, axis=0))
        high = np.maximum(high, np.percentile(near, 97, axis=0))
    margin = 0.08 * (high - low).max() + 1e-9
    return low - margin, high + margin


def _ground_axes(up: FloatArray) -> FloatArray:
    """(2, 3) two directions that span the ground, seen from above."""
    up = up / np.linalg.norm(up)
    first = np.cross(up, [0.0, 0.0, 1.0] if abs(up[2]) < 0.9 else [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first)])


def _pixel(point: npt.ArrayLike) -> tuple[int, int]:
    x, y = np.asarray(point, np.float64).round().astype(int)
    return int(x), int(y)
