"""SAMFeat as the stages call it: photographs as bytes in, `Features` out, one or several of a size at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import InputError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.extractors.samfeat import SAMFeatConf, SAMFeatExtractor, SAMFeatFeatures
from samfeat_hloc.formats.features import Features

CUDA_BATCH = 8
MOST_PARALLEL = 4
"""Images at once on a CPU: cores work on an image each with less waiting than on one together, but in more memory."""


class SAMFeatImages(Extractor):
    """The extractor as the stages call it: uint8 images in, `Features` out.

    Attributes:
        name, conf, weights_sha256, precision, default_batch, parallel: see `samfeat_hloc.extractors.Extractor`.
    """

    def __init__(self, name: str, conf: SAMFeatConf) -> None:
        weights = load_weights(conf.weights)
        self.name, self.conf = name, conf
        self.weights_sha256 = weights.sha256
        self.module = SAMFeatExtractor(weights, conf)
        runtime = self.module.runtime
        self.precision = runtime.precision
        self.default_batch = CUDA_BATCH if runtime.device.type == "cuda" else 1
        self.threads = torch.get_num_threads()
        alone = runtime.device.type == "cuda" or conf.compile
        self.parallel = 1 if alone else min(self.threads, MOST_PARALLEL)

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        """Features of an (H, W, 3) uint8 RGB image.

        Raises:
            InputError: another shape or dtype.
        """
        return self.extract_many([image])[0]

    def extract_many(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Features]:
        """Features of (H, W, 3) uint8 RGB images of one size, by one pass of the network.

        Raises:
            InputError: another shape or dtype, or different sizes.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise InputError(f"the image is {image.shape} {image.dtype}; expected (H, W, 3) uint8 RGB")
            if image.shape != images[0].shape:
                raise InputError(f"images of {images[0].shape} and {image.shape} in one batch; expected one size")
        device = self.module.runtime.device
        stacked = torch.from_numpy(np.stack(images))
        if device.type == "cuda":  # bytes, from pinned memory: a quarter of the floats, and nothing waits for them
            stacked = stacked.pin_memory().to(device, non_blocking=True)
        found = self.module(stacked.permute(0, 3, 1, 2).float() / 255)
        return [self._to_host(features, images[0].shape) for features in found]

    def share(self, calls: int) -> None:
        """See `samfeat_hloc.extractors.Extractor`."""
        torch.set_num_threads(max(1, self.threads // calls))

    def _to_host(self, found: SAMFeatFeatures, shape: tuple[int, ...]) -> Features:
        host = found.to("cpu")
        return Features(
            keypoints=host.keypoints.numpy(),
            descriptors=host.descriptors.numpy(),
            scores=host.scores.numpy(),
            attention=host.attention.numpy(),
            image_size=(shape[1], shape[0]),
            uncertainty=self.conf.uncertainty,
        )
