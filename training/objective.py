"""The total loss (eq. 14) of a batch, in the forms a configuration picks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.model import Maps
from samfeat_hloc.sampling import sample
from training.batch import Batch
from training.config import LossConfig
from training.corners import look_up
from training.keypoint_losses import match_probability, position_loss, ranking_loss
from training.losses import (
    attention_weights,
    detector_loss,
    distillation_loss,
    dual_softmax_loss,
    every_scale_detector_loss,
    imitation_loss,
    share_used,
    triplet_loss,
)
from training.teacher_losses import (
    average_grouping_loss,
    edge_loss,
    feature_loss,
    grouping_loss,
    relation_loss,
    released_grouping_loss,
    released_relation_loss,
)

KEYPOINT = 0.5
"""A target at least as high is a keypoint's."""

GROUPING: dict[str, Callable[[Tensor, Tensor, Tensor, float, float], Tensor]] = {
    "masked": grouping_loss,
    "paper": average_grouping_loss,
    "released": released_grouping_loss,
}


def losses(maps: Maps, batch: Batch, config: LossConfig, sampling: str) -> dict[str, Tensor]:
    """Each loss that is on, by name, and ``loss``, their weighted sum; ``points_used`` is `share_used`, and no loss.

    Args:
        maps: of the 2B crops, those of the first crops before those of the second.
        batch: the pairs.
        config: which form of each loss.
        sampling: how pixels address the descriptor map, see `samfeat_hloc.model.Architecture`.
    """
    maps = Maps(*(part if part is None else part.float() for part in maps))  # type: ignore[arg-type]
    size = (batch.images.shape[-1], batch.images.shape[-2])
    points = batch.points.flatten(0, 1)
    descriptors = F.normalize(sample(maps.descriptors, points, size, sampling), dim=-1).unflatten(0, (2, -1))
    attention = sample(maps.attention, points, size, sampling)[..., 0].unflatten(0, (2, -1))
    looks = maps.attention.detach() if config.attention == "held" else maps.attention
    parts = {
        "detector": (_detector(maps, batch, config), config.detector_weight),
        "descriptor": (_descriptor(descriptors, attention, batch, config), config.descriptor_weight),
    }
    if config.imitation != "off":
        parts["imitation"] = (imitation_loss(descriptors, batch.described, batch.valid), config.imitation_weight)
    if config.relations != "off":
        parts["relations"] = (_relations(maps, looks, batch, config), config.relations_weight)
    if config.groups != "off":
        seen_by = sample(looks, points, size, sampling)
        weighted = descriptors.flatten(0, 1) * seen_by
        parts["groups"] = (_groups(weighted, batch, config), config.groups_weight)
    if config.edges != "off":
        target, seen = batch.edges.flatten(0, 1), batch.edges_seen.flatten(0, 1)
        parts["edges"] = (edge_loss(maps.edges, target, seen, config.edges == "squared"), config.edges_weight)
    if config.positions != "off":
        found = position_loss(maps.logits, batch.keypoints.flatten(0, 1), batch.seen.flatten(0, 1))
        parts["positions"] = (found, config.positions_weight)
    if config.ranking != "off":
        parts["ranking"] = (_ranking(maps, descriptors, batch, config), config.ranking_weight)
    total = torch.stack([loss * weight for loss, weight in parts.values()]).sum()
    report = {"loss": total, **{name: loss for name, (loss, _) in parts.items()}}
    if config.points == "attention":
        weights = attention_weights(attention.flatten(0, 1), batch.valid.repeat(2, 1), config.attention_temperature)
        report["points_used"] = share_used(weights, batch.valid.repeat(2, 1))
    return report


def _detector(maps: Maps, batch: Batch, config: LossConfig) -> Tensor:
    keypoints, seen = batch.keypoints.flatten(0, 1), batch.seen.flatten(0, 1)
    if config.detector == "distilled":
        return distillation_loss(maps.logits, keypoints, seen)
    if config.detector == "every-scale" and maps.scales is not None:
        return every_scale_detector_loss(maps.logits, maps.scales, keypoints, seen)
    return detector_loss(maps.logits, keypoints, seen)


def _descriptor(descriptors: Tensor, attention: Tensor, batch: Batch, config: LossConfig) -> Tensor:
    if config.points == "even":
        attention = torch.ones_like(attention)
    shared = (descriptors, attention, batch.valid, batch.not_search)
    if config.descriptor == "triplet":
        return triplet_loss(*shared, config.attention_temperature, config.margin)
    return dual_softmax_loss(*shared, config.temperature, config.attention_temperature)


def _relations(maps: Maps, attention: Tensor, batch: Batch, config: LossConfig) -> Tensor:
    teacher, seen = batch.embedding.flatten(0, 1), batch.embedding_seen.flatten(0, 1)
    if config.relations == "features":
        return feature_loss(maps.student, teacher, seen)
    attention = F.avg_pool2d(attention, 2)  # bilinear to half the size
    if config.relations == "released":
        return released_relation_loss(maps.student, teacher, attention, seen)
    return relation_loss(maps.student, teacher, attention, seen, weighted=config.relations == "paper")


def _groups(weighted: Tensor, batch: Batch, config: LossConfig) -> Tensor:
    """WSC of the points of every crop, left and right alike; what is uncovered (0) is a group in the release only."""
    groups = batch.groups.flatten(0, 1)
    if config.groups != "released":
        groups = groups.masked_fill(groups == 0, -1)
    not_search = batch.not_search.repeat(2, 1, 1)
    return GROUPING[config.groups](weighted, groups, not_search, config.groups_temperature, config.groups_margin)


def _ranking(maps: Maps, descriptors: Tensor, batch: Batch, config: LossConfig) -> Tensor:
    """Of the points that are keypoints in both crops, on both crops' scores."""
    chance = match_probability(descriptors, batch.valid, batch.not_search, config.temperature)
    keypoints = look_up(F.max_pool2d(batch.keypoints.flatten(0, 1), 3, 1, 1), batch.points.flatten(0, 1))[..., 0]
    usable = (keypoints > KEYPOINT).unflatten(0, (2, -1)).all(dim=0) & batch.valid
    scores = look_up(F.max_pool2d(maps.logits, 3, 1, 1), batch.points.flatten(0, 1))[..., 0]
    return ranking_loss(scores, chance.repeat(2, 1), usable.repeat(2, 1))
