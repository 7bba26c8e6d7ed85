"""Nearest-neighbour matching with true distances: settings, and the choice between two ways of computing.

On the CPU `screened.py`: a fast product names the candidates, exact costs decide. On CUDA `dense.py`: whole similarity
matrices in float32, many second images at once. `reference.py` is the same in plain steps; a test holds all equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers import Matches
from samfeat_hloc.matchers.dense import LIMIT as DENSE_LIMIT
from samfeat_hloc.matchers.dense import DenseOperand, make_dense, match_dense
from samfeat_hloc.matchers.operands import Operand, make_operand, rounded_to
from samfeat_hloc.matchers.products import Product, fast_format, make_product
from samfeat_hloc.matchers.screened import match_screened

CPU_CALL = 2**26  # similarities: four pairs of 4096 x 4096; calls of much less would be mostly overhead


@dataclass(frozen=True, kw_only=True)
class NearestNeighborConf:
    """Settings of nearest-neighbour matching.

    Attributes:
        mutual: keep a match only when each keypoint is the other's nearest.
        ratio: keep it only when its distance is at most `ratio` times that of the second nearest; with
            `mutual` in both directions (kornia's `match_smnn`), else in the first image's (`match_snn`). None: no test.
        distance: largest L2 distance of a match. None: no test.
        metric: "l2", the Euclidean distance; "dot", the largest dot product (the released implementation).
        weighting: "unit" matches the descriptors; "attention" matches attention * descriptor (the paper).
    """

    mutual: bool = True
    ratio: float | None = None
    distance: float | None = None
    metric: Literal["l2", "dot"] = "l2"
    weighting: Literal["unit", "attention"] = "unit"

    def __post_init__(self) -> None:
        if self.metric == "dot" and (self.ratio is not None or self.distance is not None):
            raise ConfigError("ratio and distance tests need distances: use metric='l2', or no test with 'dot'")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ConfigError(f"NearestNeighborConf.ratio is {self.ratio}; expected 0 < ratio <= 1")
        if self.distance is not None and self.distance <= 0:
            raise ConfigError(f"NearestNeighborConf.distance is {self.distance}; expected a positive number")


CONFS = {
    "nn-mutual": NearestNeighborConf(),
    "nn-ratio": NearestNeighborConf(ratio=0.9),
    "nn-attention": NearestNeighborConf(weighting="attention"),
    "released": NearestNeighborConf(metric="dot", weighting="attention"),
}


Prepared = Operand | DenseOperand
"""One image's descriptors as `match_many` takes them."""


class NearestNeighbor:
    """Nearest-neighbour matcher; runs on CUDA when there is one, unless `device` says otherwise.

    Args:
        name: of the conf.
        conf: the settings.
        device: cpu, cuda, cuda:N.
        product: number format of the candidates' product on the CPU; None: the fastest, see `products.py`.
        dense: whole similarity matrices, as on CUDA; None: on CUDA only.
    """

    def __init__(
        self,
        name: str,
        conf: NearestNeighborConf,
        device: str | None = None,
        product: torch.dtype | None = None,
        dense: bool | None = None,
    ) -> None:
        self.name = name
        self.conf = conf
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dense = self.device.type != "cpu" if dense is None else dense
        self.call_size = DENSE_LIMIT if self.dense else CPU_CALL
        fastest, self.wide = fast_format()
        self.product = product or fastest

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Match two images."""
        return self.match_many(self.prepare(features0), [self.prepare(features1)])[0]

    def prepare(self, features: Features) -> Any:
        """Weight the descriptors as the conf says and move them to the device, once for all pairs of the image."""
        weighted = self.conf.weighting == "attention"
        source = features.weighted_descriptors if weighted else features.descriptors
        descriptors = np.ascontiguousarray(source, np.float32)
        if self.dense:
            return make_dense(descriptors, self.conf.metric, self.device)
        return make_operand(descriptors, self.conf.metric, self.product, self.wide)

    def match_many(self, first: Any, others: Sequence[Any]) -> list[Matches]:
        """Match one image with each of the others.

        Raises:
            InputError: descriptors of different lengths.
        """
        for other in others:
            if len(first) and len(other) and first.dimension != other.dimension:
                lengths = first.dimension, other.dimension
                raise InputError(f"descriptors of length {lengths[0]} and {lengths[1]}; one extractor must make both")
        needed = 2 if self.conf.ratio is not None else 1  # as in kornia, a ratio needs a second neighbour
        enough_first = len(first) >= (needed if self.conf.mutual else 1)
        usable = [other for other in others if enough_first and len(other) >= needed]
        found = iter(self._match(first, usable) if usable else [])
        return [
            next(found) if enough_first and len(other) >= needed else _no_matches(len(first), len(other))
            for other in others
        ]

    def _match(self, first: Any, others: Sequence[Any]) -> list[Matches]:
        conf = self.conf
        if self.dense:
            return match_dense(first, others, conf.mutual, conf.ratio, conf.distance)
        product: Product | None = None
        found = []
        for other in others:
            both = {first.dtype, other.dtype}
            dtype = self.wide if len(both) > 1 else both.pop()
            if product is None or product.first.dtype != dtype:
                product = make_product(rounded_to(first, dtype))
            index, cost = match_screened(product, rounded_to(other, dtype), conf.mutual, conf.ratio)
            if conf.distance is not None:
                index = np.where(2 * cost <= conf.distance**2, index, -1)
            found.append(_result(first, other, index, cost))
        return found


def _result(first: Operand, other: Operand, index: Any, cost: Any) -> Matches:
    """Scores from the cosine of the matched descriptors: in [0, 1] whatever their lengths."""
    scores = np.zeros(len(first), np.float32)
    rows = np.flatnonzero(index >= 0)
    columns = index[rows]
    dots = first.halves[rows] + other.halves[columns] - cost[rows]
    cosine = dots / np.maximum(first.lengths[rows] * other.lengths[columns], 1e-12)
    scores[rows] = np.clip(0.5 + 0.5 * cosine, 0, 1)
    return Matches(index.astype(np.int32), scores, len(other))


def _no_matches(num0: int, num1: int) -> Matches:
    return Matches(np.full(num0, -1, np.int32), np.zeros(num0, np.float32), num1)


def create(name: str, conf: NearestNeighborConf) -> NearestNeighbor:
    """Make the matcher."""
    return NearestNeighbor(name, conf)
