"""RootSIFT: convention of its coordinates, normalisation, size of its output, images without features."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors import extractor_signature, get_extractor


def texture(height: int = 160, width: int = 200, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def blob(x: float, y: float, sigma: float) -> np.ndarray:
    ys, xs = np.mgrid[:96, :96]
    grey = 40 + 180 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
    return np.repeat(grey.round().astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("sigma", [2.0, 3.5, 6.0])
def test_top_left_pixel_centre_is_the_origin(sigma: float) -> None:
    """A blob at (48.3, 47.6) is found there, at every scale: no half or quarter pixel is added."""
    features = get_extractor("sift")(blob(48.3, 47.6, sigma))
    distance = np.linalg.norm(features.keypoints - [48.3, 47.6], axis=1)
    assert distance.min() < 0.06


def test_resize_max_keeps_the_convention() -> None:
    image = np.asarray(cv2.resize(blob(48.3, 47.6, 6), (192, 192), interpolation=cv2.INTER_LINEAR), np.uint8)
    features = get_extractor("sift", resize_max=96)(image)
    distance = np.linalg.norm(features.keypoints - (np.array([48.3, 47.6]) + 0.5) * 2 + 0.5, axis=1)
    assert distance.min() < 0.15


def test_normalised_sorted_and_limited() -> None:
    features = get_extractor("sift", max_keypoints=50)(texture())
    assert len(features) == 50
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert (np.diff(features.scores) <= 0).all()
    assert features.image_size == (200, 160)
    more = get_extractor("sift")(texture())
    np.testing.assert_array_equal(more.keypoints[:50], features.keypoints)


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 1, 3), (3, 200, 3)])
def test_one_colour(shape: tuple[int, int, int]) -> None:
    features = get_extractor("sift")(np.full(shape, 128, np.uint8))
    assert features.descriptors.shape == (0, 128)
    assert features.image_size == (shape[1], shape[0])


def test_bad_image() -> None:
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB"):
        get_extractor("sift")(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ("shift", "no extractor called 'shift'; did you mean 'sift'"),
        ({"name": "sift", "max_keypoint": 3}, "did you mean 'max_keypoints'"),
        ({"name": "sift", "max_keypoints": 0}, "expected at least 1"),
    ],
)
def test_bad_confs(conf: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_extractor(conf)


def test_signature_has_all_settings() -> None:
    hlocs = {"output": "feats-sift", "model": {"name": "sift"}, "preprocessing": {"resize_max": 1600}}
    signature = extractor_signature(get_extractor(hlocs))
    assert signature["name"] == "sift"
    assert signature["resize_max"] == 1600
    assert signature["max_keypoints"] == 4096
