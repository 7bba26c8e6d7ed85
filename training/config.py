"""Everything a training run can be told, in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.model import Architecture


@dataclass(frozen=True)
class HomographyConfig:
    """Random homography between the two crops of a photograph (sizes relative to the crop's side)."""

    rotation_deg: float = 30.0
    scale: float = 1.7
    """Largest relative zoom between the two crops; log-uniform in [1/scale, scale]."""
    perspective: float = 0.2
    """Largest displacement of each corner."""
    translation: float = 0.15
    source_zoom: tuple[float, float] = (0.7, 1.9)
    """Photograph pixels per crop pixel of the first crop."""


@dataclass(frozen=True)
class PhotometricConfig:
    """Photometric change, drawn independently for each crop."""

    strength: float = 1.0
    """Scales every magnitude; 0 leaves the crops as they are."""
    night: float = 0.2
    """Share of crops that are turned into night."""


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    The defaults are the recipe of the shipped weights, see samfeat_hloc/weights/README.md.
    """

    photos: tuple[str, ...] = ()
    """Folders of photographs."""
    output: str = "outputs/training"
    weights: str | None = None
    """Checkpoint to start from; None starts from scratch."""
    architecture: Architecture = field(default_factory=lambda: Architecture(attention="rows", sampling="exact"))
    steps: int = 1900
    pairs: int = 6
    size: int = 192
    points: int = 400
    """Correspondences sampled in each pair."""
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    gradient_clip: float = 5.0
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones exported."""
    temperature: float = 0.05
    safe_radius: float = 6.0
    """Pixels around the true match that are no negatives."""
    attention_temperature: float = 15.0
    """T of eq. 6."""
    detector_weight: float = 1.0
    descriptor_weight: float = 1.0
    homography: HomographyConfig = field(default_factory=HomographyConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    seed: int = 0
    max_photos: int | None = None
    max_side: int = 512
    """Photographs are held in memory with their long side reduced to this."""
    checkpoint_minutes: float = 3.0
    log_every: int = 10

    def __post_init__(self) -> None:
        positive = ("steps", "pairs", "points", "temperature", "checkpoint_minutes", "log_every", "max_side")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a positive number")
        if self.size < 64 or self.size % 16:
            raise ConfigError(f"size is {self.size}; expected a multiple of 16, at least 64")
        for folder in self.photos:
            if not Path(folder).is_dir():
                raise ConfigError(f"photos names {folder}, which is no folder; give folders of photographs")
