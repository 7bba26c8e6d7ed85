"""The ways to run the network that benchmarks/extraction_speed.py compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.extractors import Extractor, get_extractor
from samfeat_hloc.extractors.samfeat import SAMFeatConf
from samfeat_hloc.formats.features import Features
from samfeat_hloc.images import list_images, read_image
from samfeat_hloc.keypoints import detect, refine
from samfeat_hloc.sampling import sample

CALIBRATION_IMAGES = 12
CALIBRATION_SIDE = 384
FEWEST_CHANNELS = 16
"""A convolution with fewer inputs or outputs keeps float32 in the int8 file: the first layer and the heads."""


@dataclass(frozen=True)
class Place:
    """What every setting gets.

    Attributes:
        weights: name or path; None: the shipped default.
        max_keypoints: of each image.
        calibration: folder of photographs for int8, or None.
        folder: for files of its own.
    """

    weights: str | None
    max_keypoints: int
    calibration: Path | None
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


def _inference(place: Place, precision: str, compiled: bool = False) -> Extractor:
    return get_extractor(
        "samfeat", weights=place.weights, max_keypoints=place.max_keypoints, precision=precision, compile=compiled,
        device="cpu",
    )  # fmt: skip


def _onnx(place: Place, int8: bool = False) -> Extractor:
    from samfeat_hloc import export_onnx

    path = place.folder / "samfeat.onnx"
    if not path.is_file():
        export_onnx.main(path, place.weights, max_keypoints=place.max_keypoints)
    if int8:
        path = quantized(path, place)
    return get_extractor({"name": "samfeat-onnx", "weights": str(path), "threads": torch.get_num_threads()})


def quantized(path: Path, place: Place) -> Path:
    """The file with its convolutions in int8, by onnxruntime's static quantisation: weights by channel, activations by
    their range over some photographs.

    Raises:
        InputError: no folder of photographs, or none in it.
    """
    if place.calibration is None:
        raise InputError("int8 needs photographs that are not the test's; give --calibration DIR")
    names = list_images(place.calibration)[:: max(1, len(list_images(place.calibration)) // CALIBRATION_IMAGES)]
    if not names:
        raise InputError(f"{place.calibration} has no photograph; give --calibration another folder")
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingDependencyError(f"int8 needs {error.name}; run: pip install 'samfeat-hloc[onnx]'") from None

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images: Iterator[npt.NDArray[np.float32]] = (
                _calibration_image(place.calibration / name)  # type: ignore[operator]
                for name in names[:CALIBRATION_IMAGES]
            )

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image}

    graph = onnx.load(str(path)).graph
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    thin = [
        node.name for node in graph.node if node.op_type == "Conv" and min(shapes[node.input[1]][:2]) < FEWEST_CHANNELS
    ]
    output = path.with_name("int8.onnx")
    quantize_static(
        str(path), str(output), Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"],
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=thin,
    )  # fmt: skip
    return output


def _calibration_image(path: Path) -> npt.NDArray[np.float32]:
    image = read_image(path)[0]
    side = CALIBRATION_SIDE
    square = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return square.transpose(2, 0, 1)[None].astype(np.float32) / 255


BASELINE = "plain float32"
SETTINGS: dict[str, Callable[[Place], Any]] = {
    "plain float32 NCHW": partial(Plain, channels_last=False, dtype=torch.float32),
    BASELINE: partial(Plain, channels_last=True, dtype=torch.float32),
    "plain bfloat16": partial(Plain, channels_last=True, dtype=torch.bfloat16),
    "inference float32": partial(_inference, precision="float32"),
    "inference bfloat16": partial(_inference, precision="bfloat16"),
    "compiled float32": partial(_inference, precision="float32", compiled=True),
    "compiled bfloat16": partial(_inference, precision="bfloat16", compiled=True),
    "onnxruntime float32": _onnx,
    "onnxruntime int8": partial(_onnx, int8=True),
}
"""Name -> maker. *plain* is the trained network's forward pass, *inference* the form that the extractor runs."""
