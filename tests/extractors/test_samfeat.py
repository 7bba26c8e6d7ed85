"""The SAMFeat extractor on its shipped weights: the module, the stage's extractor, the five-line library."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

import samfeat_hloc
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors import get_extractor
from samfeat_hloc.extractors.samfeat import SAMFeatConf
from tests.pipelines.wall import painted_wall


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(painted_wall(3, 4, 3))  # 240x180


@pytest.fixture(scope="module")
def module() -> samfeat_hloc.SAMFeatExtractor:
    return samfeat_hloc.SAMFeatExtractor.from_pretrained(device="cpu")


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def test_module_gives_a_list_of_features(module: samfeat_hloc.SAMFeatExtractor, image: np.ndarray) -> None:
    found = module(tensor(image).repeat(2, 1, 1, 1))
    assert len(found) == 2
    first = found[0]
    assert first.n > 100
    assert first.descriptors.shape == (first.n, 128)
    torch.testing.assert_close(first.descriptors.norm(dim=1), torch.ones(first.n))
    assert (first.scores[:-1] >= first.scores[1:]).all()
    assert (first.attention > 0).all()
    low, high = first.keypoints.amin(dim=0), first.keypoints.amax(dim=0)
    assert (low >= 3.5).all()
    assert high[0] <= 240 - 4.5
    assert high[1] <= 180 - 4.5


def test_padding_does_not_move_keypoints(image: np.ndarray) -> None:
    extractor = get_extractor("samfeat", device="cpu", precision="float32")
    whole, cut = extractor(image), extractor(image[:175, :235].copy())  # both are padded to 240x176 and more
    inside = (whole.keypoints < [220, 160]).all(axis=1)
    distance = np.linalg.norm(whole.keypoints[inside][:, None] - cut.keypoints[None], axis=-1).min(axis=1)
    assert np.mean(distance < 0.25) > 0.9


def test_reduced_images_give_keypoints_in_the_given_pixels(image: np.ndarray) -> None:
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    at_half = get_extractor("samfeat", resize_max=240)(large)
    direct = get_extractor("samfeat")(image)
    assert at_half.image_size == (480, 360)
    moved = (direct.keypoints + 0.5) * 2 - 0.5
    distance = np.linalg.norm(moved[:, None] - at_half.keypoints[None], axis=-1).min(axis=1)
    assert np.median(distance) < 0.5


def test_a_batch_gives_what_its_images_give(image: np.ndarray) -> None:
    extractor: Any = get_extractor("samfeat", device="cpu", precision="float32")
    images = [image, np.ascontiguousarray(image[:, ::-1]), np.full_like(image, 90), np.ascontiguousarray(image[::-1])]
    assert extractor.precision == "float32"
    for each, together in zip(images, extractor.extract_many(images), strict=True):
        alone = extractor(each)
        assert together.image_size == alone.image_size
        near = np.linalg.norm(alone.keypoints[:, None] - together.keypoints[None], axis=-1)
        if len(alone):  # rounding may order equal scores differently
            index = near.argmin(axis=1)
            assert np.mean(near.min(axis=1) < 1e-3) > 0.995
            cosine = (alone.descriptors * together.descriptors[index]).sum(axis=1)[near.min(axis=1) < 1e-3]
            assert cosine.min() > 0.9999
        assert abs(len(alone) - len(together)) <= 0.005 * len(alone)
    with pytest.raises(InputError, match="expected one size"):
        extractor.extract_many([image, image[:100].copy()])


@pytest.mark.parametrize("value", [0, 77, 255])
def test_images_of_one_colour_have_no_keypoints(value: int) -> None:
    features = samfeat_hloc.extract(np.full((120, 160, 3), value, np.uint8))
    assert len(features) == 0
    assert features.descriptors.shape == (0, 128)


def test_matches_follow_a_known_shift(image: np.ndarray) -> None:
    a, b = samfeat_hloc.extract(image[:, :200].copy()), samfeat_hloc.extract(image[:, 24:224].copy())
    pairs = samfeat_hloc.match(a, b)
    assert pairs.shape[1] == 2
    shift = a.keypoints[pairs[:, 0]] - b.keypoints[pairs[:, 1]] - [24, 0]
    assert np.mean(np.linalg.norm(shift, axis=1) < 1) > 0.7
    assert len(samfeat_hloc.extract(image, max_keypoints=50)) == 50


def test_wrong_images_and_settings_are_refused(module: samfeat_hloc.SAMFeatExtractor, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8 RGB"):
        samfeat_hloc.extract(image[..., 0])
    with pytest.raises(InputError, match="expected"):
        module(torch.zeros(3, 64, 64))
    with pytest.raises(ConfigError, match="threshold"):
        SAMFeatConf(threshold=1.5)
    with pytest.raises(ConfigError, match="max_keypoint"):
        samfeat_hloc.extract(image, max_keypoint=3)
    with pytest.raises(ConfigError, match="preset"):
        samfeat_hloc.SAMFeatExtractor.from_pretrained(preset="superpoint")


def test_released_preset_is_the_released_inference() -> None:
    extractor = get_extractor("samfeat-released", threshold=0.5)
    conf = extractor.conf
    assert (conf.nms_radius, conf.nms_rounds, conf.border, conf.add_edges, conf.subpixel) == (4, None, 4, True, False)
    assert extractor.module._inner_size((500, 350)) == (496, 352)  # type: ignore[attr-defined]
    features = extractor(painted_wall(3, 4, 3))
    scaled = features.keypoints * [240 / 240, 176 / 180]
    np.testing.assert_allclose(scaled, scaled.round(), atol=1e-3)  # whole pixels of the resized image
