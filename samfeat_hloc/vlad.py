"""VLAD global descriptors from local ones: retrieval without a second network.

The codebook is learnt from the map's own descriptors. An image's descriptor sums, for each visual word, the
residuals of the local descriptors nearest to it (Jegou et al., CVPR 2010), each residual of unit length (Delhumeau et
al., ACM MM 2013); every word's sum has a signed square root and is L2-normalised on its own (intra-normalisation,
Arandjelovic and Zisserman, CVPR 2013), then the whole is L2-normalised. An image without features has the zero
vector: no retrieval.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import FeatureReader, Features

logger = logging.getLogger(__name__)
MIN_PER_WORD = 8  # descriptors; fewer make words of single outliers
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class VLADConf:
    """Settings of the global descriptor.

    Attributes:
        words: visual words of the codebook; fewer when the map has too few descriptors. More find darkened queries
            better, at 4 * words * D bytes an image; beyond 256 the gain is small (see benchmarks/retrieval.py).
        max_keypoints: best local features used of an image.
        power: exponent of the signed power normalisation; 1 for none.
        unit_residuals: every residual has unit length before it is summed.
        training_descriptors: sampled for k-means, evenly over the images.
        iterations: of k-means.
        seed: of sampling and k-means.
    """

    words: int = 256
    max_keypoints: int = 2048
    power: float = 0.5
    unit_residuals: bool = True
    training_descriptors: int = 100_000
    iterations: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("words", "max_keypoints", "training_descriptors", "iterations"):
            if getattr(self, key) < 1:
                raise ConfigError(f"VLADConf.{key} is {getattr(self, key)}; expected at least 1")
        if not 0 < self.power <= 1:
            raise ConfigError(f"VLADConf.power is {self.power}; expected 0 < power <= 1")


@dataclass(frozen=True)
class Codebook:
    """Visual words, and what they were learnt from.

    Attributes:
        centroids: (K, D) float32.
        conf: settings.
        features: `FeatureReader.signature` of the local features: descriptors of other weights have other words.
    """

    centroids: Float32Array
    conf: VLADConf
    features: Mapping[str, Any]

    @classmethod
    def train(
        cls, features_path: Path | str, names: Sequence[str] | None = None, conf: VLADConf | None = None
    ) -> Codebook:
        """Learn the words from the images `names` of a features file; None: from all.

        Raises:
            InputError: an unknown name, or no descriptor at all.
        """
        conf = conf or VLADConf()
        with FeatureReader(features_path) as reader:
            names = list(reader.names if names is None else names)
            reader.check(names, "images of the codebook")
            sample = _sample_descriptors(reader, names, conf)
            signature = reader.signature
        if len(sample) == 0:
            raise InputError(f"{features_path}: the {len(names)} images of the codebook have no feature at all")
        words = max(1, min(conf.words, len(sample) // MIN_PER_WORD))
        if words < conf.words:
            logger.warning("warning: %d descriptors are too few for %d words; using %d", len(sample), conf.words, words)
        return cls(_kmeans(sample, words, conf), conf, signature)

    @property
    def sha256(self) -> str:
        """Of the words and settings; global descriptors are comparable only when it is the same."""
        digest = hashlib.sha256(json.dumps(self._meta(), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.centroids, "<f4").tobytes())
        return digest.hexdigest()

    @property
    def dimension(self) -> int:
        """Length of a global descriptor."""
        return int(self.centroids.size)

    def encode(self, features: Features) -> Float32Array:
        """(K * D,) float32 global descriptor of one image, of unit length; zeros when it has no features.

        Raises:
            InputError: local descriptors of another length than the codebook's.
        """
        words, length = self.centroids.shape
        order = np.argsort(-features.scores, kind="stable")[: self.conf.max_keypoints]
        local = features.descriptors[order]
        if len(local) == 0:
            return np.zeros(words * length, np.float32)
        if local.shape[1] != length:
            raise InputError(
                f"local descriptors of length {local.shape[1]}; the codebook was made from length {length}; "
                "make it again from these features"
            )
        nearest = (local @ self.centroids.T - 0.5 * (self.centroids**2).sum(axis=1)).argmax(axis=1)
        residuals = local - self.centroids[nearest]
        if self.conf.unit_residuals:
            residuals = _unit(residuals)
        members = np.zeros((words, len(local)), np.float32)
        members[nearest, np.arange(len(local))] = 1
        sums = members @ residuals
        sums = np.sign(sums) * np.abs(sums) ** self.conf.power
        return _unit(_unit(sums).reshape(1, -1))[0].astype(np.float32)

    def save(self, path: Path | str) -> None:
        """Write an .npz file, whole or not at all."""
        with replace_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, centroids=self.centroids, meta=np.array(json.dumps(self._meta(), sort_keys=True)))

    @classmethod
    def load(cls, path: Path | str) -> Codebook:
        """Read a codebook.

        Raises:
            InputError: no such file, or no codebook.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"the codebook {path} does not exist; make it with samfeat_hloc.global_descriptors")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                meta = json.loads(str(arrays["meta"]))
                centroids = np.ascontiguousarray(arrays["centroids"], np.float32)
            return cls(centroids, from_dict(VLADConf, meta["conf"]), meta["features"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path} is not a codebook ({error}); delete it and make it again") from None

    def _meta(self) -> dict[str, Any]:
        return {"conf": to_dict(self.conf), "features": dict(self.features)}


def _sample_descriptors(reader: FeatureReader, names: Sequence[str], conf: VLADConf) -> Float32Array:
    """(M, D) local descriptors, the same number from each image as far as it has them."""
    rng = np.random.default_rng(conf.seed)
    share = -(-conf.training_descriptors // max(len(names), 1))
    images = names
    if conf.training_descriptors < len(names):  # more images than descriptors wanted: one each, of some
        images = [names[i] for i in np.sort(rng.choice(len(names), conf.training_descriptors, replace=False))]
    parts = []
    for name in images:
        features = reader.read(name)
        best = np.argsort(-features.scores, kind="stable")[: conf.max_keypoints]
        if len(best) > share:
            best = np.sort(rng.choice(best, share, replace=False))
        if len(best):
            parts.append(features.descriptors[best])
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def _kmeans(sample: Float32Array, words: int, conf: VLADConf) -> Float32Array:
    import faiss

    kmeans = faiss.Kmeans(
        sample.shape[1],
        words,
        niter=conf.iterations,
        seed=conf.seed + 1,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-len(sample) // words)),
    )
    kmeans.train(np.ascontiguousarray(sample, np.float32))
    return np.ascontiguousarray(kmeans.centroids, np.float32).reshape(words, sample.shape[1])


def _unit(rows: Float32Array) -> Float32Array:
    """Rows of unit length; zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, 1e-12)
