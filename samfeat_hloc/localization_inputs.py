"""What localization is given: checked before any work, and recorded with the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.correspondences import MatchedImage
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.journal import Journal
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.names import nearest_name
from samfeat_hloc.scene import Scene
from samfeat_hloc.stage_folder import model_digest


def written_names(names: Sequence[str], prepend_camera_name: bool) -> dict[str, str]:
    """Name of each query in the poses file.

    Raises:
        InputError: two queries would have one name there, as those of one base name.
    """
    written = {name: "/".join(name.split("/")[-2 if prepend_camera_name else -1 :]) for name in names}
    owner: dict[str, str] = {}
    for name, short in written.items():
        if owner.setdefault(short, name) != name:
            raise InputError(
                f"the queries '{owner[short]}' and '{name}' would both be '{short}' in the poses file; "
                "use prepend_camera_name, or rename one"
            )
    return written


def unreadable_queries(features: FeatureReader, names: Sequence[str]) -> set[str]:
    """Queries without features that extract_features reported as unreadable.

    Raises:
        InputError: a query has no features and was not reported.
    """
    missing = [name for name in names if name not in features]
    report = features.path.with_suffix(".skipped.json")
    reported = {row["name"] for row in json.loads(report.read_text())} if report.is_file() else set()
    features.check([name for name in missing if name not in reported], "the query list")
    return set(missing)


def check_matches(matches: MatchReader, pairs: Mapping[str, list[str]], names: Sequence[str], scene: Scene) -> None:
    """Check that all matches are there before the work starts.

    Raises:
        InputError: with the number of missing pairs, one of them, and the likely cause.
    """
    wanted = [(name, other) for name in names for other in pairs.get(name, []) if other in scene]
    missing = [pair for pair in wanted if not matches.has(*pair)]
    if missing:
        raise InputError(
            f"{matches.path} has no matches for {len(missing)} of {len(wanted)} retrieved pairs, for example "
            f"{missing[0][0]} {missing[0][1]}; run match_features with the same pair list"
        )
    known = set(names)
    if names and not known & pairs.keys():
        near = nearest_name(names[0], pairs)
        hint = f"; the nearest name to '{names[0]}' there is '{near}'" if near else ""
        raise InputError(f"the retrieval list has pairs of none of the {len(names)} queries{hint}")


def model_signature(reference: Path | str | pycolmap.Reconstruction) -> str:
    """What the results' record says of the model."""
    if isinstance(reference, pycolmap.Reconstruction):
        return f"in memory: {reference.num_images()} images, {reference.num_points3D()} points"
    return model_digest(Path(reference), with_points=True)


def digest(values: Any) -> str:
    """sha256 of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def open_journal(path: Path, settings: Mapping[str, Any], overwrite: bool) -> Journal:
    """The journal of finished queries, of these settings.

    Raises:
        InputError: it has results of other settings, and they are not to be overwritten.
    """
    header = {"settings": json.loads(json.dumps(settings))}
    journal = Journal.open(path, header)
    if journal.header == header:
        return journal
    if overwrite:
        journal.unlink()
        return Journal.open(path, header)
    journal.close()
    old, new = journal.header.get("settings", {}), header["settings"]
    different = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    raise InputError(
        f"{path} holds results made from other inputs (different: {', '.join(different)}); give another results file, "
        "or overwrite=True (--overwrite) to replace them"
    )


def matched_images(matches: MatchReader, query: str, names: Sequence[str], scene: Scene) -> list[MatchedImage]:
    """A query's matches with images of the map; their scores are read when they are asked for.

    Raises:
        InputError: a pair is not stored.
    """

    def scores(name: str) -> npt.NDArray[np.float32]:
        return matches.read(query, name)[1]

    return [
        MatchedImage(matches.read_indices(query, name), scene.observed(name), partial(scores, name)) for name in names
    ]
