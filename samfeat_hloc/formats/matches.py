"""matches.h5: hloc's layout, one group per pair; int32, so that more than 32,767 keypoints have their index.

Group `pair_key(a, b)`: `matches0` (N0,) int32, the index in b of each keypoint of a, -1 for none;
`matching_scores0` (N0,) float16, in [0, 1]. The file records what the features were made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.h5store import ResumableH5, iterate_groups, open_h5
from samfeat_hloc.formats.journal import Record
from samfeat_hloc.formats.names import nearest_name, pair_key


class MatchWriter:
    """Writes matches.h5, pair by pair and resumable; see `ResumableH5` for what a kill leaves.

    Args:
        path: the h5 file.
        conf: the matcher's configuration as JSON values.
        features: `FeatureReader.signature` of the first images' features.
        features_ref: the same for the second images'; None when it is one file.

    Raises:
        InputError: `path` was made with another matcher or from other features.
    """

    def __init__(
        self,
        path: Path | str,
        conf: Mapping[str, Any],
        features: Mapping[str, Any],
        features_ref: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        signature = {
            "kind": "matches",
            "conf": dict(conf),
            "features": dict(features),
            "features_ref": dict(features if features_ref is None else features_ref),
        }
        self._store = ResumableH5(path, signature, overwrite=overwrite)

    @property
    def done(self) -> set[str]:
        """Keys of the pairs that are already stored."""
        return self._store.done

    def has(self, name0: str, name1: str) -> bool:
        """Whether this pair is stored, in either order."""
        return pair_key(name0, name1) in self.done or pair_key(name1, name0) in self.done

    def add(
        self,
        name0: str,
        name1: str,
        matches0: npt.NDArray[np.integer[Any]],
        scores0: npt.NDArray[np.floating[Any]],
        num_keypoints1: int,
    ) -> None:
        """Store one pair: (N0,) index into the second image's keypoints or -1, and (N0,) scores.

        Raises:
            InputError: the pair is already stored, or an index is outside [-1, num_keypoints1).
        """
        matches0 = np.asarray(matches0, np.int32)
        if matches0.shape != scores0.shape or (len(matches0) and not -1 <= matches0.min() <= matches0.max()):
            raise InputError(f"matches of '{name0}' and '{name1}' have shapes {matches0.shape}, {scores0.shape}")
        if len(matches0) and matches0.max() >= num_keypoints1:
            raise InputError(
                f"a match of '{name0}' and '{name1}' has index {matches0.max()}; there are {num_keypoints1} keypoints"
            )
        arrays = {"matches0": matches0, "matching_scores0": np.asarray(scores0, np.float16)}
        attrs = {"": {"num_keypoints1": int(num_keypoints1)}}
        self._store.add(Record(pair_key(name0, name1), arrays, attrs))

    def __enter__(self) -> MatchWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, trace)


class MatchReader:
    """Reads matches.h5, ours or hloc's. A context manager.

    Raises:
        InputError: the file does not exist or is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._context = open_h5(self.path)
        self._file: h5py.File = self._context.__enter__()
        self.attrs: dict[str, Any] = dict(self._file.attrs.items())

    @property
    def keys(self) -> list[str]:
        """Keys of all stored pairs."""
        return [key for key in iterate_groups(self._file) if "matches0" in self._file[key]]

    def has(self, name0: str, name1: str) -> bool:
        """Whether this pair is stored, in either order."""
        return pair_key(name0, name1) in self._file or pair_key(name1, name0) in self._file

    def read(self, name0: str, name1: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Matches of a pair, whichever order it is stored in.

        Returns:
            (M, 2) int32 keypoint indices, the first column into name0's; and (M,) float32 scores.

        Raises:
            InputError: the pair is not stored.
        """
        key, matches, reverse = self._indices(name0, name1)
        scores = self._array(f"{key}/matching_scores0", np.float32)
        scores = np.ones(len(matches), np.float32) if scores is None else scores[matches[:, 1 if reverse else 0]]
        if reverse:
            order = np.argsort(matches[:, 0], kind="stable")
            matches, scores = np.ascontiguousarray(matches[order]), scores[order]
        return matches, scores

    def read_indices(self, name0: str, name1: str) -> npt.NDArray[np.int32]:
        """The matches of `read` without their scores, in half the time.

        Raises:
            InputError: the pair is not stored.
        """
        _, matches, reverse = self._indices(name0, name1)
        return np.ascontiguousarray(matches[np.argsort(matches[:, 0], kind="stable")]) if reverse else matches

    def _indices(self, name0: str, name1: str) -> tuple[str, npt.NDArray[np.int32], bool]:
        """Key, (M, 2) matches in the stored order, and whether that is the reverse of the one asked for."""
        for key, reverse in ((pair_key(name0, name1), False), (pair_key(name1, name0), True)):
            matches0 = self._array(f"{key}/matches0", np.int32)
            if matches0 is not None:
                index0 = np.flatnonzero(matches0 >= 0).astype(np.int32)
                columns = (matches0[index0], index0) if reverse else (index0, matches0[index0])
                return key, np.stack(columns, axis=1), reverse
        raise InputError(self._missing(name0, name1))

    def _array(self, path: str, dtype: type[np.generic]) -> Any:
        """A dataset, or None. h5py's `file[path][()]` makes objects at every step and takes five times as long."""
        try:
            dataset = h5py.h5d.open(self._file.id, path.encode())
        except KeyError:
            return None
        values = np.empty(dataset.shape, dtype)
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
        return values

    def sizes(self, name0: str, name1: str) -> tuple[int, int | None]:
        """Keypoints of name0 and name1 when they were matched; None for a number the file does not have."""
        group, reverse = self._find(name0, name1)
        first = int(group["matches0"].shape[0])
        second = group.attrs.get("num_keypoints1")
        if reverse and second is None:
            raise InputError(
                f"{self.path} does not record the keypoints of '{name0}'; it was written by another program"
            )
        return (int(second), first) if reverse else (first, None if second is None else int(second))

    def _find(self, name0: str, name1: str) -> tuple[h5py.Group, bool]:
        for key, reverse in ((pair_key(name0, name1), False), (pair_key(name1, name0), True)):
            if key in self._file and "matches0" in self._file[key]:
                return self._file[key], reverse
        raise InputError(self._missing(name0, name1))

    def _missing(self, name0: str, name1: str) -> str:
        near = nearest_name(pair_key(name0, name1), self.keys)
        hint = f"; the nearest pair there is '{near}'" if near else ""
        return (
            f"{self.path} has no matches of '{name0}' and '{name1}'{hint}; run match_features with a pair list that "
            "has it"
        )

    def close(self) -> None:
        """Close the file."""
        self._context.__exit__(None, None, None)

    def __enter__(self) -> MatchReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
