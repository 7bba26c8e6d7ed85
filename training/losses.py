"""The paper's losses, one function each, in the paper's form, the release's, and ours where both are wrong.

Shapes: B images or pairs, N points, D descriptor channels, C teacher channels, h x w cells of a map. An image without
a teacher row has no valid cell or point; it adds nothing, and a batch of such images gives 0. Everything is float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from samfeat_hloc.errors import InputError
from samfeat_hloc.keypoints import SOFT_RADIUS, cut_windows, soft_offset, vertex_offset

KEYPOINT_WEIGHT = 200.0
"""Lambda of eq. 1."""
FAR = 10.0
"""Added by the release to a distance that must not be the smallest."""
MAX_KEYPOINTS = 1024
"""Of an image, whose positions are looked at."""
MAX_RELATIONS = 1 << 26
"""Entries of the relation matrix held at once: it has the fourth power of the image's side."""


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


def position_loss(logits: Tensor, keypoints: Tensor, seen: Tensor) -> Tensor:
    """Distance in pixels between where keypoints are and where the soft-argmax of the logits around them says. Ours.

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
    """Chance that each point's descriptor finds its match in the other image, both ways; no gradient. Ours.

    Args:
        descriptors: (2, B, N, D) unit length.
        valid: (B, N) bool.
        not_search: (B, N, N) bool, as for `triplet_loss`.
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
    """Of two keypoints of an image, the one more likely to be matched should have the higher score. Ours.

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


def attention_weights(attention: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Softmax of the attention (B, N) over the valid points of each image (eq. 6) -> (B, N), rows sum to 1 or 0."""
    scores = (attention / temperature).masked_fill(~valid, float("-inf"))
    return torch.softmax(scores, dim=1).nan_to_num(0.0)


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


