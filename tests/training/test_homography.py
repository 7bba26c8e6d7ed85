"""Random homographies are what their configuration says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from samfeat_hloc.errors import ConfigError
from training.config import HomographyConfig, TrainingConfig
from training.homography import random_homographies

PLAIN = HomographyConfig(rotation_deg=0.0, scale=1.0, perspective=0.0, translation=0.0)


def test_homographies_keep_orientation() -> None:
    for config in (HomographyConfig(), HomographyConfig(tilt=3.0)):
        matrices = random_homographies(200, 128, config, torch.Generator().manual_seed(0))
        assert (torch.linalg.det(matrices[:, :2, :2]) > 0).all()


def test_tilt_stretches_one_axis_against_the_other_and_keeps_the_area() -> None:
    matrices = random_homographies(500, 128, replace(PLAIN, tilt=2.5), torch.Generator().manual_seed(0))
    stretches = torch.linalg.svdvals(matrices[:, :2, :2])
    ratio = stretches[:, 0] / stretches[:, 1]
    assert torch.allclose(stretches.prod(dim=1), torch.ones(500), atol=1e-3)
    assert 2.3 < float(ratio.max()) <= 2.501
    assert 1 <= float(ratio.min()) < 1.1
    assert abs(float(ratio.log().mean()) - math.log(2.5) / 2) < 0.05


def test_no_tilt_draws_nothing() -> None:
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    first = random_homographies(3, 128, PLAIN, draws[0])
    random_homographies(3, 128, replace(PLAIN, tilt=2.0), draws[1])
    assert float(first.sub(torch.eye(3)).abs().max()) < 1e-4
    assert not torch.equal(torch.rand(1, generator=draws[0]), torch.rand(1, generator=draws[1]))


def test_a_tilt_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"homography\.tilt is 0\.5; expected a stretch of at least 1"):
        TrainingConfig(homography=HomographyConfig(tilt=0.5))
