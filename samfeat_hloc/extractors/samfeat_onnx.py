"""SAMFeat from an ONNX file of `python -m samfeat_hloc.export_onnx`: onnxruntime runs it, torch is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.features import Features

OUTPUTS = ("keypoints", "scores", "descriptors", "attention")
MIN_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class SAMFeatOnnxConf:
    """Settings of the ONNX extractor; everything else was decided when the file was written.

    Attributes:
        weights: the .onnx file, with keypoints as outputs.
        max_keypoints: the best by score are kept; None: all that the file gives.
        threads: of onnxruntime; None: one for each core.
        providers: of onnxruntime, the first that is there runs; None: all that are there.
        uncertainty: standard deviation of keypoints in pixels, written to the features file.
    """

    weights: str | None = None
    max_keypoints: int | None = None
    threads: int | None = None
    providers: tuple[str, ...] | None = None
    uncertainty: float = 1.0

    def __post_init__(self) -> None:
        if self.max_keypoints is not None and self.max_keypoints < 1:
            raise ConfigError(f"max_keypoints is {self.max_keypoints}; expected at least 1, or None")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads}; expected at least 1, or None")


CONFS = {"samfeat-onnx": SAMFeatOnnxConf()}


class SAMFeatOnnx(Extractor):
    """One uint8 image in, `Features` out.

    Raises:
        InputError: no such file, or an ONNX file without keypoints.
        MissingDependencyError: no onnxruntime.
    """

    def __init__(self, name: str, conf: SAMFeatOnnxConf) -> None:
        self.name, self.conf = name, conf
        path = Path(conf.weights) if conf.weights else None
        if path is None or not path.is_file():
            raise InputError(
                f"{name} got the weights {conf.weights}; expected an ONNX file: "
                "python -m samfeat_hloc.export_onnx --output samfeat.onnx writes one"
            )
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError(
                f"running {path} needs onnxruntime; run: pip install onnxruntime (or onnxruntime-gpu)"
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = conf.threads or 0
        providers = list(conf.providers or onnxruntime.get_available_providers())
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no common class
            reason = str(error).splitlines()[0]
            raise InputError(f"onnxruntime cannot run {path}: {reason}; export it again") from error
        names = tuple(output.name for output in self.session.get_outputs())
        if names != OUTPUTS:
            raise InputError(
                f"{path} has the outputs {', '.join(names)}; expected {', '.join(OUTPUTS)}: "
                "export with --outputs keypoints"
            )
        self.weights_sha256: str = self.session.get_modelmeta().custom_metadata_map.get("weights_sha256", "")

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        """Features of an (H, W, 3) uint8 RGB image, best score first.

        Raises:
            InputError: another shape or dtype, or a side below 32 pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < MIN_SIDE:
            raise InputError(
                f"the image is {image.shape} {image.dtype}; expected (H, W, 3) uint8 RGB with H, W >= {MIN_SIDE}"
            )
        scaled = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / 255
        keypoints, scores, descriptors, attention = (part[0] for part in self.session.run(None, {"image": scaled}))
        count = int((scores > 0).sum())  # best first; the rest of the file's fixed number is empty
        kept = slice(min(count, self.conf.max_keypoints or count))
        return Features(
            keypoints=keypoints[kept],
            descriptors=descriptors[kept],
            scores=scores[kept],
            attention=attention[kept],
            image_size=(image.shape[1], image.shape[0]),
            uncertainty=self.conf.uncertainty,
        )


def create(name: str, conf: SAMFeatOnnxConf) -> SAMFeatOnnx:
    """Make the extractor."""
    return SAMFeatOnnx(name, conf)
