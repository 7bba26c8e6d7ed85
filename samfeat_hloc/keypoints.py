"""From a map of keypoint scores to keypoints: non-maximum suppression, threshold, border, top-k, sub-pixel fit.

Pixels: the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Keypoints(NamedTuple):
    """Keypoints of one image, best first."""

    points: Tensor  # (N, 2) x, y float32
    scores: Tensor  # (N,)


def _window_max(scores: Tensor, radius: int) -> Tensor:
    """Maximum over the (2 r + 1)^2 window of each pixel of (B, 1, H, W), floats or bytes."""
    if scores.device.type == "cpu":
        return _window_max_by_shifts(scores, radius)
    size = 2 * radius + 1
    rows = F.max_pool2d(scores.float(), (1, size), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (size, 1), stride=1, padding=(radius, 0)).to(scores.dtype)


def _window_max_by_shifts(scores: Tensor, radius: int) -> Tensor:
    """The same as maxima of whole shifted maps, which a CPU does a vector at a time; its max-pooling goes by pixel."""
    least = float("-inf") if scores.is_floating_point() else 0
    maxima = F.pad(scores, (radius, radius, radius, radius), value=least)
    for axis in (2, 3):
        size = maxima.shape[axis] - 2 * radius
        reach = 1  # each value is the maximum of so many neighbours, from itself on
        while reach < 2 * radius + 1:
            step = min(reach, 2 * radius + 1 - reach)
            length = maxima.shape[axis] - step
            maxima = torch.maximum(maxima.narrow(axis, 0, length), maxima.narrow(axis, step, length))
            reach += step
        maxima = maxima.narrow(axis, 0, size)
    return maxima


def suppress(scores: Tensor, radius: int, rounds: int | None = None) -> Tensor:
    """Greedy non-maximum suppression in the Chebyshev distance, as the released implementation's grid does it.

    Each round keeps the pixels that are the largest of their window among what is left, and removes their windows'
    other pixels; repeated until nothing changes this equals taking pixels in the order of their score.

    Args:
        scores: (B, 1, H, W), finite.
        radius: pixels; 0 keeps everything.
        rounds: stop after as many rounds; None runs to the end. Two rounds find nearly all.

    Returns:
        (B, 1, H, W) bool. Pixels that equal their neighbours (a flat region) are never kept.
    """
    if radius == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    flat = scores <= -_window_max(-scores, 1)  # no neighbour is lower: a plateau's inside, or a pit
    left = scores.masked_fill(flat, float("-inf"))
    kept = torch.zeros_like(flat)
    while True:
        peaks = _last_of_equals((left == _window_max(left, radius)) & (left > float("-inf")), radius)
        kept = kept | peaks
        covered = _window_max(peaks.to(torch.uint8), radius) > 0
        left = left.masked_fill(covered, float("-inf"))
        if rounds is not None:
            rounds -= 1
            if rounds == 0:
                return kept
        if not (left > float("-inf")).any():
            return kept


def _last_of_equals(peaks: Tensor, radius: int) -> Tensor:
    """Of peaks in one another's window, which have equal scores, only the last in raster order stays."""
    count = peaks[0].numel()
    exact = torch.float32 if count < 2**24 else torch.float64
    index = torch.arange(1, count + 1, device=peaks.device, dtype=exact).reshape(peaks[:1].shape)
    index = index.expand(peaks.shape).masked_fill(~peaks, 0)
    return peaks & (index == _window_max(index, radius))


