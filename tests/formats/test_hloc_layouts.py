"""Files of ours and of hloc are the same but for what is listed here, and each side goes on from the other's files.

What hloc writes comes from `hloc_layouts.json`; where hloc's head can be imported it writes anew and the record is
checked too: PYTHONPATH=HLOC python -m pytest tests/formats/test_hloc_layouts.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import localize_sfm, pairs_from_retrieval, triangulation
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.global_features import GlobalWriter
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import read_pairs
from samfeat_hloc.formats.poses import read_poses, write_poses
from tests.formats.hloc_files import RECORD, Files, describe, small_world, write_by_hloc, write_ours
from tests.world import World

DIFFERENT = {
    # field: (hloc's, ours)
    "features.keypoints.dtype": ("float16", "float32"),  # float16 steps by a pixel beyond x = 1024
    "features.scores.dtype": ("float16", "float32"),
    "features.image_size.dtype": ("int64", "int32"),
    "features.attention.shape": (None, "N"),  # SAMFeat's own
    "features.attention.dtype": (None, "float32"),
    "features.scales.shape": ("N", None),  # SIFT's own
    "features.scales.dtype": ("float16", None),
    "features.oris.shape": ("N", None),
    "features.oris.dtype": ("float16", None),
    "matches.matches0.dtype": ("int16", "int32"),  # int16 ends at 32,767 keypoints
    "matches.matching_scores0 without a match": ("False", "True"),  # hloc leaves the similarity there; nobody reads it
    "model.files": (
        "cameras.bin database.db frames.bin images.bin points3D.bin rigs.bin",
        "cameras.bin database.db frames.bin images.bin points3D.bin rigs.bin stage.json",
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory.mktemp("hloc") / "world")


@pytest.fixture(scope="module")
def ours(world: World) -> Files:
    return write_ours(world)


@pytest.fixture(scope="module")
def theirs(world: World) -> Files:
    hloc = pytest.importorskip("hloc")
    if tuple(map(int, hloc.__version__.split(".")[:2])) < (1, 5):
        pytest.skip(f"hloc {hloc.__version__} does not run on pycolmap 4; its head does")
    return write_by_hloc(world)


@pytest.fixture(scope="module")
def recorded() -> dict[str, str]:
    return json.loads(RECORD.read_text())["fields"]


def differences(one: dict[str, str], other: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    keys = one.keys() | other.keys()
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def test_ours_are_hlocs_but_for_what_is_listed(ours: Files, world: World, recorded: dict[str, str]) -> None:
    assert differences(recorded, describe(ours, world)) == DIFFERENT


def test_the_record_is_what_hloc_writes(theirs: Files, world: World, recorded: dict[str, str]) -> None:
    assert describe(theirs, world) == recorded


def test_a_submission_has_base_names_as_hlocs(ours: Files, tmp_path: Path, recorded: dict[str, str]) -> None:
    poses = read_poses(ours.poses)
    write_poses(tmp_path / "named.txt", {f"query/day/{name}": pose for name, pose in poses.items()}, basename=True)
    assert " ".join(read_poses(tmp_path / "named.txt")) == recorded["poses.names"]


def test_we_read_hlocs_features(theirs: Files) -> None:
    with FeatureReader(theirs.features) as reader:
        features = reader.read("wall.png")
        assert reader.names == ["wall.png"]
    assert len(features) > 50
    assert features.descriptors.shape == (len(features), 128)
    assert features.image_size == (240, 180)
    assert (features.attention == 1).all()
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=2e-3)


def test_matches_of_both_are_equal(theirs: Files, ours: Files, world: World) -> None:
    with MatchReader(theirs.matches) as his, MatchReader(ours.matches) as mine:
        for pair in read_pairs(world.pairs_db):
            (his_matches, his_scores), (my_matches, my_scores) = his.read(*pair), mine.read(*pair)
            np.testing.assert_array_equal(his_matches, my_matches)
            np.testing.assert_allclose(his_scores, my_scores, atol=2e-3)
            assert len(my_matches) > 100


def test_hloc_reads_our_files(theirs: Files, ours: Files, world: World) -> None:
    from hloc.utils import io, parsers

    assert set(io.list_h5_names(ours.features)) == set(world.features_of)
    name0, name1 = world.database[:2]
    keypoints, uncertainty = io.get_keypoints(ours.features, name0, return_uncertainty=True)
    np.testing.assert_array_equal(keypoints, world.features_of[name0].keypoints)
    assert uncertainty == 1
    for pair in ((name0, name1), (name1, name0)):
        his, _ = io.get_matches(ours.matches, *pair)
        with MatchReader(ours.matches) as reader:
            mine, _ = reader.read(*pair)
        assert set(map(tuple, his)) == set(map(tuple, mine))
    retrieval = parsers.parse_retrieval(ours.pairs)
    assert [(a, b) for a, others in retrieval.items() for b in others] == read_pairs(ours.pairs)
    assert [name for name, _ in parsers.parse_image_lists(_queries(world), with_intrinsics=True)] == [
        query.name for query in world.queries
    ]


def test_both_localize_alike_on_each_others_models(theirs: Files, ours: Files, world: World, tmp_path: Path) -> None:
    from hloc import localize_sfm as hloc_localize

    for whose, model in (("hloc", theirs.model), ("samfeat", ours.model)):
        files = (world.pairs_query, world.features, world.matches_query)
        localize_sfm.main(model, world.queries, *files, tmp_path / f"ours-on-{whose}.txt")
        hloc_localize.main(model, _queries(world), *files, tmp_path / f"hloc-on-{whose}.txt")
        mine, his = (read_poses(tmp_path / f"{side}-on-{whose}.txt") for side in ("ours", "hloc"))
        assert mine.keys() == his.keys()
        for name, pose in mine.items():
            np.testing.assert_allclose(pose, his[name], atol=1e-3)


def test_hloc_retrieves_with_our_global_descriptors(theirs: Files, tmp_path: Path) -> None:
    from hloc import pairs_from_retrieval as hloc_retrieval

    rng = np.random.default_rng(0)
    with GlobalWriter(tmp_path / "global.h5", {"name": "vlad"}) as writer:
        for i in range(6):
            row = np.abs(rng.normal(size=16)).astype(np.float32)
            writer.add(f"db/{i}.jpg", row / np.linalg.norm(row))
    pairs_from_retrieval.main(tmp_path / "global.h5", tmp_path / "ours.txt", 2)
    hloc_retrieval.main(tmp_path / "global.h5", tmp_path / "hloc.txt", 2)
    mine, his = read_pairs(tmp_path / "ours.txt"), read_pairs(tmp_path / "hloc.txt")
    assert len(mine) == 12
    assert sorted(mine) == sorted(his)


def test_we_triangulate_hlocs_matches(theirs: Files, world: World, tmp_path: Path) -> None:
    model = triangulation.main(
        tmp_path / "sfm", world.reference, world.images, theirs.pairs, world.features, theirs.matches
    )
    assert len(model.points3D) > 100


def _queries(world: World) -> Path:
    return world.root / "hloc" / "queries.txt"
