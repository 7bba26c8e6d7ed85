"""The options of the photographs' pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.common_options import check_least
from pipelines.photos_cameras import DEFAULT_MODEL
from pipelines.photos_pairs import EXHAUSTIVE_IMAGES, NUM_NEIGHBOURS, NUM_RETRIEVED
from pipelines.photos_scan import MAX_ASPECT
from samfeat_hloc.errors import ConfigError

RESIZE_MAX = 1600
"""Longer side of the image that features are found in, as in the conf `samfeat-aachen`: a photograph of 12 megapixels
would take 10 GB. Keypoints are in the photograph's own pixels."""

LEAST = {"max_keypoints": 1, "num_retrieved": 1, "num_neighbours": 0, "exhaustive_images": 2, "num_pictures": 0}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The pipeline's options; see ``--help``."""

    folder: Path
    outputs: Path | None = None
    features: tuple[str, ...] = ("samfeat",)
    mapper: tuple[str, ...] = ("incremental",)
    matcher: str = "auto"
    weights: str | None = None
    max_keypoints: int = 4096
    resize_max: int = RESIZE_MAX
    cameras: Path | None = None
    refine_cameras: bool = False
    camera_mode: str = "auto"
    camera_model: str = DEFAULT_MODEL
    max_aspect: float = MAX_ASPECT
    exhaustive_images: int = EXHAUSTIVE_IMAGES
    num_retrieved: int = NUM_RETRIEVED
    num_neighbours: int = NUM_NEIGHBOURS
    mapper_options: Mapping[str, Any] = field(default_factory=dict)
    num_pictures: int = 4
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_least(self, LEAST.items())
        if self.resize_max and self.resize_max < 32:
            raise ConfigError(f"--resize-max is {self.resize_max}; expected at least 32, or 0 for no limit")
        if self.max_aspect < 1:
            raise ConfigError(f"--max-aspect is {self.max_aspect}; expected at least 1")

    @property
    def out(self) -> Path:
        """Where everything goes."""
        return self.outputs or Path("outputs/photos") / self.folder.resolve().name
