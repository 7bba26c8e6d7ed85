"""Why a photograph is not in the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.two_view import MIN_NUM_INLIERS


@dataclass
class Connections:
    """What verification found for one photograph.

    Attributes:
        pairs: that were matched.
        most_matches: of one pair, before verification.
        inliers: other photograph -> verified matches.
    """

    pairs: int = 0
    most_matches: int = 0
    inliers: dict[str, int] = field(default_factory=dict)


def read_connections(database: Path) -> dict[str, Connections]:
    """The pairs of each photograph of a COLMAP database. Reads counts, no matches."""
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        found: dict[str, Connections] = defaultdict(Connections)
        for pair_id, count in zip(*opened.read_num_matches(), strict=True):
            for image_id in pycolmap.pair_id_to_image_pair(pair_id):
                entry = found[names[image_id]]
                entry.pairs += 1
                entry.most_matches = max(entry.most_matches, count)
        for pair_id, count in zip(*opened.read_two_view_geometry_num_inliers(), strict=True):
            if count < MIN_NUM_INLIERS:
                continue
            first, second = (names[image_id] for image_id in pycolmap.pair_id_to_image_pair(pair_id))
            found[first].inliers[second] = count
            found[second].inliers[first] = count
    return {name: found[name] for name in names.values()}


def reasons(
    photographs: Sequence[str],
    left_out: Mapping[str, str],
    connections: Mapping[str, Connections],
    models: Sequence[Sequence[str]],
    largest: int,
) -> dict[str, str]:
    """Photograph -> why it is not in the largest model; those that are in it are not in the result.

    Args:
        photographs: all that were asked for.
        left_out: why some were not even matched.
        connections: from `read_connections`.
        models: the photographs of each model.
        largest: number of the largest model.
    """
    inside = set(models[largest]) if models else set()
    found = {}
    for name in photographs:
        if name in left_out:
            found[name] = left_out[name]
        elif name not in inside:
            found[name] = _why(name, connections.get(name, Connections()), models, largest, inside)
    return found


def _why(name: str, known: Connections, models: Sequence[Sequence[str]], largest: int, inside: set[str]) -> str:
    elsewhere = [number for number, model in enumerate(models) if number != largest and name in model]
    if elsewhere:
        size = len(models[elsewhere[0]])
        return f"in model {elsewhere[0]}, of {size} photographs, which has too little in common with the largest"
    if not known.pairs:
        return "in no pair: retrieval and file order gave it no partner"
    if not known.inliers:
        return (
            f"none of its {known.pairs} pairs passed geometric verification: at most {known.most_matches} matches, and "
            "no more of them agreed on a geometry than chance explains; it shows another place, or from too far off"
        )
    best = max(known.inliers, key=lambda other: known.inliers[other])
    seen = (
        f"{len(known.inliers)} of its {known.pairs} pairs are verified, the best with {best} "
        f"({known.inliers[best]} inliers)"
    )
    if not inside & known.inliers.keys():
        return f"{seen}, but none with a photograph of the model"
    return f"{seen}, but the mapper found no pose that enough points of the model agree with"