def detect(
    scores: Tensor,
    *,
    radius: int,
    threshold: float,
    border: int,
    max_keypoints: int,
    rounds: int | None = 2,
    image_sizes: Tensor | None = None,
) -> list[Keypoints]:
    """Keypoints of each image at whole pixels, best first.

    Args:
        scores: (B, 1, H, W) float32.
        radius: of the non-maximum suppression, pixels.
        threshold: scores below it are no keypoints.
        border: keypoints nearer than this to the image's border are dropped, pixels.
        max_keypoints: the best are kept.
        rounds: of `suppress`.
        image_sizes: (B, 2) width, height of the images within the map, where the map is padded at the right and bottom.
    """
    height, width = scores.shape[2:]
    kept = suppress(scores, radius, rounds) & (scores >= threshold)
    x = torch.arange(width, device=scores.device)
    y = torch.arange(height, device=scores.device)[:, None]
    if image_sizes is None:
        image_sizes = torch.tensor([[width, height]], device=scores.device).expand(len(scores), 2)
    right, bottom = image_sizes[:, 0, None, None], image_sizes[:, 1, None, None]
    within = (x >= border) & (x < right - border) & (y >= border) & (y < bottom - border)
    found = []
    for mask, score in zip(kept[:, 0] & within, scores[:, 0], strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        values = score[rows, columns]
        order = values.argsort(descending=True, stable=True)[:max_keypoints]
        points = torch.stack([columns[order], rows[order]], dim=-1).float()
        found.append(Keypoints(points, values[order]))
    return found


SOFT_RADIUS = 2
"""Pixels around a keypoint that its soft-argmax looks at."""


def refine(logits: Tensor, points: Tensor, refinement: str = "quadratic") -> Tensor:
    """Move keypoints to positions finer than a pixel.

    Args:
        logits: (H, W) float32.
        points: (N, 2) whole pixels x, y, at least one pixel inside.
        refinement: ``quadratic``: the vertex of the quadratic through the 3x3 logits, at most half a pixel away;
            ``soft``: the mean position of the 5x5 pixels, weighted by the softmax of their logits. See
            `samfeat_hloc.model.Architecture`.

    Returns:
        (N, 2) float32.
    """
    radius = 1 if refinement == "quadratic" else SOFT_RADIUS
    image = torch.zeros(len(points), dtype=torch.int64, device=logits.device)
    windows = cut_windows(logits[None], image, points.long(), radius)
    return points + (vertex_offset(windows) if refinement == "quadratic" else soft_offset(windows))


def cut_windows(maps: Tensor, images: Tensor, pixels: Tensor, radius: int) -> Tensor:
    """Values around pixels; a map's border is repeated outside.

    Args:
        maps: (B, H, W).
        images: (N,) which map each pixel is of.
        pixels: (N, 2) int64 x, y.
        radius: of the window.

    Returns:
        (N, 2 radius + 1, 2 radius + 1), rows are y.
    """
    around = torch.arange(-radius, radius + 1, device=maps.device)
    x = (pixels[:, 0, None] + around).clamp(0, maps.shape[2] - 1)
    y = (pixels[:, 1, None] + around).clamp(0, maps.shape[1] - 1)
    return maps[images[:, None, None], y[:, :, None], x[:, None, :]]


def soft_offset(windows: Tensor) -> Tensor:
    """Mean offset x, y from the centre, weighted by the softmax of logits (N, 2 r + 1, 2 r + 1) -> (N, 2)."""
    radius = windows.shape[1] // 2
    around = torch.arange(-radius, radius + 1, device=windows.device, dtype=windows.dtype)
    weights = torch.softmax(windows.flatten(1), dim=1).reshape(windows.shape)
    return torch.stack([(weights.sum(dim=1) * around).sum(dim=1), (weights.sum(dim=2) * around).sum(dim=1)], dim=-1)


def vertex_offset(windows: Tensor) -> Tensor:
    """Offset x, y of the maximum of the quadratic through 3x3 values from their centre, at most half a pixel.

    Args:
        windows: (N, 3, 3), rows are y.

    Returns:
        (N, 2); zero where the quadratic has no maximum.
    """
    centre = windows[:, 1, 1]
    dx, dy = (windows[:, 1, 2] - windows[:, 1, 0]) / 2, (windows[:, 2, 1] - windows[:, 0, 1]) / 2
    dxx = windows[:, 1, 2] + windows[:, 1, 0] - 2 * centre
    dyy = windows[:, 2, 1] + windows[:, 0, 1] - 2 * centre
    dxy = (windows[:, 2, 2] + windows[:, 0, 0] - windows[:, 2, 0] - windows[:, 0, 2]) / 4
    determinant = dxx * dyy - dxy * dxy
    peaked = (determinant > 1e-6) & (dxx < 0)
    safe = torch.where(peaked, determinant, torch.ones_like(determinant))
    shift = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1) / safe[:, None]
    return torch.where(peaked[:, None], shift.clamp(-0.5, 0.5), torch.zeros_like(shift))
