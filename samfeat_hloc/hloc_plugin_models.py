"""The models that `samfeat_hloc.hloc_plugin` gives to hloc, less hloc's `BaseModel`, which it mixes in.

hloc's contract: a model is made with the dict ``conf["model"]``, moved with ``.eval().to(device)`` and called with a
dict of tensors that have a batch of one. Extractors get ``image`` (1, 3, H, W) in [0, 1], resized by hloc, not turned
by its EXIF orientation; keypoints go back in the pixels of that image, the centre of the top-left pixel being (0, 0),
and hloc scales them to the file's. With ``as_half`` (its default) hloc rounds every float32 array to float16, keypoints
too, which beyond 1,024 steps by whole pixels: ours are float64, which it leaves alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from samfeat_hloc.checkpoints import DEFAULT_WEIGHTS, SHIPPED_FOLDER, load_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors import get_conf
from samfeat_hloc.extractors.samfeat import SAMFeatConf, SAMFeatExtractor, SAMFeatFeatures
from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers import get_matcher
from samfeat_hloc.precision import choose_runtime
from samfeat_hloc.vlad import Codebook

logger = logging.getLogger(__name__)
MAX_INDEX = np.iinfo(np.int16).max  # hloc writes matches as int16: a larger index would become another keypoint's
DEFAULT_CODEBOOK = SHIPPED_FOLDER / f"{DEFAULT_WEIGHTS}.vlad.npz"


class SAMFeat(nn.Module):
    """``image`` to ``keypoints`` (1, N, 2) float64, ``descriptors`` (1, D, N), ``scores`` and ``attention`` (1, N).

    The conf has "preset", a conf of `samfeat_hloc.extractors.samfeat`, and fields of `SAMFeatConf` that replace its.
    """

    default_conf: ClassVar[dict[str, Any]] = {"preset": "samfeat"}
    required_inputs: ClassVar[list[str]] = ["image"]

    def _init(self, conf: Mapping[str, Any]) -> None:
        self.extractor = make_extractor(conf)
        self.detection_noise = self.extractor.conf.uncertainty  # hloc's name of a keypoint's standard deviation

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = extract(self.extractor, data["image"])
        return {
            "keypoints": found.keypoints.double()[None],
            "descriptors": found.descriptors.T[None],
            "scores": found.scores[None],
            "attention": found.attention[None],
        }


class SAMFeatVLAD(nn.Module):
    """``image`` to ``global_descriptor`` (1, words * D) float32 of unit length; zeros for an image without features.

    The conf is that of `SAMFeat` and "codebook", the file of a `samfeat_hloc.vlad.Codebook`; None: the one that ships
    with the default weights (`samfeat_hloc/weights/README.md` has how it does against one learnt from the map).
    """

    default_conf: ClassVar[dict[str, Any]] = {"preset": "samfeat", "codebook": None}
    required_inputs: ClassVar[list[str]] = ["image"]

    def _init(self, conf: Mapping[str, Any]) -> None:
        path = conf["codebook"] or DEFAULT_CODEBOOK
        self.codebook = Codebook.load(path)
        fields = {key: value for key, value in conf.items() if key != "codebook"}
        self.extractor = make_extractor({"max_keypoints": self.codebook.conf.max_keypoints, **fields})
        weights = self.codebook.features.get("weights_sha256", self.extractor.weights_sha256)
        if weights != self.extractor.weights_sha256:
            raise InputError(
                f"the codebook {path} was learnt from descriptors of other weights (sha256 {str(weights)[:12]}…, these "
                f"have {self.extractor.weights_sha256[:12]}…); make one with python -m samfeat_hloc.global_descriptors"
            )

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = data["image"]
        found = extract(self.extractor, image).to("cpu")
        features = Features(
            keypoints=found.keypoints.numpy(),
            descriptors=found.descriptors.numpy(),
            scores=found.scores.numpy(),
            attention=found.attention.numpy(),
            image_size=(image.shape[3], image.shape[2]),
        )
        return {"global_descriptor": torch.from_numpy(self.codebook.encode(features))[None].to(image.device)}


class SAMFeatMatcher(nn.Module):
    """``descriptors0``, ``descriptors1`` (1, D, N) to ``matches0`` (1, N0) int64, -1 for none, and their scores.

    The conf has "preset", a conf of `samfeat_hloc.matchers.nearest_neighbor`, and fields of `NearestNeighborConf` that
    replace its. ``matching_scores0`` is (1 + cosine) / 2, hloc's own. ``attention0`` and ``attention1`` are ones where
    the features file has none.
    """

    default_conf: ClassVar[dict[str, Any]] = {"preset": "nn-mutual"}
    required_inputs: ClassVar[list[str]] = ["descriptors0", "descriptors1"]

    def _init(self, conf: Mapping[str, Any]) -> None:
        preset, fields = _split(conf)
        self.matcher = get_matcher({"name": preset, **fields})

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self.matcher(_features(data, "0"), _features(data, "1"))
        matches, scores = found.matches0.astype(np.int64), found.scores0
        beyond = matches > MAX_INDEX
        if beyond.any():  # raising here would leave hloc waiting for its writer threads for ever
            logger.warning("left out %d matches beyond keypoint %d: hloc's files have int16", beyond.sum(), MAX_INDEX)
            matches[beyond], scores = -1, np.where(beyond, 0, scores)
        device = data["descriptors0"].device
        return {
            "matches0": torch.from_numpy(matches)[None].to(device),
            "matching_scores0": torch.from_numpy(scores)[None].to(device),
        }


def make_extractor(conf: Mapping[str, Any]) -> SAMFeatExtractor:
    """The extractor of a ``conf["model"]``.

    Raises:
        ConfigError: an unknown key or preset, a bad value, or more keypoints than hloc's match files can number.
        InputError: no such weights.
    """
    preset, fields = _split(conf)
    _, resolved = get_conf({"name": preset, **fields})
    if not isinstance(resolved, SAMFeatConf):
        raise ConfigError(f"preset is {preset!r}; expected one of SAMFeat's, such as samfeat or samfeat-released")
    if resolved.max_keypoints > MAX_INDEX + 1:
        raise ConfigError(
            f"max_keypoints is {resolved.max_keypoints}; hloc's match files hold indices up to {MAX_INDEX} (int16): "
            f"give at most {MAX_INDEX + 1}"
        )
    if preset == "samfeat-released" and resolved.weights is None:
        logger.warning(
            "samfeat-released has the release's settings and here the weights %s: for the release's own give "
            "model_29.pt, as conf['model']['weights'] or by hloc_plugin --weights",
            DEFAULT_WEIGHTS,
        )
    return SAMFeatExtractor(load_weights(resolved.weights), resolved)


def extract(extractor: SAMFeatExtractor, image: Tensor) -> SAMFeatFeatures:
    """Features of hloc's (1, 3, H, W) image, on the device that hloc moved the model to.

    A grey image, (1, 1, H, W), is taken as one with three equal channels.

    Raises:
        InputError: another shape.
    """
    if image.ndim != 4 or len(image) != 1 or image.shape[1] not in (1, 3):
        raise InputError(f"the image is {tuple(image.shape)}; expected (1, 3, H, W) RGB in [0, 1], one image a call")
    device = next(extractor.network.parameters()).device
    if device != extractor.runtime.device:
        extractor.runtime = choose_runtime(str(device), extractor.conf.precision)
    found: list[SAMFeatFeatures] = extractor(image.expand(-1, 3, -1, -1).clamp(0, 1))
    return found[0]


def _split(conf: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The preset and the fields of a ``conf["model"]``."""
    return str(conf["preset"]), {key: value for key, value in conf.items() if key not in ("name", "preset")}


def _features(data: Mapping[str, Tensor], side: str) -> Features:
    """One image's features as hloc read them from its file: every dataset a float32 tensor with a batch of one."""
    descriptors = data[f"descriptors{side}"][0].T.float().cpu().numpy()
    ones = np.ones(len(descriptors), np.float32)
    attention = data[f"attention{side}"][0].float().cpu().numpy() if f"attention{side}" in data else ones
    return Features(
        keypoints=np.zeros((len(descriptors), 2), np.float32),
        descriptors=descriptors,
        scores=ones,
        attention=attention,
        image_size=(0, 0),
    )
