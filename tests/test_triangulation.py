"""The triangulation stage: right points, never UNDEFINED, finished work kept, clear errors."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import match_features, triangulation
from samfeat_hloc._pycolmap import point3D_ids, pose_to_array, pycolmap, read_model, to_colmap
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import FeatureWriter
from samfeat_hloc.formats.matches import MatchWriter
from samfeat_hloc.formats.pairs import write_pairs
from samfeat_hloc.stage_folder import RECORD_NAME
from samfeat_hloc.two_view import CALIBRATED
from tests.kill import DEADLINE_S, ROOT, run
from tests.world import World, make_world, triangulate

SLOW_STAGE = """
import sys, time
from pathlib import Path
from samfeat_hloc import colmap_database, triangulation
from samfeat_hloc.errors import run_cli
colmap_database.PAIRS_A_BLOCK = 4
fast = triangulation.verify_known_poses
def slow(*arguments):
    time.sleep(0.05)
    with Path(sys.argv[2]).open("a") as log:
        log.write("x")
    return fast(*arguments)
triangulation.verify_known_poses = slow
root = Path(sys.argv[1])
run_cli(lambda: triangulation.main(root / "sfm", root / "reference", root / "images", root / "pairs-db.txt",
                                   root / "features.h5", root / "matches-db.h5"))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    triangulate(made)
    return made


def model_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.bin")}


def test_points_are_where_they_were(world: World) -> None:
    model = read_model(world.sfm)
    reference = read_model(world.reference)
    assert {i: image.name for i, image in model.images.items()} == {
        i: image.name for i, image in reference.images.items()
    }
    errors = []
    for image in model.images.values():
        np.testing.assert_allclose(pose_to_array(image.cam_from_world()), world.pose(image.name), atol=1e-9)
        ids, truth = point3D_ids(image), world.point_of[image.name]
        assert len(ids) == len(truth)
        stored = np.array([point.xy for point in image.points2D])
        np.testing.assert_allclose(stored, to_colmap(world.features_of[image.name].keypoints), atol=1e-3)
        for point, true in zip(ids, truth, strict=True):
            if point >= 0:
                assert true >= 0, "clutter was triangulated"
                errors.append(np.linalg.norm(model.points3D[point].xyz - world.points[true]))
    assert model.num_points3D() > 400
    assert np.median(errors) < 0.01
    assert model.compute_mean_reprojection_error() < 0.5  # half a pixel forgotten once would be 0.5 and more


def test_no_pair_is_undefined(world: World) -> None:
    with pycolmap.Database.open(world.sfm / "database.db") as database:
        _, geometries = database.read_two_view_geometries()
        assert database.num_verified_image_pairs() == len(geometries) > 20
    assert {geometry.config for geometry in geometries} == {CALIBRATED}


def test_two_runs_give_the_same_bytes(world: World, tmp_path: Path) -> None:
    again = triangulation.main(
        tmp_path / "sfm", world.reference, world.images, world.pairs_db, world.features, world.matches_db
    )
    assert again.num_points3D() > 400
    assert model_bytes(tmp_path / "sfm") == model_bytes(world.sfm)


def test_a_finished_model_is_read_and_another_one_is_never_replaced(world: World, tmp_path: Path) -> None:
    sfm = tmp_path / "sfm"
    arguments = (world.reference, world.images, world.pairs_db, world.features, world.matches_db)
    triangulation.main(sfm, *arguments)
    before = {path: path.stat().st_mtime_ns for path in sfm.iterdir()}
    triangulation.main(sfm, *arguments)
    assert {path: path.stat().st_mtime_ns for path in sfm.iterdir()} == before
    with pytest.raises(InputError, match="different: min_match_score"):
        triangulation.main(sfm, *arguments, min_match_score=0.5)
    assert {path: path.stat().st_mtime_ns for path in sfm.iterdir()} == before
    triangulation.main(sfm, *arguments, min_match_score=0.5, overwrite=True)
    assert json.loads((sfm / RECORD_NAME).read_text())["signature"]["min_match_score"] == 0.5


def test_a_model_of_another_program_is_never_replaced(world: World, tmp_path: Path) -> None:
    read_model(world.reference).write(tmp_path)
    with pytest.raises(InputError, match="did not make"):
        triangulation.main(tmp_path, world.reference, world.images, world.pairs_db, world.features, world.matches_db)


def verified_pairs(database: Path) -> int:
    """Pairs that are safely in a database that another process fills."""
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from matches").fetchone()[0])
    except sqlite3.Error:
        return 0  # being created


