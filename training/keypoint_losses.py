"""Losses of ours on the keypoints that the detector finds: where they lie, and which come first.

Shapes: B images or pairs, N points, D descriptor channels. Everything is float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.keypoints import SOFT_RADIUS, cut_windows, soft_offset, vertex_offset

MAX_KEYPOINTS = 1024
"""Of an image, whose positions are looked at."""


def position_loss(logits: Tensor, keypoints: Tensor, seen: Tensor) -> Tensor:
    """Distance in pixels between where keypoints are and where the soft-argmax of the logits around them says.

    A target is a bell around a position finer than a pixel, which the quadratic through its logarithm gives back.

    Args:
        logits: (B, 1, H, W).
        keypoints: (B, 1, H, W), bells (`training.corners.target_map`).
        seen: (B, 1, H, W) bool, pixels that count.
    """
    peaks = (keypoints == F.max_pool2d(keypoints, 3, stride=1, padding=1)) & (keypoints > 0.5) & seen
    count, width = min(MAX_KEYPOINTS, keypoints[0].numel()), keypoints.shape[3]
    height, place = (keypoints * peaks).flatten(1).topk(count, dim=1)
    pixels = torch.stack([place % width, place // width], dim=-1).flatten(0, 1)
    images = torch.arange(len(keypoints), device=logits.device).repeat_interleave(count)
    truth = vertex_offset(cut_windows(keypoints[:, 0], images, pixels, 1).clamp(min=1e-6).log())
    found = soft_offset(cut_windows(logits[:, 0], images, pixels, SOFT_RADIUS))
    real = (height > 0).flatten()
    return ((found - truth).square().sum(dim=1).clamp(min=1e-12).sqrt() * real).sum() / real.sum().clamp(min=1)


def match_probability(descriptors: Tensor, valid: Tensor, not_search: Tensor, temperature: float) -> Tensor:
    """Chance that each point's descriptor finds its match in the other image, both ways; no gradient.

    Args:
        descriptors: (2, B, N, D) unit length.
        valid: (B, N) bool.
        not_search: (B, N, N) bool, as for `training.losses.triplet_loss`.
        temperature: of the softmax over cosine similarities.

    Returns:
        (B, N) in [0, 1]; 0 where not valid.
    """
    with torch.no_grad():
        same = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
        ignored = (not_search & ~same) | ~valid[:, None] | ~valid[:, :, None]
        similarity = (descriptors[0] @ descriptors[1].transpose(1, 2) / temperature).masked_fill(ignored, -1e4)
        both = similarity.softmax(dim=2) * similarity.softmax(dim=1)
        return both.diagonal(dim1=1, dim2=2) * valid


def ranking_loss(logits: Tensor, chance: Tensor, usable: Tensor) -> Tensor:
    """Of two keypoints of an image, the one more likely to be matched should have the higher score.

    A logistic loss over all pairs of keypoints, weighted by the difference of the chances, so that only the order of
    the scores is taught and not their level, which is the detector loss's.

    Args:
        logits: (B, N) of keypoints.
        chance: (B, N) in [0, 1] of being matched.
        usable: (B, N) bool.
    """
    more = (chance[:, :, None] - chance[:, None]).clamp(min=0) * (usable[:, :, None] & usable[:, None])
    losses = F.softplus(logits[:, None] - logits[:, :, None]) * more
    return losses.sum() / more.sum().clamp(min=1e-6)
