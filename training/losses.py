"""Losses, one function each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KEYPOINT_WEIGHT = 200.0


def detector_loss(logits: Tensor, keypoints: Tensor, seen: Tensor) -> Tensor:
    """Weighted cross-entropy of the keypoint map (paper eq. 1; masked mean as in the released implementation).

    Args:
        logits: (B, 1, H, W) float32.
        keypoints: (B, 1, H, W) in [0, 1].
        seen: (B, 1, H, W) bool, pixels that count.
    """
    positive = KEYPOINT_WEIGHT * keypoints * F.logsigmoid(logits)
    negative = (1 - keypoints) * F.logsigmoid(-logits)
    per_image = -((positive + negative) * seen).sum(dim=(1, 2, 3)) / (seen.sum(dim=(1, 2, 3)) + 1)
    return per_image.mean()


def attention_weights(attention: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Softmax of the attention over the valid points of each image (weights of eq. 6) -> (B, N), rows sum to 1."""
    scores = (attention / temperature).masked_fill(~valid, float("-inf"))
    return torch.softmax(scores, dim=1).nan_to_num(0.0)


def dual_softmax_loss(
    descriptors: Tensor, attention: Tensor, points: Tensor, valid: Tensor,
    temperature: float, safe_radius: float, attention_temperature: float,
) -> Tensor:  # fmt: skip
    """Symmetric cross-entropy of matching each point among all points of the batch, attention-weighted as in eq. 6.

    Negatives come from every pair of the batch; points within ``safe_radius`` of the true match are left out.

    Args:
        descriptors: (2, B, N, D) unit length, float32.
        attention: (2, B, N) >= 0.
        points: (2, B, N, 2) pixels.
        valid: (B, N) bool.
        temperature: of the softmax over cosine similarities.
        safe_radius: pixels.
        attention_temperature: T of eq. 6.
    """
    pairs, count = valid.shape
    if not valid.any():
        return descriptors.sum() * 0
    similarity = descriptors[0].flatten(0, 1) @ descriptors[1].flatten(0, 1).T / temperature
    closeness = torch.stack([torch.cdist(side, side) for side in points]).amin(dim=0) < safe_radius
    closeness = closeness & ~torch.eye(count, dtype=torch.bool, device=valid.device)
    ignored = torch.block_diag(*closeness.unbind(0)) if pairs > 1 else closeness[0]
    unusable = ~valid.flatten()
    similarity = similarity.masked_fill(ignored | unusable[None] | unusable[:, None], -1e4)
    target = torch.arange(pairs * count, device=valid.device)
    forward = F.cross_entropy(similarity, target, reduction="none").reshape(pairs, count)
    backward = F.cross_entropy(similarity.T, target, reduction="none").reshape(pairs, count)
    weighted = (
        forward * attention_weights(attention[0], valid, attention_temperature)
        + backward * attention_weights(attention[1], valid, attention_temperature)
    ) / 2
    return weighted.sum(dim=1).mean()
