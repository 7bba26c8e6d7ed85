"""The localization stage: every query gets a status, no pose is disguised, finished queries survive a kill."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import localize_sfm, match_features
from samfeat_hloc._pycolmap import read_model
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.features import FeatureWriter
from samfeat_hloc.formats.journal import count_records
from samfeat_hloc.formats.pairs import read_pairs, write_pairs
from samfeat_hloc.formats.poses import read_poses, validate_submission
from samfeat_hloc.formats.queries import Query, write_queries
from samfeat_hloc.localization import COVARIANCE_KEY, Localization
from tests.kill import kill_after, run
from tests.world import QUERY_CAMERA, World, make_world, triangulate

SLOW_STAGE = """
import sys, time
from pathlib import Path
from samfeat_hloc import localize_sfm
from samfeat_hloc.errors import run_cli
fast = localize_sfm.localize_from_matches
def slow(*arguments):
    time.sleep(0.2)
    with Path(sys.argv[2]).open("a") as log:
        log.write("x")
    return fast(*arguments)
localize_sfm.localize_from_matches = slow
root = Path(sys.argv[1])
run_cli(lambda: localize_sfm.main(root / "sfm", root / "queries.txt", root / "pairs-query.txt", root / "features.h5",
                                  root / "matches-query.h5", root / "poses.txt", num_threads=1))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"), num_queries=6)
    triangulate(made)
    write_queries(made.root / "queries.txt", made.queries)
    return made


def localize(world: World, results: Path, **options: object) -> Localization:
    given: dict = {
        "queries": world.queries,
        "retrieval": world.pairs_query,
        "features": world.features,
        "matches": world.matches_query,
        **options,
    }
    return localize_sfm.main(world.sfm, results=results, **given)


def test_all_queries_are_where_they_were(world: World, tmp_path: Path) -> None:
    found = localize(world, tmp_path / "poses.txt")
    assert found.counts()["localized"] == 6
    for name, result in found.results.items():
        assert result.pose is not None and result.covariance is not None
        t_m, r_deg = pose_errors(result.pose, world.pose(name))
        assert t_m < 0.03 and r_deg < 0.2
        ids = world.point_of[name][result.inlier_keypoints]
        assert (ids >= 0).mean() > 0.97  # clutter may fall on a point by chance
    written = read_poses(tmp_path / "poses.txt")
    assert list(written) == [name.rsplit("/", 1)[-1] for name in found.results]
    assert validate_submission(tmp_path / "poses.txt", list(found.results)) == 6


def test_report_has_every_query_with_covariance(world: World, tmp_path: Path) -> None:
    found = localize(world, tmp_path / "poses.txt")
    with found.csv_path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [query.name for query in world.queries]
    assert all(row["status"] == "localized" and int(row["inliers"]) > 50 and row["retrieved"] == "8" for row in rows)
    report = json.loads(found.json_path.read_text())
    first = report["queries"][0]
    assert np.array(first[COVARIANCE_KEY]).shape == (6, 6)
    np.testing.assert_array_equal(first["pose_cam_from_world"], found.results[first["name"]].pose)


def test_threads_do_not_change_the_result(world: World, tmp_path: Path) -> None:
    found = [localize(world, tmp_path / f"{n}.txt", num_threads=n) for n in (1, 4)]
    assert (tmp_path / "1.txt").read_bytes() == (tmp_path / "4.txt").read_bytes()
    for name in found[0].results:
        np.testing.assert_array_equal(found[0].results[name].covariance, found[1].results[name].covariance)


def test_clustering_gives_the_same_place(world: World, tmp_path: Path) -> None:
    found = localize(world, tmp_path / "poses.txt", covisibility_clustering=True)
    assert all(pose_errors(pose, world.pose(name))[0] < 0.03 for name, pose in found.poses.items())
    assert len(found.poses) == 6


def test_every_failure_has_its_status_and_no_pose(world: World, tmp_path: Path) -> None:
    """Pinned hazard: hloc gives a failed query the pose of its first retrieved image and counts it as localized."""
    names = {"none": "query/none.jpg", "few": "query/few.jpg", "noise": "query/noise.jpg", "bad": "query/bad.jpg"}
    rng = np.random.default_rng(5)
    features = tmp_path / "features.h5"
    some = world.features_of[world.queries[0].name]
    noise = rng.normal(size=some.descriptors.shape).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    made = {
        names["none"]: some,
        names["few"]: replace(
            some,
            keypoints=some.keypoints[:5],
            descriptors=some.descriptors[:5],
            scores=some.scores[:5],
            attention=some.attention[:5],
        ),
        names["noise"]: replace(some, descriptors=noise),
    }
    with FeatureWriter(features, {"name": "synthetic"}, "weights") as writer:
        for name, item in {**world.features_of, **made}.items():
            writer.add(name, item)
    features.with_suffix(".skipped.json").write_text(json.dumps([{"name": names["bad"], "reason": "truncated"}]))
    good = world.queries[0].name
    pairs = [(name, db) for name in (names["few"], names["noise"], good) for db in world.database]
    match_features.main("nn-mutual", pairs, features, matches=tmp_path / "m.h5")
    write_pairs(tmp_path / "pairs.txt", pairs)
    queries = [Query(name, QUERY_CAMERA) for name in (*names.values(), good)]
    found = localize(
        world, tmp_path / "poses.txt", queries=queries, retrieval=tmp_path / "pairs.txt", features=features,
        matches=tmp_path / "m.h5",
    )  # fmt: skip
    status = {name: result.status for name, result in found.results.items()}
    assert status == {
        names["none"]: "no retrieval",
        names["few"]: "too few matches",
        names["noise"]: "not verified",
        names["bad"]: "unreadable",
        good: "localized",
    }
    assert all((result.pose is None) == (name != good) for name, result in found.results.items())
    assert list(read_poses(tmp_path / "poses.txt")) == [good.rsplit("/", 1)[-1]]


