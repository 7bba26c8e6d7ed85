"""SAMFeat as an extractor: settings, and an `nn.Module` in kornia's manner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samfeat_hloc.checkpoints import Weights, load_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.inference import InferenceNetwork
from samfeat_hloc.inference_stages import InferenceMaps
from samfeat_hloc.keypoints import Keypoints, detect, refine
from samfeat_hloc.looks import LOOKS, Look, as_given, mean_logits, show
from samfeat_hloc.model import MIN_SIDE
from samfeat_hloc.phases import CHOICES
from samfeat_hloc.precision import Precision, Runtime, choose_runtime

if TYPE_CHECKING:
    from samfeat_hloc.extractors.samfeat_images import SAMFeatImages


@dataclass(frozen=True, kw_only=True)
class SAMFeatConf:
    """Settings of the SAMFeat extractor.

    Attributes:
        weights: name of shipped weights, or a checkpoint's path; None: the shipped default.
        max_keypoints: the best by score are kept.
        threshold: least keypoint probability.
        nms_radius: pixels, Chebyshev distance.
        nms_rounds: of the suppression; None runs it to the end, see `samfeat_hloc.keypoints.suppress`.
        border: keypoints nearer to the image's border are dropped, pixels.
        looks: how often the network looks at an image, mirrored and in other sizes; the mean of what it says is more
            accurate and takes its time: 2 to 5, see `samfeat_hloc.looks`. 1: once.
        phases: grids of halves and quarters that keypoint scores are averaged over, 1, 2 or 4, see
            `samfeat_hloc.phases`; None: as many as the weights say.
        subpixel: refine keypoints, in the way the weights were trained for.
        add_edges: add the edge map to the keypoint logits, as the released inference does.
        fit: how an image meets the network's strides. ``pad``: repeated border pixels up to a multiple of 8;
            ``resize16``: resized to the nearest multiple of 16, as the released inference does.
        resize_max: images with a longer side are reduced to it; keypoints are in the given image's pixels.
        uncertainty: standard deviation of keypoints in pixels, written to the features file.
        device: cpu, cuda, cuda:N; None: CUDA where there is one.
        precision: auto, float32, bfloat16, float16, or int8 on CPUs that multiply bytes.
        compile: run the network through ``torch.compile``, see `samfeat_hloc.inference`.
    """

    weights: str | None = None
    max_keypoints: int = 4096
    threshold: float = 0.7
    nms_radius: int = 2
    nms_rounds: int | None = 2
    border: int = 4
    looks: int = 1
    phases: int | None = None
    subpixel: bool = True
    add_edges: bool = False
    fit: Literal["pad", "resize16"] = "pad"
    resize_max: int | None = None
    uncertainty: float = 1.0
    device: str | None = None
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.max_keypoints < 1:
            raise ConfigError(f"max_keypoints is {self.max_keypoints}; expected at least 1")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}; expected a probability in [0, 1)")
        if self.nms_radius < 0 or self.border < 0:
            raise ConfigError(f"nms_radius is {self.nms_radius}, border {self.border}; expected >= 0")
        if self.subpixel and self.border < 1:
            raise ConfigError("subpixel needs border >= 1")
        if not 1 <= self.looks <= len(LOOKS):
            raise ConfigError(f"looks is {self.looks}; expected 1 to {len(LOOKS)}")
        if self.phases is not None and self.phases not in CHOICES:
            raise ConfigError(f"phases is {self.phases}; expected one of {', '.join(map(str, CHOICES))}, or None")
        if self.precision == "int8" and self.compile:
            raise ConfigError("compile and precision int8 exclude each other; give one of them")
        if self.resize_max is not None and self.resize_max < MIN_SIDE:
            raise ConfigError(f"resize_max is {self.resize_max}; expected at least {MIN_SIDE}, or None")


CONFS = {
    "samfeat": SAMFeatConf(),
    "samfeat-aachen": SAMFeatConf(resize_max=1600),
    "samfeat-int8": SAMFeatConf(precision="int8"),
    "samfeat-looks": SAMFeatConf(looks=len(LOOKS)),
    "samfeat-released": SAMFeatConf(
        max_keypoints=10000, threshold=0.9, nms_radius=4, nms_rounds=None, border=4, subpixel=False, add_edges=True,
        fit="resize16", precision="float32",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SAMFeatFeatures:
    """The features of one image on the network's device, best score first.

    Attributes:
        keypoints: (N, 2) float32 x, y; the centre of the top-left pixel is (0, 0).
        descriptors: (N, D) float32, L2-normalised.
        scores: (N,) float32 keypoint probability.
        attention: (N,) float32; ``attention * descriptor`` is what the paper matches.
    """

    keypoints: Tensor
    descriptors: Tensor
    scores: Tensor
    attention: Tensor

    @property
    def n(self) -> int:
        """Number of keypoints."""
        return len(self.keypoints)

    def to(self, device: torch.device | str) -> SAMFeatFeatures:
        """The same features on another device."""
        return SAMFeatFeatures(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class SAMFeatExtractor(nn.Module):
    """(B, 3, H, W) images in [0, 1] to a list of `SAMFeatFeatures`."""

    def __init__(self, weights: Weights, conf: SAMFeatConf | None = None) -> None:
        super().__init__()
        self.conf = conf or SAMFeatConf()
        self.runtime: Runtime = choose_runtime(self.conf.device, self.conf.precision)
        model = self.runtime.prepare(weights.build())
        if self.conf.phases is not None:
            model.architecture = replace(model.architecture, phases=self.conf.phases)
        self.network = InferenceNetwork(model, self.conf.compile, self.runtime.quantized)
        self.refinement = weights.architecture.refinement
        self.weights_sha256 = weights.sha256

    @classmethod
    def from_pretrained(
        cls, weights: str | None = None, device: str | None = None, preset: str = "samfeat"
    ) -> SAMFeatExtractor:
        """With shipped weights (by name) or a checkpoint (by path) and a preset of `CONFS`."""
        if preset not in CONFS:
            raise ConfigError(f"preset is {preset!r}; expected one of {', '.join(CONFS)}")
        conf = replace(CONFS[preset], weights=weights, device=device)
        return cls(load_weights(weights), conf)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[SAMFeatFeatures]:
        """Features of a batch.

        Raises:
            InputError: another shape, or values outside [0, 1].
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise InputError(f"got {tuple(images.shape)} {images.dtype}; expected (B, 3, H, W) floats in [0, 1]")
        size = (images.shape[3], images.shape[2])
        inner = self._inner_size(size)
        images = self.runtime.images(images.float())
        if inner != size:
            antialias = _shrinks(size, inner)
            images = F.interpolate(images, inner[::-1], mode="bilinear", align_corners=False, antialias=antialias)
            if self.conf.fit == "resize16":
                images = (images * 255).round() / 255  # the release resizes 8-bit images
        padding = (-inner[0] % 8, -inner[1] % 8)
        if max(padding) > 0:
            images = F.pad(images, (0, padding[0], 0, padding[1]), mode="replicate")
        scaled = images * 2 - 1
        del images  # its memory is wanted
        logits, resized = list[Tensor](), list[InferenceMaps]()
        for look in LOOKS[1 : self.conf.looks]:
            said, maps = self._through(look, scaled)
            logits.append(said)
            if maps is not None:
                resized.append(maps)
        scaled = scaled.to(self.runtime.dtype)
        maps = self.network(scaled)
        if logits:
            maps = maps._replace(logits=mean_logits([maps.logits, *logits]))
        return self._features([maps, *resized], inner, size)

    def _through(self, look: Look, images: Tensor) -> tuple[Tensor, InferenceMaps | None]:
        """Keypoint logits at the pixels of the images, and all the maps where they describe points: not mirrored."""
        shown = show(images, look).to(self.runtime.dtype)
        if look.mirrored:
            return as_given(self.network.keypoint_logits(shown), look, images.shape[2:]), None
        maps = self.network(shown)
        return as_given(maps.logits, look, images.shape[2:]), maps

    def _inner_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(W, H) that the network sees, before padding."""
        width, height = size
        limit = self.conf.resize_max
        if limit is not None and max(size) > limit:
            factor = limit / max(size)
            width, height = round(width * factor), round(height * factor)
        if self.conf.fit == "resize16":
            width, height = 16 * round(width / 16), 16 * round(height / 16)
        return max(width, MIN_SIDE), max(height, MIN_SIDE)

    def _features(
        self, looks: list[InferenceMaps], inner: tuple[int, int], size: tuple[int, int]
    ) -> list[SAMFeatFeatures]:
        """Of the maps of the images as they are, which hold the logits, and of those resized, which describe, too."""
        maps = looks[0]
        logits = maps.logits
        if self.conf.add_edges:
            logits = logits + F.interpolate(maps.edges, logits.shape[2:], mode="bilinear", align_corners=False)
        conf = self.conf
        found = detect(
            torch.sigmoid(logits), radius=conf.nms_radius, threshold=conf.threshold, border=conf.border,
            max_keypoints=conf.max_keypoints, rounds=conf.nms_rounds,
            image_sizes=torch.tensor([inner], device=logits.device).expand(len(logits), 2),
        )  # fmt: skip
        return [self._of_one(looks, logits, i, keypoints, inner, size) for i, keypoints in enumerate(found)]

    def _of_one(
        self,
        looks: list[InferenceMaps],
        logits: Tensor,
        index: int,
        found: Keypoints,
        inner: tuple[int, int],
        size: tuple[int, int],
    ) -> SAMFeatFeatures:
        points = refine(logits[index, 0], found.points, self.refinement) if self.conf.subpixel else found.points
        padded = (logits.shape[3], logits.shape[2])
        each = [F.normalize(self.network.describe(maps, index, points, padded), dim=-1) for maps in looks]
        descriptors = F.normalize(torch.stack(each).sum(dim=0), dim=-1) if len(each) > 1 else each[0]
        attention = self.network.attend(looks[0], index, points, padded)
        scale = torch.tensor(size, device=points.device) / torch.tensor(inner, device=points.device)
        if self.conf.fit == "resize16":
            points = points * scale  # the release scales with no half-pixel shift
        elif inner != size:
            points = (points + 0.5) * scale - 0.5
        return SAMFeatFeatures(points, descriptors, found.scores, attention)


def _shrinks(size: tuple[int, int], inner: tuple[int, int]) -> bool:
    """Whether an image is reduced by more than the nearest multiple of 16 does."""
    return inner[0] < 0.9 * size[0] or inner[1] < 0.9 * size[1]


def create(name: str, conf: SAMFeatConf) -> SAMFeatImages:
    """Make the extractor."""
    from samfeat_hloc.extractors.samfeat_images import SAMFeatImages

    return SAMFeatImages(name, conf)
