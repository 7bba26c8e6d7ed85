"""Filling a COLMAP database: images, keypoints, and pairs with their geometric verification.

Pairs are committed in blocks, each with its matches and its verified geometry in one transaction, so that a kill loses
at most the block in work; the next run goes on with the pairs that have no matches yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import pycolmap, to_colmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import Pair
from samfeat_hloc.progress import progress
from samfeat_hloc.two_view import View

PAIRS_A_BLOCK = 64

Matches: TypeAlias = npt.NDArray[np.int32]
Verify: TypeAlias = Callable[[View, View, Matches], "pycolmap.TwoViewGeometry | None"]


@dataclass
class PairCounts:
    """What verification did.

    Attributes:
        pairs: pairs in the list, a pair and its reverse counted once.
        verified: of these, the pairs that keep enough matches.
        matches: matches of all pairs.
        inliers: verified matches.
    """

    pairs: int = 0
    verified: int = 0
    matches: int = 0
    inliers: int = 0


def write_images(database: pycolmap.Database, model: pycolmap.Reconstruction) -> None:
    """Write cameras, rigs, frames and images of a model with their ids."""
    for camera in model.cameras.values():
        database.write_camera(camera, use_camera_id=True)
    for rig in model.rigs.values():
        database.write_rig(rig, use_rig_id=True)
    for frame in model.frames.values():
        database.write_frame(frame, use_frame_id=True)
    for image in model.images.values():
        database.write_image(image, use_image_id=True)


def write_keypoints(database: pycolmap.Database, image_ids: Mapping[str, int], features: FeatureReader) -> None:
    """Write the keypoints of the images that have features, in COLMAP's pixel coordinates."""
    for name in progress(image_ids, total=len(image_ids), desc="keypoints", unit="image"):
        if name in features:
            points2D = to_colmap(features.read_keypoints(name))
            database.write_keypoints(image_ids[name], points2D.astype(np.float32))


def check_made_from(matches: MatchReader, features: FeatureReader, role: str = "features") -> None:
    """Check that the matches were made from these features.

    Args:
        matches: the matches.
        features: the features.
        role: `features` for the first images of the pairs, `features_ref` for the second.

    Raises:
        InputError: they were made with another conf or other weights.
    """
    recorded = matches.attrs.get(role)
    if recorded is None or "weights_sha256" not in features.attrs:
        return  # one of the files is another program's
    import json

    if json.loads(recorded) != json.loads(json.dumps(features.signature)):
        raise InputError(
            f"{matches.path} was made from other features than {features.path} (another conf or other weights); "
            "match these features again into another file"
        )


def write_verified_pairs(
    database: pycolmap.Database,
    image_ids: Mapping[str, int],
    pairs: Sequence[Pair],
    matches: MatchReader,
    min_match_score: float | None,
    view: Callable[[str], View],
    verify: Verify,
) -> PairCounts:
    """Write matches and verified geometry of every pair that the database does not have yet.

    A pair with too few verified matches gets its matches and no geometry: COLMAP then leaves it out, and a later run
    knows that it was looked at.

    Args:
        database: open, with images and keypoints.
        image_ids: id of each image name.
        pairs: unique image names; a pair and its reverse count as one.
        matches: where the matches are.
        min_match_score: matches must score higher; None keeps all.
        view: the view of an image name.
        verify: geometry of two views and their (M, 2) matches, or None. Called from several threads.

    Raises:
        InputError: a pair has no matches stored, or a match refers to a keypoint that does not exist.
    """
    ordered = [(a, b) if image_ids[a] < image_ids[b] else (b, a) for a, b in pairs]
    missing = [(a, b) for a, b in ordered if not database.exists_matches(image_ids[a], image_ids[b])]

    def load(pair: Pair) -> tuple[View, View, Matches]:
        if min_match_score is None:
            found = matches.read_indices(*pair)
        else:
            found, scores = matches.read(*pair)
            found = found[scores > min_match_score]
        views = view(pair[0]), view(pair[1])
        for column, (name, seen) in enumerate(zip(pair, views, strict=True)):
            if len(found) and found[:, column].max() >= len(seen.points2D):
                raise InputError(
                    f"{matches.path}: a match of {pair} refers to keypoint {found[:, column].max()} of '{name}', which "
                    f"has {len(seen.points2D)}; match the current features again"
                )
        return *views, found

    bar = iter(progress(missing, total=len(missing), desc="verify pairs", unit="pair"))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for block in _blocks(bar, PAIRS_A_BLOCK):
            inputs = [load(pair) for pair in block]
            geometries = list(pool.map(lambda item: verify(*item), inputs))
            with pycolmap.DatabaseTransaction(database):
                for (name0, name1), (_, _, found), geometry in zip(block, inputs, geometries, strict=True):
                    ids = image_ids[name0], image_ids[name1]
                    database.write_matches(*ids, found.astype(np.uint32))
                    if geometry is not None:
                        database.write_two_view_geometry(*ids, geometry)
    return PairCounts(
        len(pairs), database.num_verified_image_pairs(), database.num_matches(), database.num_inlier_matches()
    )


def _blocks(items: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
