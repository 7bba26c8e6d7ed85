"""Nearest-neighbour matching with true distances, one image against several at once.

One matrix product of the first image's descriptors with the stacked descriptors of the others gives the negative
squared distances, -|a - b|^2 = 2 a.b - |a|^2 - |b|^2, so ratio and distance tests hold for descriptors of any
length. The nearest neighbour of each row and the best value of each column are all that mutual matching needs: a
row's neighbour is mutual when its value is its column's best. `reference.py` is the same in plain steps; a test
holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers import Matches

CPU_BLOCK = 64 * 2**20  # similarities held at once: 256 MiB of float32; larger images are matched in parts
CUDA_BLOCK = 512 * 2**20
CPU_STACK = 6 * 2**20  # second images are stacked up to this many similarities: more leave the cache (measured)
CUDA_STACK = 256 * 2**20
ROUNDING = 1e-6  # of a squared distance, relative to the squared length of the descriptors


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


@dataclass(frozen=True)
class Prepared:
    """One image's descriptors on the matcher's device.

    Attributes:
        left: (N, K) rows of the product when the image is the first; K is D, or D + 2 for L2.
        right: (N, K) the same when it is a second image, so that `left @ right.T` is the similarity.
        norms: (N,) length of each descriptor.
    """

    left: torch.Tensor
    right: torch.Tensor
    norms: torch.Tensor

    def __len__(self) -> int:
        return len(self.left)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        shared = 0 if self.right is self.left else self.right.nbytes
        return int(self.left.nbytes + shared + self.norms.nbytes)


class NearestNeighbor:
    """Nearest-neighbour matcher; runs on CUDA when there is one, unless `device` says otherwise."""

    def __init__(self, name: str, conf: NearestNeighborConf, device: str | None = None) -> None:
        self.name = name
        self.conf = conf
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        on_cuda = self.device.type == "cuda"
        self.block = CUDA_BLOCK if on_cuda else CPU_BLOCK
        self.stack = CUDA_STACK if on_cuda else CPU_STACK

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Match two images."""
        return self.match_many(self.prepare(features0), [self.prepare(features1)])[0]

    def prepare(self, features: Features) -> Prepared:
        """Weight the descriptors as the conf says and move them to the device, once for all pairs of the image."""
        weighted = self.conf.weighting == "attention"
        source = features.weighted_descriptors if weighted else features.descriptors
        descriptors = torch.from_numpy(np.ascontiguousarray(source, np.float32)).to(self.device)
        norms = descriptors.norm(dim=1)
        if self.conf.metric == "dot":
            return Prepared(descriptors, descriptors, norms)
        squared = (descriptors * descriptors).sum(dim=1, keepdim=True)
        ones = torch.ones_like(squared)
        left = torch.cat([2 * descriptors, -squared, ones], dim=1)
        right = torch.cat([descriptors, ones, -squared], dim=1)
        return Prepared(left, right, norms)

    @torch.inference_mode()
    def match_many(self, first: Prepared, others: Sequence[Prepared]) -> list[Matches]:
        """Match one image with each of the others.

        Raises:
            InputError: descriptors of different lengths.
        """
        for other in others:
            if len(first) and len(other) and first.left.shape[1] != other.right.shape[1]:
                lengths = first.left.shape[1], other.right.shape[1]
                raise InputError(f"descriptors of length {lengths[0]} and {lengths[1]}; one extractor must make both")
        needed = 2 if self.conf.ratio is not None else 1  # as in kornia, a ratio needs a second neighbour
        enough_first = len(first) >= (needed if self.conf.mutual else 1)
        usable = [other for other in others if enough_first and len(other) >= needed]
        found = (matches for stacked in self._stacks(first, usable) for matches in self._match(first, stacked))
        return [
            next(found) if enough_first and len(other) >= needed else _no_matches(len(first), len(other))
            for other in others
        ]

    def _stacks(self, first: Prepared, others: Sequence[Prepared]) -> Iterator[list[Prepared]]:
        """Split the second images into groups of at most `stack` similarities, at least one image each."""
        stacked: list[Prepared] = []
        for other in others:
            if stacked and len(first) * (sum(map(len, stacked)) + len(other)) > self.stack:
                yield stacked
                stacked = []
            stacked.append(other)
        if stacked:
            yield stacked

    def _match(self, first: Prepared, others: Sequence[Prepared]) -> list[Matches]:
        right = others[0].right if len(others) == 1 else torch.cat([other.right for other in others])
        ends = np.cumsum([len(other) for other in others])
        spans = [slice(int(end) - len(other), int(end)) for end, other in zip(ends, others, strict=True)]
        rows = max(1, min(len(first), self.block // len(right)))
        tops = [_Top(len(first), span, right.device) for span in spans]
        similarity = torch.empty(0)
        for start, similarity in self._blocks(first.left, right, rows):
            for top in tops:
                top.add(start, similarity[:, top.span])
        keep = [top.keep(self.conf.mutual) for top in tops]
        if self.conf.ratio is not None:
            blocks = iter([(0, similarity)]) if rows >= len(first) else self._blocks(first.left, right, rows)
            for start, similarity in blocks:
                for top, kept in zip(tops, keep, strict=True):
                    top.add_second(start, similarity[:, top.span], kept)
            ratio, mutual = self.conf.ratio, self.conf.mutual
            least = ROUNDING * first.norms**2
            keep = [top.pass_ratio(kept, ratio, mutual, least) for top, kept in zip(tops, keep, strict=True)]
        if self.conf.distance is not None:
            lowest = -(self.conf.distance**2)
            keep = [kept & (top.value >= lowest) for top, kept in zip(tops, keep, strict=True)]
        pairs = zip(tops, keep, others, strict=True)
        return [self._result(first, other, top, kept) for top, kept, other in pairs]

    @staticmethod
    def _blocks(left: torch.Tensor, right: torch.Tensor, rows: int) -> Iterator[tuple[int, torch.Tensor]]:
        """The similarity matrix in blocks of rows: (first row, (rows, N1))."""
        for start in range(0, len(left), rows):
            yield start, left[start : start + rows] @ right.T

    def _result(self, first: Prepared, other: Prepared, top: _Top, keep: torch.Tensor) -> Matches:
        """Scores from the cosine of the matched descriptors: in [0, 1] whatever their lengths."""
        if self.conf.metric == "dot":
            dots = top.value
        else:
            dots = 0.5 * (top.value + first.norms**2 + other.norms[top.index] ** 2)
        cosine = dots / (first.norms * other.norms[top.index]).clamp(min=1e-12)
        scores = torch.where(keep, (0.5 + 0.5 * cosine).clamp(0, 1), 0.0)
        matches = torch.where(keep, top.index, -1).to(torch.int32)
        return Matches(matches.cpu().numpy(), scores.to(torch.float32).cpu().numpy(), len(other))


class _Top:
    """Best values of one second image's part of the similarity matrix, gathered over blocks of rows."""

    def __init__(self, num0: int, span: slice, device: torch.device) -> None:
        num1 = span.stop - span.start
        self.span = span
        self.value = torch.empty(num0, device=device)  # best of each row
        self.index = torch.empty(num0, dtype=torch.int64, device=device)
        self.best1 = torch.full((num1,), -torch.inf, device=device)  # best of each column
        self.second0 = torch.empty(num0, device=device)
        self.second1 = torch.full((num1,), -torch.inf, device=device)

    def add(self, start: int, similarity: torch.Tensor) -> None:
        rows = slice(start, start + len(similarity))
        index = _argmax_rows(similarity)
        self.index[rows] = index
        self.value[rows] = similarity.gather(1, index[:, None])[:, 0]
        self.best1 = torch.maximum(self.best1, _max_columns(similarity))

    def keep(self, mutual: bool) -> torch.Tensor:
        """(N0,) bool: the rows whose neighbour is mutual; among rows that tie for a column, the first."""
        if not mutual:
            return torch.ones_like(self.value, dtype=torch.bool)
        claims = torch.nonzero(self.value >= self.best1[self.index])[:, 0]
        num0 = len(self.value)
        winner = torch.full((len(self.best1),), num0, dtype=torch.int64, device=self.value.device)
        winner.scatter_reduce_(0, self.index[claims], claims, "amin")
        keep = torch.zeros(num0, dtype=torch.bool, device=self.value.device)
        keep[winner[winner < num0]] = True
        return keep

    def add_second(self, start: int, similarity: torch.Tensor, keep: torch.Tensor) -> None:
        """Second-best values of rows and columns: the block's maxima without the nearest neighbours themselves."""
        rows = slice(start, start + len(similarity))
        index = self.index[rows, None]
        without = similarity.scatter(1, index, -torch.inf)
        self.second0[rows] = without.amax(dim=1)
        # a column's best is a row's best only where the match is mutual; other columns are not asked for
        others = similarity.scatter(1, index, torch.where(keep[rows, None], -torch.inf, self.value[rows, None]))
        self.second1 = torch.maximum(self.second1, _max_columns(others))

    def pass_ratio(self, keep: torch.Tensor, ratio: float, mutual: bool, least: torch.Tensor) -> torch.Tensor:
        """Narrow `keep` to d_nearest <= ratio * d_second; a second at distance 0 (d^2 <= least) is ambiguous."""
        nearest = (-self.value).clamp(min=0)
        seconds = [self.second0, self.second1[self.index]] if mutual else [self.second0]
        for second in seconds:
            squared = (-second).clamp(min=0)
            keep = keep & (nearest <= ratio**2 * squared) & (squared > least)
        return keep


def _argmax_rows(matrix: torch.Tensor) -> torch.Tensor:
    """torch.argmax(matrix, 1); on the CPU numpy's is several times faster (measured, 4096 x 4096: 7 against 28 ms)."""
    if matrix.device.type == "cpu":
        return torch.from_numpy(matrix.numpy().argmax(axis=1))
    return matrix.argmax(dim=1)


def _max_columns(matrix: torch.Tensor) -> torch.Tensor:
    """torch.amax(matrix, 0); numpy's on the CPU (7 against 20 ms)."""
    if matrix.device.type == "cpu":
        return torch.from_numpy(matrix.numpy().max(axis=0))
    return matrix.amax(dim=0)


def _no_matches(num0: int, num1: int) -> Matches:
    return Matches(np.full(num0, -1, np.int32), np.zeros(num0, np.float32), num1)


def create(name: str, conf: NearestNeighborConf) -> NearestNeighbor:
    """Make the matcher."""
    return NearestNeighbor(name, conf)
