"""The ways to run the network that benchmarks/extraction_speed.py compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.extractors import Extractor, get_extractor
from samfeat_hloc.extractors.samfeat import SAMFeatConf
from samfeat_hloc.formats.features import Features
from samfeat_hloc.keypoints import detect, refine
from samfeat_hloc.phases import CHOICES
from samfeat_hloc.sampling import sample


@dataclass(frozen=True)
class Place:
    """What every setting gets.

    Attributes:
        weights: name or path; None: the shipped default.
        max_keypoints: of each image.
        folder: for files of its own.
    """

    weights: str | None
    max_keypoints: int
    folder: Path


class Plain(Extractor):
    """The trained network's own forward pass, everything it computes, and the same keypoint code as all others."""

    def __init__(self, place: Place, channels_last: bool, dtype: torch.dtype) -> None:
        weights = load_weights(place.weights)
        self.conf = SAMFeatConf(max_keypoints=place.max_keypoints)
        self.name, self.weights_sha256 = "plain", weights.sha256
        self.model = weights.build()
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.format)  # type: ignore[call-overload]
        self.dtype = dtype

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        """As `samfeat_hloc.extractors.Extractor`."""
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        points, scores, descriptors, attention = (part.numpy() for part in self.features(tensor))
        return Features(
            keypoints=points, descriptors=descriptors, scores=scores, attention=attention,
            image_size=(image.shape[1], image.shape[0]),
        )  # fmt: skip

    @torch.inference_mode()
    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(1, 3, H, W) in [0, 1] -> keypoints (N, 2), scores (N,), descriptors (N, D), attention (N,)."""
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate").contiguous(memory_format=self.format)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            maps = self.model(padded * 2 - 1)
        logits, conf, switches = maps.logits.float(), self.conf, self.model.architecture
        found = detect(
            torch.sigmoid(logits), radius=conf.nms_radius, threshold=conf.threshold, border=conf.border,
            max_keypoints=conf.max_keypoints, rounds=conf.nms_rounds, image_sizes=torch.tensor([[width, height]]),
        )[0]  # fmt: skip
        points = refine(logits[0, 0], found.points, switches.refinement)
        size = (padded.shape[3], padded.shape[2])
        descriptors, attention = (
            sample(one, points[None], size, switches.sampling)[0] for one in (maps.descriptors, maps.attention)
        )
        return points, found.scores, F.normalize(descriptors, dim=-1), attention[:, 0]


def _inference(place: Place, name: str = "samfeat", **conf: Any) -> Extractor:
    return get_extractor(name, weights=place.weights, max_keypoints=place.max_keypoints, device="cpu", **conf)


def _onnx(place: Place) -> Extractor:
    from samfeat_hloc import export_onnx

    path = place.folder / "samfeat.onnx"
    if not path.is_file():
        export_onnx.main(path, place.weights, max_keypoints=place.max_keypoints)
    return get_extractor({"name": "samfeat-onnx", "weights": str(path), "threads": torch.get_num_threads()})


BASELINE = "plain float32"
MAIN: dict[str, Callable[[Place], Any]] = {
    "plain float32 NCHW": partial(Plain, channels_last=False, dtype=torch.float32),
    BASELINE: partial(Plain, channels_last=True, dtype=torch.float32),
    "plain bfloat16": partial(Plain, channels_last=True, dtype=torch.bfloat16),
    "inference float32": partial(_inference, precision="float32"),
    "inference bfloat16": partial(_inference, precision="bfloat16"),
    "inference int8": partial(_inference, precision="int8"),
    "compiled float32": partial(_inference, precision="float32", compile=True),
    "compiled bfloat16": partial(_inference, precision="bfloat16", compile=True),
    "onnxruntime float32": _onnx,
}
"""Name -> maker; what is compared when nothing is said. *plain* is the trained network's forward pass, *inference* the
form that the extractor runs."""
SETTINGS: dict[str, Callable[[Place], Any]] = {
    **MAIN,
    **{f"inference float32, phases {n}": partial(_inference, precision="float32", phases=n) for n in CHOICES},
    "inference float32, five looks": partial(_inference, name="samfeat-looks", precision="float32"),
}
"""All of them."""
