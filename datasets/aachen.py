"""Aachen Day-Night v1.0 and v1.1 as downloaded, and any folder in that layout."""

from __future__ import annotations

import shutil
from pathlib import Path

from datasets.nvm import read_nvm
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.layout import CONDITIONS, AachenLayout


def reference_model(layout: AachenLayout, cache: Path) -> Path:
    """Folder of the COLMAP reference model; the NVM of v1.0 is converted once, into ``cache``.

    Raises:
        InputError: a damaged model, or one whose images are not there.
    """
    if layout.model is not None:
        return layout.model
    if layout.nvm is None or layout.intrinsics is None:
        raise InputError(f"{layout.root} has no reference model")
    if not cache.is_dir():
        partial = cache.with_name(cache.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        read_nvm(layout.nvm, layout.intrinsics).write(partial)
        partial.rename(cache)
    return cache


def database_images(model: pycolmap.Reconstruction, layout: AachenLayout) -> list[str]:
    """Names of the reference model's images, sorted.

    Raises:
        InputError: the model is empty.
    """
    names = sorted(image.name for image in model.images.values())
    if not names:
        raise InputError(f"the reference model of {layout.root} has no images; expected the database's cameras")
    return names


def queries_by_condition(layout: AachenLayout) -> dict[str, list[str]]:
    """Names of the day and night queries; conditions without a list are left out.

    Raises:
        InputError: no list, or malformed ones.
    """
    found = {condition: [query.name for query in layout.queries(condition)] for condition in CONDITIONS}
    found = {condition: names for condition, names in found.items() if names}
    if not found:
        raise InputError(
            f"{layout.root} has no queries; expected queries/day_time_queries_with_intrinsics.txt or night"
        )
    return found
