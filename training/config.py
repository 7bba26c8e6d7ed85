"""Everything a training run can be told, in frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.model import Architecture
from samfeat_hloc.phases import CHOICES
from training.records import SourceConfig


@dataclass(frozen=True)
class HomographyConfig:
    """Random homography between the two crops of a photograph (sizes relative to the crop's side)."""

    rotation_deg: float = 30.0
    scale: float = 1.7
    """Largest relative zoom between the two crops; log-uniform in [1/scale, scale]."""
    perspective: float = 0.2
    """Largest displacement of each corner."""
    tilt: float = 1.0
    """Largest stretch along one random axis against the other, as a plane seen aslant has it; log-uniform from 1. Real
    pairs have their own."""
    translation: float = 0.15
    source_zoom: tuple[float, float] = (0.7, 1.9)
    """Photograph pixels per crop pixel of the first crop."""
    identity: float = 0.0
    """Share of pairs of one photograph whose homography is the identity (0.5 in the release)."""


@dataclass(frozen=True)
class PhotometricConfig:
    """Photometric change, drawn independently for each crop."""

    strength: float = 1.0
    """Scales every magnitude; 0 leaves the crops as they are."""
    night: float = 0.2
    """Share of crops that are turned into night."""
    relight: float = 0.0
    """Share of crops whose surfaces are each lit, coloured and toned by themselves."""
    defocus: float = 0.0
    """Share of crops that are blurred far beyond what every crop risks: a Gaussian of 1.5 to 6 pixels."""

    def __post_init__(self) -> None:
        for name in ("night", "relight", "defocus"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"photometric.{name} is {getattr(self, name)}; expected a share of the crops, in [0, 1]"
                )
        if self.strength < 0:
            raise ConfigError(f"photometric.strength is {self.strength}; expected 0 or more")


@dataclass(frozen=True)
class LossConfig:
    """Which form of each loss; docs/training.md says what they are and has the figures the defaults were chosen by."""

    detector: Literal["fused", "every-scale", "distilled"] = "fused"
    """Distilled: no keypoint targets, but the labeller's scores of every pixel of clean crops that it sees mirrored and
    in other sizes, so that the student learns the mean of what it says; see `samfeat_hloc.looks`."""
    descriptor: Literal["dual-softmax", "triplet"] = "dual-softmax"
    relations: Literal["paper", "unweighted", "released", "features", "off"] = "paper"
    groups: Literal["masked", "paper", "released", "off"] = "masked"
    edges: Literal["l1", "squared", "off"] = "l1"
    positions: Literal["soft-argmax", "off"] = "off"
    """Ours: keypoints finer than a pixel are trained; use it with the architecture's refinement "soft"."""
    ranking: Literal["matches", "off"] = "off"
    """Ours: keypoints whose descriptors find each other are to be scored above those whose do not."""
    imitation: Literal["labeller", "off"] = "off"
    """Ours: descriptors are to be those that the labeller gives the same places of clean crops, in the mean over their
    sizes; with the detector distilled."""
    attention: Literal["held", "learned"] = "held"
    """Whether the relation and grouping losses may move the attention that weighs them. The paper's may, and then the
    attention grows until one cell's relation to itself is all that counts; see docs/training.md."""
    points: Literal["attention", "even"] = "attention"
    """How the descriptor loss weighs points: by their attention, as the paper does, or all alike. With few steps and
    gentle changes the two are one; with many, the attention grows at what is easy until a handful of points is all that
    is learned from, see docs/training.md."""
    detector_weight: float = 1.0
    descriptor_weight: float = 1.0
    relations_weight: float = 1.0
    groups_weight: float = 1.0
    edges_weight: float = 1.0
    positions_weight: float = 1.0
    ranking_weight: float = 1.0
    imitation_weight: float = 1.0
    temperature: float = 0.05
    """Of the dual softmax."""
    safe_radius: float = 6.0
    """Pixels around the true match that are no negatives."""
    attention_temperature: float = 15.0
    """T of eq. 6."""
    margin: float = 1.0
    """Of the triplet."""
    groups_margin: float = 0.07
    groups_temperature: float = 5.0


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. The presets are in training/presets.py."""

    sources: tuple[SourceConfig, ...] = ()
    output: str = "outputs/training"
    weights: str | None = None
    """Checkpoint to start from; None starts from scratch."""
    architecture: Architecture = field(
        default_factory=lambda: Architecture(attention="rows", sampling="exact", phases=4)
    )
    """Of the weights that are written; steps are taken with `step_phases`, whatever it says."""
    step_phases: int = 1
    """Pixel phases that steps are taken with, see `samfeat_hloc.phases`: 1, since crops lie anywhere and teach every
    phase, or those of the architecture, whose mean is then what is learned."""
    losses: LossConfig = field(default_factory=LossConfig)
    steps: int = 1900
    pairs: int = 6
    size: int = 192
    points: int = 400
    """Correspondences sampled in each pair."""
    points_at: Literal["cells", "keypoints"] = "cells"
    """Where: evenly, one of each 8x8 pixels at most, keypoints preferred in a cell; or at keypoints, of which two may
    lie as near to each other as at inference, and then elsewhere."""
    labeller: str | None = None
    """Weights whose own detector finds the keypoint targets, in both clean crops at the same place; None: corners."""
    label_density: float = 1 / 150
    """At most this many points per pixel, the labeller's best."""
    label_radius: int = 4
    """Pixels around a labeller's point that no other lies in: descriptors of points still nearer are hard to tell."""
    synthetic: float = 0.5
    """Share of the pairs drawn from a source with real pairs that are one photograph under a homography instead."""
    share: float = 1.0
    """Part of each source's views that is used, for ablations; the same at the same seed."""
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    schedule: Literal["cosine", "linear"] = "cosine"
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    gradient_clip: float = 5.0
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones exported; 0 exports the last."""
    start_share: float = 0.0
    """Part of `weights` in what is validated and exported, as `training.average` does it: fine-tuning forgets less."""
    homography: HomographyConfig = field(default_factory=HomographyConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    seed: int = 0
    resident_views: int = 8192
    """Views held in the device's memory; of a larger set, a chapter at a time."""
    chapter_steps: int = 2000
    """Steps until the next chapter."""
    validation: tuple[str, ...] = ()
    """Folders of homography sequences in HPatches layout; the weights with the best mean accuracy are kept."""
    validate_every: int = 500
    compile: bool = False
    tensorboard: bool = True
    """Write TensorBoard's files where the package is installed; log.jsonl is always written."""
    checkpoint_minutes: float = 3.0
    log_every: int = 10

    def __post_init__(self) -> None:
        positive = ("steps", "pairs", "points", "checkpoint_minutes", "log_every", "validate_every", "chapter_steps")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a positive number")
        if self.step_phases not in CHOICES:
            raise ConfigError(f"step_phases is {self.step_phases}; expected one of {', '.join(map(str, CHOICES))}")
        if self.size < 64 or self.size % 16:
            raise ConfigError(f"size is {self.size}; expected a multiple of 16, at least 64")
        if self.homography.tilt < 1:
            raise ConfigError(f"homography.tilt is {self.homography.tilt}; expected a stretch of at least 1")
        if not 0 <= self.start_share < 1 or (self.start_share and not self.weights):
            got = f"start_share is {self.start_share} with weights={self.weights}"
            raise ConfigError(f"{got}; expected a part in [0, 1) of the weights that the run starts from")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share is {self.share}; expected a part of the views, in (0, 1]")
        if not 0 < self.label_density <= 1 or self.label_radius < 1:
            got = f"label_density is {self.label_density}, label_radius {self.label_radius}"
            raise ConfigError(f"{got}; expected points per pixel, in (0, 1], and at least 1 pixel")
        if self.losses.detector == "distilled" and (self.labeller is None or self.losses.positions != "off"):
            raise ConfigError(
                "losses.detector=distilled wants a labeller, whose scores are learned, and losses.positions=off; "
                f"got labeller {self.labeller}, positions {self.losses.positions}"
            )
        if self.losses.imitation == "labeller" and self.losses.detector != "distilled":
            raise ConfigError(
                "losses.imitation=labeller learns what the labeller says through its looks; it wants "
                f"losses.detector=distilled, got {self.losses.detector}"
            )
        if self.resident_views < 2:
            raise ConfigError(f"resident_views is {self.resident_views}; expected at least 2")

    def unlabelled(self) -> TrainingConfig:
        """The same photographs, crops and points, with no labeller and nothing that wants one."""
        return replace(self, labeller=None, losses=replace(self.losses, detector="fused", imitation="off"))
