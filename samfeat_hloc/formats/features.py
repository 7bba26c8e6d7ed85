"""features.h5: one group per image, in hloc's layout, with the attention apart.

Per image: `keypoints` (N, 2) float32 x, y in stored pixels, centre of the top-left pixel = (0, 0);
`descriptors` (D, N) float16; `scores` (N,) float32; `attention` (N,) float32; `image_size` (2,) int32 w, h;
`keypoints.attrs["uncertainty"]` in pixels.
Per file: format version, package version, conf, sha256 of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.h5store import ResumableH5, iterate_groups, journal_path, open_h5, read_signature
from samfeat_hloc.formats.journal import Record, read_header
from samfeat_hloc.formats.names import check_known, check_names

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """The local features of one image.

    Attributes:
        keypoints: (N, 2) float32 x, y in pixels; the centre of the top-left pixel is (0, 0).
        descriptors: (N, D) float32, L2-normalised.
        scores: (N,) float32, the detector's confidence, best first.
        attention: (N,) float32, SAMFeat's weight of each descriptor; ones for an extractor that has none.
        image_size: width and height in pixels.
        uncertainty: standard deviation of a keypoint's position in pixels.
    """

    keypoints: Float32Array
    descriptors: Float32Array
    scores: Float32Array
    attention: Float32Array
    image_size: tuple[int, int]
    uncertainty: float = 1.0

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        shapes = (self.keypoints.shape, self.descriptors.shape, self.scores.shape, self.attention.shape)
        if (
            shapes[0] != (count, 2)
            or self.descriptors.ndim != 2
            or len(self.descriptors) != count
            or shapes[2:] != ((count,), (count,))
        ):
            raise InputError(
                "features of one image disagree: keypoints {}, descriptors {}, scores {}, attention {}; "
                "expected "
                "(N, 2), (N, D), (N,), (N,)".format(*shapes)
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def weighted_descriptors(self) -> Float32Array:
        """(N, D) attention * descriptor: what the paper matches."""
        return self.descriptors * self.attention[:, None]


class FeatureWriter:
    """Writes features.h5, item by item and resumable; see `ResumableH5` for what a kill leaves.

    Args:
        path: the h5 file.
        conf: the extractor's configuration as JSON values.
        weights_sha256: of the extractor's weights; "" for an extractor that has none.
        as_half: descriptors as float16 (keypoints stay float32: float16 steps by a pixel beyond x = 1024).
        overwrite: replace `path` when the block ends.
        precision: number format of the network where the conf leaves it to the machine; "" when there is no choice.

    Raises:
        InputError: `path` was made with another conf or other weights, or in another precision. (Files from before the
            precision was recorded are continued in any, as they were then.)
    """

    def __init__(
        self,
        path: Path | str,
        conf: Mapping[str, Any],
        weights_sha256: str = "",
        *,
        as_half: bool = True,
        overwrite: bool = False,
        precision: str = "",
    ) -> None:
        self._dtype = np.float16 if as_half else np.float32
        signature = {
            "kind": "features",
            "conf": dict(conf),
            "weights_sha256": weights_sha256,
            "descriptor_dtype": np.dtype(self._dtype).name,
        }
        if precision and (overwrite or not _without_precision(Path(path))):
            signature["precision"] = precision
        self._store = ResumableH5(path, signature, overwrite=overwrite)

    @property
    def done(self) -> set[str]:
        """Names that are already stored."""
        return self._store.done

    def add(self, name: str, features: Features, attrs: Mapping[str, Any] | None = None) -> None:
        """Store the features of one image; `attrs` become attributes of its group.

        Raises:
            InputError: the name is not allowed or already stored, or a value is not finite.
        """
        check_names([name], str(self._store.path))
        arrays: dict[str, npt.NDArray[Any]] = {
            "keypoints": features.keypoints.astype(np.float32, copy=False),
            "descriptors": features.descriptors.T.astype(self._dtype),
            "scores": features.scores.astype(np.float32, copy=False),
            "attention": features.attention.astype(np.float32, copy=False),
            "image_size": np.asarray(features.image_size, np.int32),
        }
        for key, array in arrays.items():
            if not np.isfinite(array).all():
                raise InputError(f"the {key} of '{name}' are not all finite; check the extractor's weights")
        uncertainty = {"uncertainty": float(features.uncertainty)}
        self._store.add(Record(name, arrays, {"keypoints": uncertainty, "": attrs or {}}))

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, trace)


def _without_precision(path: Path) -> bool:
    """Whether there are features of this path, finished or not, that do not say in which precision they were made."""
    journal = journal_path(path)
    found = (read_header(journal) or {}).get("signature")
    if found is None and path.exists():
        found = read_signature(path)
    return found is not None and "precision" not in found


class FeatureReader:
    """Reads features.h5, ours or hloc's (no attention -> ones, float16 keypoints accepted). A context
    manager.

    Raises:
        InputError: the file does not exist, is damaged, or has no features.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._context = open_h5(self.path)
        self._file: h5py.File = self._context.__enter__()
        self.names: list[str] = [name for name in iterate_groups(self._file) if "keypoints" in self._file[name]]
        self._known = frozenset(self.names)
        self.attrs: dict[str, Any] = dict(self._file.attrs.items())
        if not self.names:
            self.close()
            raise InputError(f"{self.path} has no features; make it with extract_features")

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def signature(self) -> dict[str, Any]:
        """What the features were made with: conf and weights; for a file of another program its path."""
        if "weights_sha256" not in self.attrs:
            return {"file": self.path.name}
        return {"conf": json.loads(self.attrs["conf"]), "weights_sha256": str(self.attrs["weights_sha256"])}

    def check(self, names: Sequence[str], source: str) -> None:
        """Check that every name is here.

        Raises:
            InputError: with the first missing names and the nearest known one.
        """
        check_known(names, self._known, source, str(self.path))

    def num_keypoints(self, name: str) -> int:
        """Number of keypoints of one image, without reading them."""
        return int(self._group(name)["keypoints"].shape[0])

    def read(self, name: str) -> Features:
        """The features of one image.

        Raises:
            InputError: unknown name, or no local descriptors.
        """
        group = self._group(name)
        if "descriptors" not in group:
            raise InputError(f"{self.path}: '{name}' has keypoints but no descriptors; extract the features again")
        keypoints = np.asarray(group["keypoints"][()], np.float32).reshape(-1, 2)
        count = len(keypoints)
        descriptors = group["descriptors"][()].T.astype(np.float32, order="C")
        if count == 0:
            descriptors = descriptors.reshape(0, descriptors.shape[-1] or max(descriptors.shape))
        ones = np.ones(count, np.float32)
        size = group["image_size"][()] if "image_size" in group else (0, 0)
        return Features(
            keypoints=keypoints,
            descriptors=descriptors,
            scores=np.asarray(group["scores"][()], np.float32) if "scores" in group else ones,
            attention=np.asarray(group["attention"][()], np.float32) if "attention" in group else ones,
            image_size=(int(size[0]), int(size[1])),
            uncertainty=float(group["keypoints"].attrs.get("uncertainty", 1.0)),
        )

    def read_keypoints(self, name: str) -> Float32Array:
        """(N, 2) float32 keypoints of one image, without its descriptors."""
        keypoints: Float32Array = np.asarray(self._group(name)["keypoints"][()], np.float32).reshape(-1, 2)
        return keypoints

    def uncertainty(self, name: str) -> float:
        """Standard deviation of one image's keypoints in pixels; 1 where the file does not say."""
        return float(self._group(name)["keypoints"].attrs.get("uncertainty", 1.0))

    def item_attrs(self, name: str) -> dict[str, Any]:
        """Attributes of one image's group."""
        return dict(self._group(name).attrs.items())

    def _group(self, name: str) -> h5py.Group:
        if name not in self._known:
            self.check([name], "request")
        return self._file[name]

    def close(self) -> None:
        """Close the file."""
        self._context.__exit__(None, None, None)

    def __enter__(self) -> FeatureReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
