"""Keypoint logits seen mirrored and in other sizes: back at their pixels, averaged, and in the extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.extract_features import main as extract_features
from samfeat_hloc.extractors import get_conf, get_extractor
from samfeat_hloc.extractors.samfeat import SAMFeatConf, SAMFeatExtractor
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.looks import LOOKS, Look, mean_logits, show
from tests.looking import logits_through
from tests.training.photographs import smooth_photo

close = torch.testing.assert_close


def photo(height: int = 96, width: int = 128) -> Tensor:
    image = torch.from_numpy(smooth_photo(5, height, width).copy()).permute(2, 0, 1).float()
    return (image / image.max())[None]


def brightness(images: Tensor) -> Tensor:
    """A detector to which mirrors and sizes do not matter."""
    return images.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("left_right", [False, True])
def test_logits_come_back_to_the_pixels_they_are_of(upside_down: bool, left_right: bool) -> None:
    images = photo()
    mirrored = logits_through(brightness, images, Look(left_right, upside_down))
    close(mirrored, brightness(images))
    for scale in (0.75, 1.3):
        resized = logits_through(brightness, images, Look(left_right, upside_down, scale))
        inner = (resized - brightness(images))[..., 8:-8, 8:-8].abs()
        moved = (brightness(images).roll(1, dims=3) - brightness(images))[..., 8:-8, 8:-8].abs()
        assert resized.shape == brightness(images).shape
        assert inner.mean() < 0.25 * moved.mean()  # far less than a pixel


def test_the_network_sees_what_the_look_says() -> None:
    shown: list[Tensor] = []

    def network(images: Tensor) -> Tensor:
        shown.append(images)
        return brightness(images)

    images = photo(128, 192)
    logits_through(network, images, Look(upside_down=True))
    logits_through(network, images, Look(left_right=True))
    logits_through(network, images, Look(scale=0.75))
    logits_through(network, images, Look(scale=1.3))
    close(shown[0], images.flip(2))
    close(shown[1], images.flip(3))
    assert [tuple(one.shape[2:]) for one in shown] == [(128, 192), (128, 192), (96, 144), (168, 248)]


def test_the_mean_is_of_probabilities() -> None:
    each = [torch.logit(torch.tensor([[[[0.2, 0.5]]]])), torch.logit(torch.tensor([[[[0.8, 0.9]]]]))]
    close(mean_logits(each), torch.logit(torch.tensor([[[[0.5, 0.7]]]])))
    close(mean_logits([torch.full((1, 1, 1, 1), 60.0)] * 3), torch.full((1, 1, 1, 1), 60.0))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_keypoint_logits_are_those_of_the_whole_network(precision: str) -> None:
    network = SAMFeatExtractor(load_weights(None), SAMFeatConf(device="cpu", precision=precision)).network  # type: ignore[arg-type]
    images = (photo() * 2 - 1).to(getattr(torch, precision))
    assert torch.equal(network.keypoint_logits(images), network(images).logits)


def extractor(looks: int, subpixel: bool = True) -> SAMFeatExtractor:
    conf = SAMFeatConf(
        device="cpu", precision="float32", looks=looks, threshold=0.3, max_keypoints=300, subpixel=subpixel
    )
    return SAMFeatExtractor(load_weights(None), conf)


def test_the_extractor_finds_keypoints_in_the_mean() -> None:
    """Scores are the mean's at the keypoints, and descriptors the mean of those of the looks that mirror nothing."""
    images = photo(90, 125)  # no multiple of the strides
    whole = extractor(len(LOOKS), subpixel=False)
    found = whole(images)[0]
    padded = torch.nn.functional.pad(images, (0, 3, 0, 6), mode="replicate") * 2 - 1

    def logits(shown: Tensor) -> Tensor:
        return whole.network(shown).logits

    with torch.inference_mode():
        mean = torch.stack([logits_through(logits, padded, look).sigmoid() for look in LOOKS]).mean(dim=0)
        described = torch.zeros_like(found.descriptors)
        for look in (LOOKS[0], *LOOKS[3:]):
            maps = whole.network(show(padded, look))
            width, height = maps.logits.shape[3], maps.logits.shape[2]
            there = (found.keypoints + 0.5) * torch.tensor([width / 128, height / 96]) - 0.5
            described += torch.nn.functional.normalize(whole.network.describe(maps, 0, there, (width, height)), dim=-1)
    assert found.n > 20
    columns, rows = found.keypoints.long().unbind(dim=1)
    close(mean[0, 0, rows, columns], found.scores, atol=1e-4, rtol=0)
    assert float(found.scores[0]) == pytest.approx(
        float(mean[0, 0, 4:-10, 4:-7].max()), abs=1e-4
    )  # and its best is one
    close(found.descriptors, torch.nn.functional.normalize(described, dim=-1), atol=1e-4, rtol=0)
    assert [look.mirrored for look in LOOKS] == [False, True, True, False, False]
    once = extractor(1, subpixel=False)(images)[0]
    assert (once.scores[:20] - found.scores[:20]).abs().max() > 0.01


def test_mirrored_photographs_have_mirrored_keypoints() -> None:
    """With the looks upright and left-right alone, keypoints cannot depend on which is given."""
    images = photo(96, 128)
    both = extractor(2)
    found, mirrored = both(images)[0], both(images.flip(3))[0]
    there = torch.stack([127 - mirrored.keypoints[:, 0], mirrored.keypoints[:, 1]], dim=1)
    apart = torch.cdist(found.keypoints.double(), there.double()).amin(dim=1)
    assert found.n == mirrored.n > 20
    assert (apart < 0.01).float().mean() > 0.95
    alone = extractor(1)
    one, other = alone(images)[0], alone(images.flip(3))[0]
    there = torch.stack([127 - other.keypoints[:, 0], other.keypoints[:, 1]], dim=1)
    assert (torch.cdist(one.keypoints.double(), there.double()).amin(dim=1) < 0.01).float().mean() < 0.5


def test_a_features_file_has_keypoints_of_one_number_of_looks(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.fromarray(np.ascontiguousarray(smooth_photo(5, 96, 128))).save(tmp_path / "images" / "a.png")
    conf = {"name": "samfeat-looks", "device": "cpu", "max_keypoints": 200, "threshold": 0.3}
    path = extract_features(conf, tmp_path / "images", feature_path=tmp_path / "f.h5")
    extractor = get_extractor(conf)
    expected = extractor(smooth_photo(5, 96, 128))
    with FeatureReader(path) as reader:
        np.testing.assert_allclose(reader.read("a.png").keypoints, expected.keypoints, atol=1e-3)
    with pytest.raises(Exception, match="looks"):
        extract_features({**conf, "name": "samfeat"}, tmp_path / "images", feature_path=path)


@pytest.mark.parametrize("looks", [0, 6])
def test_how_many_looks_there_are_is_said(looks: int) -> None:
    with pytest.raises(ConfigError, match=f"looks is {looks}; expected 1 to 5"):
        get_conf("samfeat", looks=looks)
