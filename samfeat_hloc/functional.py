"""The library in two functions: features of an image, matches of two images."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.extractors import Extractor, get_extractor
from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers import get_matcher


@lru_cache(maxsize=4)
def _extractor(conf: str, items: tuple[tuple[str, Any], ...]) -> Extractor:
    return get_extractor(conf, **dict(items))


def extract(
    image: npt.NDArray[np.uint8], max_keypoints: int = 2048, conf: str = "samfeat", **overrides: Any
) -> Features:
    """Features of an image; the network is loaded once and kept.

    Args:
        image: (H, W, 3) uint8 RGB.
        max_keypoints: the best are kept.
        conf: an extractor's name, such as ``samfeat`` or ``sift``.
        overrides: further fields of that extractor's configuration, such as ``device="cpu"``.

    Raises:
        InputError: the image has another shape or dtype.
        ConfigError: an unknown name or field.
    """
    return _extractor(conf, tuple(sorted({"max_keypoints": max_keypoints, **overrides}.items())))(image)


def match(a: Features, b: Features, conf: str = "nn-mutual", **overrides: Any) -> npt.NDArray[np.int64]:
    """Matches of two images, (M, 2) indices of their keypoints.

    Args:
        a, b: features made by one extractor.
        conf: a matcher's name; overrides: further fields of its configuration, such as ``ratio=0.9``.

    Raises:
        InputError: the descriptors have different lengths.
        ConfigError: an unknown name or field.
    """
    pairs: npt.NDArray[np.int64] = np.asarray(get_matcher(conf, **overrides)(a, b).indices(), np.int64)
    return pairs