def relation_loss(
    student: Tensor, teacher: Tensor, attention: Tensor, valid: Tensor,
    weighted: bool = True, max_relations: int = MAX_RELATIONS,
) -> Tensor:  # fmt: skip
    """Distillation of the relations between the cells of an image, which are cosines (ASRD, eqs. 7 and 8).

    The weight of a relation is exp(a_i * a_j), as in the paper; the largest exponent is subtracted first. In the
    release the attention multiplies the features instead, where the cosine cancels it: that is this loss with
    ``weighted=False``. Rows of the matrix are taken in chunks, and computed again for the gradient, when it has more
    entries than allowed.

    Args:
        student: (B, Cs, h, w).
        teacher: (B, C, h, w).
        attention: (B, 1, h, w) >= 0.
        valid: (B, 1, h, w) bool, cells with a teacher.
        weighted: whether the attention weighs the relations.
        max_relations: entries held at once.
    """
    mine = F.normalize(student.flatten(2), dim=1, eps=1e-7)
    theirs = F.normalize(teacher.flatten(2), dim=1, eps=1e-7)
    cells = valid.flatten(1).float()
    looks = attention.flatten(1) if weighted else torch.zeros_like(cells)
    largest = (looks * cells).amax(dim=1).square()[:, None, None]  # of a_i * a_j, since no attention is negative

    def sums(rows: slice) -> tuple[Tensor, Tensor]:
        difference = mine[:, :, rows].transpose(1, 2) @ mine - theirs[:, :, rows].transpose(1, 2) @ theirs
        weights = torch.exp(torch.minimum(looks[:, rows, None] * looks[:, None], largest) - largest)
        weights = weights * cells[:, rows, None] * cells[:, None]
        return (difference.abs() * weights).sum(dim=(1, 2)), weights.sum(dim=(1, 2))

    batch, count = cells.shape
    step = max(1, max_relations // (batch * count))
    chunks = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    whole = len(chunks) == 1
    parts = [sums(rows) if whole else checkpoint(sums, rows, use_reentrant=False) for rows in chunks]
    numerator = torch.stack([part[0] for part in parts]).sum(dim=0)
    denominator = torch.stack([part[1] for part in parts]).sum(dim=0)
    return _mean_over(numerator / denominator.clamp(min=1e-12), cells.any(dim=1))


def released_relation_loss(student: Tensor, teacher: Tensor, attention: Tensor, valid: Tensor) -> Tensor:
    """ASRD as released: both maps are multiplied by the attention before the cosine, which cancels it.

    Arguments as for `relation_loss`. Kept to show the fact; equal to `relation_loss` with ``weighted=False``.
    """
    return relation_loss(student * attention, teacher * attention, attention, valid, weighted=False)


def feature_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Direct distillation of the features (DSFD of Table V): mean squared distance of the unit-length cells.

    The paper does not say which distance.

    Args:
        student: (B, C, h, w).
        teacher: (B, C, h, w).
        valid: (B, 1, h, w) bool.

    Raises:
        InputError: the two have different channels, as when the teacher's were reduced by `training.pack`.
    """
    if student.shape[1] != teacher.shape[1]:
        raise InputError(
            f"direct feature distillation needs the teacher's {student.shape[1]} channels, this pack has "
            f"{teacher.shape[1]}; pack with all channels, or use relations"
        )
    apart = (F.normalize(student, dim=1) - F.normalize(teacher, dim=1)).square().sum(dim=1, keepdim=True)
    per_image = (apart * valid).sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)
    return _mean_over(per_image, valid.flatten(1).any(dim=1))


def grouping_loss(descriptors: Tensor, groups: Tensor, near: Tensor, temperature: float, margin: float) -> Tensor:
    """Contrast of semantic groupings (WSC, eqs. 9 to 11) as InfoNCE over the points of each image, properly masked.

    Ours: each point's positives are the other points of its group, at a distance of at least the margin; its negatives
    the points of other groups that are not near. Entries that are neither do not enter the sums.

    Args:
        descriptors: (B, N, D) attention-weighted, of one image.
        groups: (B, N) int64, < 0 without a group.
        near: (B, N, N) bool: too close to be called a negative.
        temperature: T of eq. 11.
        margin: M of eq. 11.
    """
    positive, negative = _relations_of_groups(groups)
    negative = negative & ~near
    apart = distances(descriptors, descriptors)
    to_positive = _log_sum_exp(-apart.clamp(min=margin) / temperature, positive)
    to_negative = _log_sum_exp(-apart / temperature, negative)
    losses = F.softplus(to_negative - to_positive)  # -log(p / (p + n))
    rows = positive.any(dim=2) & negative.any(dim=2)
    return torch.where(rows, losses, torch.zeros_like(losses)).sum() / rows.sum().clamp(min=1)


def average_grouping_loss(
    descriptors: Tensor, groups: Tensor, near: Tensor, temperature: float, margin: float
) -> Tensor:
    """WSC as the paper writes it: mean distance within groups against mean distance between them (eqs. 9 to 11).

    Eq. 11 has a bracket and a sign out of place; read as -log(e^(-p/T) / (e^(-p/T) + e^(-n/T))), with p = max(Dpos, M)
    and n = Dneg. Arguments as for `grouping_loss`; ``near`` is not used.
    """
    positive, negative = _relations_of_groups(groups)
    apart = distances(descriptors, descriptors)

    def mean(mask: Tensor) -> Tensor:
        return (apart * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp(min=1)

    losses = F.softplus((mean(positive).clamp(min=margin) - mean(negative)) / temperature)
    return _mean_over(losses, positive.flatten(1).any(dim=1) & negative.flatten(1).any(dim=1))


def released_grouping_loss(
    descriptors: Tensor, groups: Tensor, near: Tensor, temperature: float, margin: float
) -> Tensor:
    """WSC as released: entries that are masked out are 0, so that each adds exp(0) = 1 to both sums.

    A point is its own positive, and points that are near have `FAR` added to their distance. Arguments as for
    `grouping_loss`; the loss shrinks towards log 2 as more entries are masked. Kept to be measured.
    """
    known = groups >= 0
    both = known[:, :, None] & known[:, None]
    same = groups[:, :, None] == groups[:, None]
    itself = torch.eye(groups.shape[1], dtype=torch.bool, device=groups.device)
    apart = distances(descriptors, descriptors) + FAR * (near | itself)
    positive = (same & both).float()
    negative = (~same & both).float()
    pulled = torch.exp(-torch.maximum(margin * positive, apart * positive) / temperature).sum(dim=2)
    pushed = torch.exp(-apart * negative / temperature).sum(dim=2)
    return -torch.log(pulled / (pulled + pushed)).mean()


def edge_loss(predicted: Tensor, target: Tensor, valid: Tensor, squared: bool) -> Tensor:
    """Difference of the edge maps: L1 (eq. 12, as a mean) or squared (the release).

    Args:
        predicted, target: (B, 1, h, w) in [0, 1].
        valid: (B, 1, h, w) bool.
        squared: MSE instead of L1.
    """
    difference = (predicted - target).square() if squared else (predicted - target).abs()
    per_image = (difference * valid).sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)
    return _mean_over(per_image, valid.flatten(1).any(dim=1))


def _mean_over(values: Tensor, images: Tensor) -> Tensor:
    """Mean of values (B,) over the images (B,) that count; 0, with a gradient, when none does."""
    return torch.where(images, values, torch.zeros_like(values)).sum() / images.sum().clamp(min=1)


def _relations_of_groups(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Which points (B, N, N) are others of the same group, and which of another."""
    known = groups >= 0
    both = known[:, :, None] & known[:, None]
    same = groups[:, :, None] == groups[:, None]
    itself = torch.eye(groups.shape[1], dtype=torch.bool, device=groups.device)
    return same & both & ~itself, ~same & both


def _log_sum_exp(values: Tensor, mask: Tensor) -> Tensor:
    """log of the sum of exp over the masked entries of each row; very small, not -inf, where there is none."""
    lowest = math.log(torch.finfo(values.dtype).tiny)
    return torch.logsumexp(values.masked_fill(~mask, lowest), dim=2)
