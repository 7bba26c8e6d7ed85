"""What a network under training makes of one pair of its batch, as one picture for TensorBoard."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.images import RGBImage
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import Runtime
from samfeat_hloc.sampling import sample
from training.batch import Batch
from training.panels import stacked
from training.show import draw_row, look

WIDTH = 240
RIGHT, WRONG = (60, 200, 80), (220, 60, 60)
TOLERANCE_PX = 4.0


def batch_picture(model: SAMFeat, batch: Batch, runtime: Runtime) -> RGBImage:
    """Photograph, edges, heat map, attention and keypoints of both crops of the first pair, and below their matches.

    Matches are the mutual nearest neighbours among the correspondences: green at most 4 px off, else red.
    """
    pair = batch.images[:, 0].float()
    crops = [(crop.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8) for crop in pair]
    refinement = model.architecture.refinement
    seen = [look(crop, model, runtime, refinement=refinement) for crop in crops]
    rows = [draw_row(one, title, WIDTH) for one, title in zip(seen, ("first", "second"), strict=True)]
    found, valid = _matches(model, pair, batch.points[:, 0], batch.valid[0], runtime)
    matches = _draw_matches(crops, batch.points[:, 0].cpu().numpy(), found, valid)
    row = np.full((matches.shape[0], rows[0].shape[1], 3), 255, np.uint8)
    row[:, : matches.shape[1]] = matches
    return stacked([*rows, row])


@torch.inference_mode()
def _matches(
    model: SAMFeat, pair: Tensor, points: Tensor, valid: Tensor, runtime: Runtime
) -> tuple[list[tuple[int, int]], list[int]]:
    """Mutual nearest neighbours of the valid points, as indices into them, and which points those are."""
    with runtime.autocast():
        maps = model(runtime.images(pair * 2 - 1))
    size = (pair.shape[-1], pair.shape[-2])
    described = sample(maps.descriptors, points.to(runtime.device), size, model.architecture.sampling)
    which = valid.nonzero().flatten().tolist()
    first, second = F.normalize(described, dim=-1)[:, which]
    similarity = first @ second.T
    if not which:
        return [], which
    forward, backward = similarity.argmax(dim=1).tolist(), similarity.argmax(dim=0).tolist()
    return [(i, j) for i, j in enumerate(forward) if backward[j] == i], which


def _draw_matches(
    crops: list[RGBImage], points: np.ndarray, found: list[tuple[int, int]], which: list[int], zoom: int = 2
) -> RGBImage:
    from PIL import Image, ImageDraw

    both = Image.fromarray(np.concatenate(crops, axis=1))
    canvas = both.resize((both.width * zoom, both.height * zoom))
    draw, shift = ImageDraw.Draw(canvas), crops[0].shape[1]
    for i, j in found:
        (x0, y0), (x1, y1), truth = points[0, which[i]], points[1, which[j]], points[1, which[i]]
        right = np.hypot(x1 - truth[0], y1 - truth[1]) <= TOLERANCE_PX
        ends = [(float(x0) * zoom, float(y0) * zoom), (float(x1 + shift) * zoom, float(y1) * zoom)]
        draw.line(ends, fill=RIGHT if right else WRONG)
    return np.asarray(canvas)