def test_killed_and_run_again_gives_the_same_model_and_verifies_no_pair_twice(world: World, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    root.mkdir()
    for name in ("reference", "images", "pairs-db.txt", "features.h5", "matches-db.h5"):
        (root / name).symlink_to(world.root / name)
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", SLOW_STAGE, str(root), str(log)], cwd=ROOT)
    deadline = time.monotonic() + DEADLINE_S
    while verified_pairs(root / "sfm/database.db") < 8:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = verified_pairs(root / "sfm/database.db")
    looked_at = len(log.read_text())
    assert 8 <= done < 28
    finished = run(SLOW_STAGE, root, log)
    assert finished.returncode == 0, finished.stderr
    assert len(log.read_text()) - looked_at == 28 - done
    assert model_bytes(root / "sfm") == model_bytes(world.sfm)


@pytest.mark.parametrize("option", ["estimate_two_view_geometries", "skip_geometric_verification"])
def test_other_ways_of_verification(world: World, tmp_path: Path, option: str) -> None:
    model = triangulation.main(
        tmp_path / "sfm", world.reference, world.images, world.pairs_db, world.features, world.matches_db,
        **{option: True},
    )  # fmt: skip
    assert model.num_points3D() > 350


def test_unknown_image_in_pairs(world: World, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", [("db/0.jpg", "1.jpg")])
    with pytest.raises(InputError, match=r"nearest name to '1.jpg' there is 'db/1.jpg'"):
        triangulation.main(
            tmp_path / "sfm", world.reference, world.images, tmp_path / "pairs.txt", world.features, world.matches_db
        )
    assert not (tmp_path / "sfm").exists()


def test_matches_of_other_features_are_refused(world: World, tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "other.h5", {"name": "synthetic"}, "other weights") as writer:
        for name in world.database:
            writer.add(name, world.features_of[name])
    with pytest.raises(InputError, match="made from other features"):
        triangulation.main(
            tmp_path / "sfm", world.reference, world.images, world.pairs_db, tmp_path / "other.h5", world.matches_db
        )


def test_match_beyond_the_keypoints_is_refused(world: World, tmp_path: Path) -> None:
    with MatchWriter(
        tmp_path / "m.h5", {"name": "x"}, {"conf": {"name": "synthetic"}, "weights_sha256": "weights"}
    ) as writer:
        writer.add("db/0.jpg", "db/1.jpg", np.arange(30, dtype=np.int32) + 90_000, np.ones(30), 100_000)
    write_pairs(tmp_path / "pairs.txt", [("db/0.jpg", "db/1.jpg")])
    with pytest.raises(InputError, match=r"refers to keypoint 90029 of 'db/1\.jpg'"):
        triangulation.main(
            tmp_path / "sfm", world.reference, world.images, tmp_path / "pairs.txt", world.features, tmp_path / "m.h5"
        )


def test_wrong_poses_give_an_error_not_an_empty_model(world: World, tmp_path: Path) -> None:
    shuffled = pycolmap.Reconstruction()
    shuffled.add_camera_with_trivial_rig(read_model(world.reference).cameras[7])
    for index, name in enumerate(world.database):
        turned = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 0.0, 0.7 * index])), np.array([0.0, 0.0, 0.0]))
        image = pycolmap.Image(name=name, camera_id=7, image_id=index + 1)
        shuffled.add_image_with_trivial_frame(image, turned * world.poses[name])
    (tmp_path / "wrong").mkdir()
    shuffled.write(tmp_path / "wrong")
    with pytest.raises(InputError, match=r"agree with the cameras|no 3D point"):
        triangulation.main(
            tmp_path / "sfm", tmp_path / "wrong", world.images, world.pairs_db, world.features, world.matches_db
        )


def test_unknown_mapper_option(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'min_angle'"):
        triangulation.main(
            tmp_path / "sfm", world.reference, world.images, world.pairs_db, world.features, world.matches_db,
            mapper_options={"min_angl": 2.0},
        )  # fmt: skip


def test_more_keypoints_than_int16_holds(tmp_path: Path) -> None:
    world = make_world(tmp_path, num_points=250, num_db=4, num_queries=1)
    with FeatureWriter(tmp_path / "many.h5", {"name": "many"}, "") as writer:
        for name in world.database:
            found = world.features_of[name]
            count = 40_000
            pad = count - len(found)
            rng = np.random.default_rng(len(name))
            writer.add(
                name,
                replace(
                    found,
                    keypoints=np.concatenate([rng.uniform(0, 400, (pad, 2)), found.keypoints]).astype(np.float32),
                    descriptors=np.concatenate([np.zeros((pad, 32)), found.descriptors]).astype(np.float32),
                    scores=np.ones(count, np.float32),
                    attention=np.ones(count, np.float32),
                ),
            )
    with MatchWriter(tmp_path / "m.h5", {"name": "x"}, {"conf": {"name": "many"}, "weights_sha256": ""}) as writer:
        for i, a in enumerate(world.database):
            for b in world.database[i + 1 :]:
                matches = np.full(40_000, -1, np.int32)
                shift = 40_000 - len(world.point_of[a]), 40_000 - len(world.point_of[b])
                where = {point: index for index, point in enumerate(world.point_of[b]) if point >= 0}
                for index, point in enumerate(world.point_of[a]):
                    if point in where:
                        matches[index + shift[0]] = where[point] + shift[1]
                writer.add(a, b, matches, np.ones(40_000), 40_000)
    model = triangulation.main(
        tmp_path / "sfm", world.reference, world.images, world.pairs_db, tmp_path / "many.h5", tmp_path / "m.h5"
    )
    assert model.num_points3D() > 200


def test_matches_below_the_score_are_left_out(world: World, tmp_path: Path) -> None:
    assert (
        match_features.main("nn-mutual", world.pairs_db, world.features, matches=world.matches_db) == world.matches_db
    )
    with pytest.raises(InputError, match="0 matches in all"):
        triangulation.main(
            tmp_path / "sfm", world.reference, world.images, world.pairs_db, world.features, world.matches_db,
            min_match_score=1.5,
        )  # fmt: skip
