"""RootSIFT, the baseline: OpenCV's SIFT with square-rooted descriptors (Arandjelovic and Zisserman, CVPR 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.features import Features

DIMENSION = 128


@dataclass(frozen=True, kw_only=True)
class SIFTConf:
    """Settings of RootSIFT.

    Attributes:
        max_keypoints: the strongest by response are kept.
        contrast_threshold: OpenCV's `contrastThreshold`; lower gives more keypoints in dark images.
        edge_threshold: OpenCV's `edgeThreshold`.
        resize_max: images with a longer side are reduced to it; keypoints are in the given image's pixels.
            None: never.
    """

    max_keypoints: int = 4096
    contrast_threshold: float = 0.01
    edge_threshold: float = 10.0
    resize_max: int | None = None

    def __post_init__(self) -> None:
        if self.max_keypoints < 1:
            raise ConfigError(f"SIFTConf.max_keypoints is {self.max_keypoints}; expected at least 1")
        if self.resize_max is not None and self.resize_max < 32:
            raise ConfigError(f"SIFTConf.resize_max is {self.resize_max}; expected at least 32, or None")


CONFS = {"sift": SIFTConf()}


class SIFT(Extractor):
    """RootSIFT extractor."""

    def __init__(self, name: str, conf: SIFTConf) -> None:
        import cv2

        self.name = name
        self.conf = conf
        self.weights_sha256 = ""
        self._cv2: Any = cv2  # its stubs lack SIFT_create
        # All keypoints are asked for and cut here: OpenCV's own cut keeps ties, so its number varies.
        # Precise upscale: without it every keypoint is a quarter pixel off.
        self._sift = self._cv2.SIFT_create(
            nfeatures=0,
            contrastThreshold=conf.contrast_threshold,
            edgeThreshold=conf.edge_threshold,
            enable_precise_upscale=True,
        )

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        """Features of an (H, W, 3) uint8 RGB image.

        Raises:
            InputError: another shape or dtype.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"the image is {image.shape} {image.dtype}; expected (H, W, 3) uint8 RGB")
        height, width = image.shape[:2]
        grey = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)
        limit = self.conf.resize_max
        if limit is not None and max(height, width) > limit:
            factor = limit / max(height, width)
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            grey = self._cv2.resize(grey, size, interpolation=self._cv2.INTER_AREA)
        found, descriptors = self._sift.detectAndCompute(grey, None)
        if not found:
            return _empty((width, height))
        order = np.argsort([-keypoint.response for keypoint in found], kind="stable")[: self.conf.max_keypoints]
        points = np.array([found[i].pt for i in order], np.float32)
        scale = np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        return Features(
            keypoints=(points + 0.5) * scale - 0.5 if limit is not None else points,
            descriptors=root_sift(descriptors[order]),
            scores=np.array([found[i].response for i in order], np.float32),
            attention=np.ones(len(order), np.float32),
            image_size=(width, height),
        )


def create(name: str, conf: SIFTConf) -> SIFT:
    """Make the extractor."""
    return SIFT(name, conf)


def root_sift(descriptors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, 128) SIFT descriptors to RootSIFT: L1-normalised, then square-rooted, which makes them L2-normalised."""
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-7)
    root: npt.NDArray[np.float32] = np.sqrt(np.maximum(descriptors, 0) / total).astype(np.float32)
    return root


def _empty(size: tuple[int, int]) -> Features:
    none = np.zeros(0, np.float32)
    return Features(
        keypoints=np.zeros((0, 2), np.float32),
        descriptors=np.zeros((0, DIMENSION), np.float32),
        scores=none,
        attention=none,
        image_size=size,
    )
