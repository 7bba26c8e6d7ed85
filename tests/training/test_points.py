"""Which correspondences are drawn: evenly, or at keypoints first, as near to each other as keypoints are."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from tests.training.test_pairs import CLEAN, bank_of, colours_differ_by, draw, photos, scene
from training.batch import Batch
from training.corners import look_up

AT_KEYPOINTS = replace(CLEAN, points_at="keypoints", points=120)


def share_at_keypoints(batch: Batch) -> float:
    """Of the valid points of the first crops."""
    around = F.max_pool2d((batch.keypoints[0] > 0.5).float(), 3, 1, 1)
    return float((look_up(around, batch.points[0])[..., 0] > 0)[batch.valid].float().mean())


def nearest(batch: Batch) -> float:
    """Least distance of two valid points of one first crop, pixels."""
    apart = torch.cdist(batch.points[0], batch.points[0]) + 1e3 * torch.eye(batch.points.shape[2])
    apart = apart.masked_fill(~(batch.valid[:, None] & batch.valid[:, :, None]), 1e3)
    return float(apart.min())


def test_keypoints_come_first_and_lie_close() -> None:
    """Those of a first crop are more than are drawn here, and 70 % of their cells prefer them."""
    evenly, first = (draw(bank_of(photos()), replace(AT_KEYPOINTS, points_at=at)) for at in ("cells", "keypoints"))
    assert share_at_keypoints(first) > share_at_keypoints(evenly) + 0.15
    assert nearest(first) < 6
    assert colours_differ_by(first).median() < 0.02
    assert first.valid.sum(dim=1).min() > 0.8 * AT_KEYPOINTS.points


def test_the_rest_lies_elsewhere() -> None:
    """More points than there are keypoints: none is drawn twice, and all of them are seen in both crops."""
    batch = draw(bank_of(photos()), replace(AT_KEYPOINTS, points=600))
    assert 0 < share_at_keypoints(batch) < 0.7
    assert nearest(batch) >= 1
    assert (batch.valid.sum(dim=1) > 350).all()


def test_points_of_real_pairs() -> None:
    views, points, _ = scene()
    config = replace(AT_KEYPOINTS, synthetic=0.0, size=96, points=60)
    batch = draw(bank_of(views, pairs=[(0, 1)], points=[points]), config)
    assert batch.valid.sum(dim=1).min() > 20
    assert colours_differ_by(batch).median() < 0.03
    evenly = draw(bank_of(views, pairs=[(0, 1)], points=[points]), replace(config, points_at="cells"))
    assert share_at_keypoints(batch) > share_at_keypoints(evenly)
