"""global.h5: one group per image, `global_descriptor` (D,) float32, in hloc's layout.

Per file: format version, package version, conf, sha256 of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import Float32Array
from samfeat_hloc.formats.h5store import ResumableH5, iterate_groups, open_h5
from samfeat_hloc.formats.journal import Record
from samfeat_hloc.formats.names import check_known, check_names


class GlobalWriter:
    """Writes global descriptors, `global_descriptor` (D,) float32 per image, resumable as `FeatureWriter`."""

    def __init__(
        self, path: Path | str, conf: Mapping[str, Any], weights_sha256: str = "", *, overwrite: bool = False
    ) -> None:
        signature = {"kind": "global_descriptors", "conf": dict(conf), "weights_sha256": weights_sha256}
        self._store = ResumableH5(path, signature, overwrite=overwrite)

    @property
    def done(self) -> set[str]:
        """Names that are already stored."""
        return self._store.done

    def add(self, name: str, descriptor: Float32Array) -> None:
        """Store the (D,) descriptor of one image."""
        check_names([name], str(self._store.path))
        if descriptor.ndim != 1 or not np.isfinite(descriptor).all():
            raise InputError(f"the global descriptor of '{name}' is not a finite vector; got shape {descriptor.shape}")
        self._store.add(Record(name, {"global_descriptor": descriptor.astype(np.float32, copy=False)}))

    def __enter__(self) -> GlobalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, trace)


def list_global_names(path: Path | str) -> list[str]:
    """Names of all images with a global descriptor, in the file's order."""
    with open_h5(path) as file:
        names = [name for name in iterate_groups(file) if "global_descriptor" in file[name]]
    if not names:
        raise InputError(f"{path} has no global descriptors; make it with samfeat_hloc.global_descriptors")
    return names


def read_global_descriptors(path: Path | str, names: Iterable[str]) -> Float32Array:
    """(len(names), D) float32 global descriptors, rows in the order of `names`.

    Raises:
        InputError: a name has none, or the lengths differ.
    """
    wanted = list(names)
    with open_h5(path) as file:
        missing = [name for name in wanted if name not in file or "global_descriptor" not in file[name]]
        if missing:
            known = [name for name in iterate_groups(file) if "global_descriptor" in file[name]]
            check_known(wanted, known, "request", str(path))
        rows = [np.asarray(file[name]["global_descriptor"][()], np.float32) for name in wanted]
    if len({row.shape for row in rows}) > 1:
        raise InputError(f"{path}: global descriptors have different lengths; make the file again with one codebook")
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