def test_retrieved_image_that_is_not_in_the_model_is_left_out_and_reported(world: World, tmp_path: Path) -> None:
    """Pinned hazard: hloc raises IndexError when no retrieved image is in the model."""
    model = read_model(world.sfm)
    last = world.database[-1]
    image = next(image for image in model.images.values() if image.name == last)
    model.deregister_frame(image.frame_id)
    without = tmp_path / "sfm"
    without.mkdir()
    model.write(without)
    first, second = world.queries[0].name, world.queries[1].name
    pairs = [(first, name) for name in world.database] + [(second, last)]
    write_pairs(tmp_path / "pairs.txt", pairs)
    remaining = {image.name for image in read_model(without).images.values()}
    found = localize_sfm.main(
        without, world.queries[:2], tmp_path / "pairs.txt", world.features, world.matches_query, tmp_path / "poses.txt"
    )
    if last in remaining:
        pytest.skip("this pycolmap keeps images without a pose")
    assert found.results[first].not_in_model == (last,) and found.results[first].status == "localized"
    assert found.results[second].status == "no retrieval"


def test_killed_and_run_again_repeats_nothing(world: World, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    root.mkdir()
    for name in ("sfm", "queries.txt", "pairs-query.txt", "features.h5", "matches-query.h5"):
        (root / name).symlink_to(world.root / name)
    journal = root / "poses_queries.journal"
    log = tmp_path / "log"
    assert kill_after(2, journal, SLOW_STAGE, root, log) == -signal.SIGKILL
    done, started = count_records(journal), len(log.read_text())
    assert 2 <= done < 6 and not (root / "poses.txt").exists()
    finished = run(SLOW_STAGE, root, log)
    assert finished.returncode == 0, finished.stderr
    assert len(log.read_text()) - started == 6 - done
    localize(world, tmp_path / "poses.txt", queries=world.root / "queries.txt")
    assert (root / "poses.txt").read_bytes() == (tmp_path / "poses.txt").read_bytes()


def test_results_of_other_inputs_are_refused_unless_overwritten(world: World, tmp_path: Path) -> None:
    localize(world, tmp_path / "poses.txt")
    before = (tmp_path / "poses.txt").read_bytes()
    with pytest.raises(InputError, match="different: options"):
        localize(world, tmp_path / "poses.txt", ransac_thresh=6)
    assert (tmp_path / "poses.txt").read_bytes() == before
    localize(world, tmp_path / "poses.txt", ransac_thresh=6, overwrite=True)


def test_queries_of_one_base_name_are_found_before_any_work(world: World, tmp_path: Path) -> None:
    queries = [Query("query/day/a.jpg", QUERY_CAMERA), Query("query/night/a.jpg", QUERY_CAMERA)]
    with pytest.raises(InputError, match=r"would both be 'a\.jpg'"):
        localize(world, tmp_path / "poses.txt", queries=queries)


def test_camera_name_can_be_prepended(world: World, tmp_path: Path) -> None:
    localize(world, tmp_path / "poses.txt", prepend_camera_name=True)
    assert next(iter(read_poses(tmp_path / "poses.txt"))) == "day/q0.jpg"


def test_query_without_features_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nearest name to 'day/q0\.jpg' there is 'query/day/q0\.jpg'"):
        localize(world, tmp_path / "poses.txt", queries=[Query("day/q0.jpg", QUERY_CAMERA)])


def test_pairs_without_matches_are_counted(world: World, tmp_path: Path) -> None:
    match_features.main("nn-mutual", read_pairs(world.pairs_query)[:3], world.features, matches=tmp_path / "m.h5")
    with pytest.raises(InputError, match="no matches for 45 of 48 retrieved pairs"):
        localize(world, tmp_path / "poses.txt", matches=tmp_path / "m.h5")


def test_retrieval_of_other_names(world: World, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", [("q0.jpg", "db/0.jpg")])
    with pytest.raises(InputError, match="pairs of none of the 6 queries"):
        localize(world, tmp_path / "poses.txt", retrieval=tmp_path / "pairs.txt")


def test_features_of_other_weights_are_refused(world: World, tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "f.h5", {"name": "synthetic"}, "new") as writer:
        for name, item in world.features_of.items():
            writer.add(name, item)
    with pytest.raises(InputError, match="made from other features"):
        localize(world, tmp_path / "poses.txt", features=tmp_path / "f.h5")


def test_model_without_points_and_unknown_option(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'min_inliers'"):
        localize(world, tmp_path / "poses.txt", config={"min_inlier": 5})
    with pytest.raises(InputError, match="no 3D points"):
        localize_sfm.main(
            world.reference, world.queries, world.pairs_query, world.features, world.matches_query, tmp_path / "p.txt"
        )


def test_command_line_ends_with_one_line_and_status_2(world: World, tmp_path: Path) -> None:
    shutil.copy(world.root / "queries.txt", tmp_path / "queries.txt")
    script = "from samfeat_hloc import errors, localize_sfm; errors.run_cli(localize_sfm._cli)"
    flags = [
        *("--reference_sfm", tmp_path / "nothing"),
        *("--queries", tmp_path / "queries.txt"),
        *("--features", world.features),
        *("--matches", world.matches_query),
        *("--retrieval", world.pairs_query),
        *("--results", tmp_path / "p.txt"),
    ]
    done = run(script, *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
