"""The detector's and the descriptor's losses, one function each, in the paper's form, the release's, and ours.

Shapes: B images or pairs, N points, D descriptor channels. An image without a valid point adds nothing, and a batch of
such images gives 0. Everything is float32. What a teacher adds is in `training.teacher_losses`, what makes keypoints
finer and better ordered in `training.keypoint_losses`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KEYPOINT_WEIGHT = 200.0
"""Lambda of eq. 1."""
FAR = 10.0
"""Added by the release to a distance that must not be the smallest."""


def detector_loss(logits: Tensor, keypoints: Tensor, seen: Tensor) -> Tensor:
    """Weighted cross-entropy of one keypoint map (eqs. 1 and 2; masked mean as in the released implementation).

    Args:
        logits: (B, 1, H, W).
        keypoints: (B, 1, H, W) in [0, 1].
        seen: (B, 1, H, W) bool, pixels that count.
    """
    positive = KEYPOINT_WEIGHT * keypoints * F.logsigmoid(logits)
    negative = (1 - keypoints) * F.logsigmoid(-logits)
    per_image = -((positive + negative) * seen).sum(dim=(1, 2, 3)) / (seen.sum(dim=(1, 2, 3)) + 1)
    return per_image.mean()


def every_scale_detector_loss(logits: Tensor, scales: Tensor, keypoints: Tensor, seen: Tensor) -> Tensor:
    """The fused map and each scale's own map supervised alike, their mean (paper, "deep supervision" of eq. 2).

    Args:
        logits: (B, 1, H, W), fused.
        scales: (B, 4, H, W), each scale's logits at full size.
        keypoints, seen: as for `detector_loss`.
    """
    maps = [logits, *scales.split(1, dim=1)]
    return torch.stack([detector_loss(one, keypoints, seen) for one in maps]).mean()


def distillation_loss(logits: Tensor, scores: Tensor, seen: Tensor) -> Tensor:
    """Cross-entropy of a keypoint map against another detector's scores beyond their own entropy, all pixels alike.

    Args:
        logits: (B, 1, H, W).
        scores: (B, 1, H, W) in [0, 1], of the other detector.
        seen: (B, 1, H, W) bool, pixels that count.
    """
    scores = scores.clamp(1e-6, 1 - 1e-6)
    least = scores * scores.log() + (1 - scores) * (1 - scores).log()
    cross = scores * F.logsigmoid(logits) + (1 - scores) * F.logsigmoid(-logits)
    return (((least - cross) * seen).sum(dim=(1, 2, 3)) / (seen.sum(dim=(1, 2, 3)) + 1)).mean()


def imitation_loss(descriptors: Tensor, described: Tensor, valid: Tensor) -> Tensor:
    """How far descriptors are from another network's of the same points: the mean of 1 - cosine. Ours.

    It is linear in the other's, so that what is given one at a time is learned as the average.

    Args:
        descriptors: (2, B, N, D) unit length.
        described: (2, B, N, D) unit length, or 0 where the other says nothing.
        valid: (B, N) bool.
    """
    known = valid & (described.square().sum(dim=-1) > 0.5)
    return ((1 - (descriptors * described).sum(dim=-1)) * known).sum() / known.sum().clamp(min=1)


def attention_weights(attention: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Softmax of the attention (B, N) over the valid points of each image (eq. 6) -> (B, N), rows sum to 1 or 0."""
    scores = (attention / temperature).masked_fill(~valid, float("-inf"))
    return torch.softmax(scores, dim=1).nan_to_num(0.0)


def share_used(weights: Tensor, valid: Tensor) -> Tensor:
    """Share of the valid points (B, N) that weights (B, N) really use: exp(entropy) points of each image; a scalar.

    1 where all weigh alike; small where a few have all the weight, and little is learned from the others. No gradient.
    """
    with torch.no_grad():
        entropy = -(weights * weights.clamp(min=1e-30).log()).sum(dim=1)
        count = valid.sum(dim=1)
        return (entropy.exp() * (count > 0)).sum() / count.sum().clamp(min=1)


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (B, N, D), (B, M, D) -> (B, N, M), their square not below 1e-5, as released."""
    squares = first.square().sum(-1)[:, :, None] + second.square().sum(-1)[:, None] - 2 * first @ second.transpose(1, 2)
    return squares.clamp(min=1e-5).sqrt()


def triplet_loss(
    descriptors: Tensor, attention: Tensor, valid: Tensor, not_search: Tensor, temperature: float, margin: float = 1.0
) -> Tensor:
    """Attention-weighted triplet loss with the hardest negative of each point (eqs. 4 to 6).

    One direction and the first image's weights, with the gradient through them, as released.

    Args:
        descriptors: (2, B, N, D) unit length.
        attention: (2, B, N) >= 0.
        valid: (B, N) bool.
        not_search: (B, N, N) bool: j must not be the negative of i. The true match always must not.
        temperature: T of eq. 6; 15 in the paper, 14 in the release.
        margin: 1 in eq. 6.
    """
    weighted = descriptors * attention[..., None]
    apart = distances(weighted[0], weighted[1])
    positive = apart.diagonal(dim1=1, dim2=2)
    same = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    negative = (apart + FAR * (not_search | same | ~valid[:, None])).amin(dim=2)
    losses = F.relu(margin + positive - negative)
    return (losses * attention_weights(attention[0], valid, temperature)).sum(dim=1).mean()


def dual_softmax_loss(
    descriptors: Tensor, attention: Tensor, valid: Tensor, not_search: Tensor,
    temperature: float, attention_temperature: float,
) -> Tensor:  # fmt: skip
    """Symmetric cross-entropy of matching each point among all points of the batch, attention-weighted as in eq. 6.

    Ours. Negatives come from every pair of the batch.

    Args:
        descriptors: (2, B, N, D) unit length.
        attention: (2, B, N) >= 0.
        valid: (B, N) bool.
        not_search: (B, N, N) bool, as for `triplet_loss`.
        temperature: of the softmax over cosine similarities.
        attention_temperature: T of eq. 6.
    """
    pairs, count = valid.shape
    similarity = descriptors[0].flatten(0, 1) @ descriptors[1].flatten(0, 1).T / temperature
    near = not_search & ~torch.eye(count, dtype=torch.bool, device=valid.device)
    ignored = torch.block_diag(*near.unbind(0)) if pairs > 1 else near[0]
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
