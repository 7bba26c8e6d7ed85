"""Photometric change: in range, drawn from the generator alone, and what lighting each surface by itself does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from samfeat_hloc.errors import ConfigError
from training.config import PhotometricConfig
from training.photometric import Photometric


def two_walls(count: int) -> Tensor:
    """(count, 3, 64, 64): a dark wall on the left, a bright one on the right."""
    images = torch.full((count, 3, 64, 64), 0.45)
    images[..., 32:] = 0.55
    return images


def relit(images: Tensor, seed: int = 0) -> Tensor:
    return Photometric(PhotometricConfig(1.0, 0.0, 1.0), torch.Generator().manual_seed(seed))._relight(images)


def test_photometric_stays_in_range_and_strength_zero_changes_nothing() -> None:
    images = torch.rand(8, 3, 48, 48)
    changed = Photometric(PhotometricConfig(1.0, 0.5), torch.Generator().manual_seed(0))(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed, images)
    same = Photometric(PhotometricConfig(0.0, 0.0), torch.Generator().manual_seed(0))(images)
    assert torch.equal(same, images)


def test_surfaces_are_lit_by_themselves() -> None:
    """What is dark may become the brighter one, which no curve over the whole image can do; a wall stays one wall."""
    changed = relit(two_walls(40))
    assert changed.min() >= 0 and changed.max() <= 1
    walls = torch.stack([changed[..., 4:28].mean((1, 2, 3)), changed[..., 36:60].mean((1, 2, 3))])
    inverted = (walls[0] > walls[1]).float().mean()
    assert 0.1 < inverted < 0.6
    edge = (changed[..., 31] - changed[..., 32]).abs().mean()
    inside = (changed[..., 8:24].diff(dim=-1)).abs().mean()
    assert edge > 10 * inside


def test_the_generator_alone_decides() -> None:
    images = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    assert relit(images).shape == images.shape
    assert torch.equal(relit(images), relit(images))
    assert not torch.equal(relit(images), relit(images, seed=1))


def test_relight_and_defocus_off_leave_the_stream_of_draws_as_it_was() -> None:
    """Runs that were made before it existed can be made again."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    first = Photometric(PhotometricConfig(1.0, 0.3), generators[0])(images)
    second = Photometric(PhotometricConfig(1.0, 0.3, 0.0, 0.0), generators[1])(images)
    assert torch.equal(first, second)
    always = Photometric(PhotometricConfig(1.0, 0.3, 1.0), torch.Generator().manual_seed(0))(images)
    assert not torch.equal(first, always)


def test_defocus_leaves_only_what_is_coarse() -> None:
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    each = Photometric(PhotometricConfig(), torch.Generator().manual_seed(0))._defocus(images[:1].repeat(40, 1, 1, 1))
    left = each.std(dim=(1, 2, 3))
    assert left.max() > 2 * left.min()  # some are blurred far more than others
    coarse = torch.zeros(4, 3, 64, 64)
    coarse[..., 32:] = 1
    blurred = Photometric(PhotometricConfig(), torch.Generator().manual_seed(0))._defocus(images)
    assert (blurred.std(dim=(1, 2, 3)) < 0.25 * images.std(dim=(1, 2, 3))).all()
    assert blurred.mean() == pytest.approx(float(images.mean()), abs=0.01)
    kept = Photometric(PhotometricConfig(), torch.Generator().manual_seed(0))._defocus(coarse)
    assert (kept.std(dim=(1, 2, 3)) > 0.8 * coarse.std(dim=(1, 2, 3))).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"defocus": 2.0}, r"photometric.defocus is 2.0; expected a share"),
        ({"night": -0.1}, r"photometric.night is -0.1"),
        ({"relight": 1.01}, r"photometric.relight"),
        ({"strength": -1.0}, r"photometric.strength is -1.0; expected 0 or more"),
    ],
)
def test_bad_values_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PhotometricConfig(**values)


def test_the_share_of_crops_out_of_focus() -> None:
    images = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    still = PhotometricConfig(1e-6, 0.0)  # noise and colour of no size
    plain, some = (
        Photometric(replace(still, defocus=share), torch.Generator().manual_seed(0))(images).std(dim=(1, 2, 3))
        for share in (0.0, 0.3)
    )
    assert 8 <= int((some < 0.3 * plain).sum()) <= 28
