"""What a teacher's maps teach: relations, groups, edges. The paper's form, the release's, ours where both are wrong.

Shapes: B images, N points, D descriptor channels, C teacher channels, h x w cells of a map. An image without a teacher
row has no valid cell or point; it adds nothing, and a batch of such images gives 0. Everything is float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from samfeat_hloc.errors import InputError
from training.losses import FAR, distances

MAX_RELATIONS = 1 << 26
"""Entries of the relation matrix held at once: it has the fourth power of the image's side."""


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
