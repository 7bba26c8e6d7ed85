"""Matchers by name. A matcher is one module with `CONFS` and `create`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from samfeat_hloc.config import resolve, to_dict
from samfeat_hloc.formats.features import Features

MODULES = {
    "nn-mutual": "samfeat_hloc.matchers.nearest_neighbor",
    "nn-ratio": "samfeat_hloc.matchers.nearest_neighbor",
    "nn-attention": "samfeat_hloc.matchers.nearest_neighbor",
    "released": "samfeat_hloc.matchers.nearest_neighbor",
}
"""Conf name -> its module, which has `CONFS: dict[str, conf dataclass]` and `create(name, conf) -> Matcher`."""


@dataclass(frozen=True)
class Matches:
    """Matches of two images.

    Attributes:
        matches0: (N0,) int32, the index in the second image of each keypoint of the first; -1 for none.
        scores0: (N0,) float32, (1 + cosine of the two descriptors) / 2; 0 where there is no match.
        num_keypoints1: of the second image.
    """

    matches0: npt.NDArray[np.int32]
    scores0: npt.NDArray[np.float32]
    num_keypoints1: int

    def indices(self) -> npt.NDArray[np.int32]:
        """(M, 2) int32 keypoint indices, ordered by the first."""
        index0 = np.flatnonzero(self.matches0 >= 0).astype(np.int32)
        return np.stack([index0, self.matches0[index0]], axis=1)

    def scores(self) -> npt.NDArray[np.float16]:
        """(M,) scores of these, as precise as `samfeat_hloc.formats.matches` stores them."""
        return self.scores0[self.matches0 >= 0].astype(np.float16)


class Matcher(Protocol):
    """Matches one image with several. Descriptors are prepared once an image, then used in any number of pairs.

    Attributes:
        name: of the conf.
        conf: a frozen dataclass, which determines the matches.
        call_size: similarities (keypoints times keypoints) from which one call of `match_many` has enough to do.
    """

    name: str
    conf: Any
    call_size: int

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Match two images."""
        ...

    def prepare(self, features: Features) -> Any:
        """What `match_many` needs of one image, on the matcher's device; has `nbytes` and a length (keypoints)."""
        ...

    def match_many(self, first: Any, others: Sequence[Any]) -> list[Matches]:
        """Match one prepared image with each of the others. Several threads call this at once."""
        ...


def get_matcher(conf: str | Mapping[str, Any], **overrides: Any) -> Matcher:
    """Make a matcher from a conf name, or a dict with "name" and fields that replace the named conf's.

    hloc's form `{"model": {"name": ..., ...}, "output": ...}` is accepted too; `overrides` replace fields.

    Raises:
        ConfigError: unknown name or key, or a bad value.
    """
    name, resolved = resolve("matcher", conf, MODULES, overrides)
    matcher: Matcher = importlib.import_module(MODULES[name]).create(name, resolved)
    return matcher


def matcher_signature(matcher: Matcher) -> dict[str, Any]:
    """What matches.h5 records as conf: the matcher's settings as JSON values. Names of equal settings are equal."""
    return {"matcher": type(matcher).__name__, **to_dict(matcher.conf)}
