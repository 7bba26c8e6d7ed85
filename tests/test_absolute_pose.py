"""The localization core: right poses among many wrong matches, and a clear no when there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from samfeat_hloc import absolute_pose
from samfeat_hloc._pycolmap import FloatArray, IntArray, pose_to_array, pycolmap
from samfeat_hloc.absolute_pose import Candidate, PoseEstimate, PoseOptions, best_candidate, localize_from_matches
from samfeat_hloc.correspondences import MatchedImage, count_rows, count_votes, gather
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.scene import Scene
from tests.world import CAMERA, HEIGHT, WIDTH, look_at, make_points, unscored

POSE = look_at([1.0, 0.4, 0.5], [0.2, 0.1, 8])


def make_scene(points: FloatArray) -> tuple[Scene, IntArray]:
    model = pycolmap.Reconstruction()
    ids = [model.add_point3D(xyz, pycolmap.Track(), np.zeros(3, np.uint8)) for xyz in points]
    return Scene(model), np.array(ids)


def problem(good: int, wrong: int, seed: int = 0, images: int = 5, votes: int = 2) -> PoseEstimate:
    """Localize a query with `good` right correspondences seen by `votes` of `images`, `wrong` random ones by one."""
    rng = np.random.default_rng(seed)
    points = make_points(1500, rng)
    xy = np.asarray(CAMERA.img_from_cam(POSE * points))
    inside = np.flatnonzero(((xy > 0) & (xy < [WIDTH, HEIGHT])).all(axis=1) & ((POSE * points)[:, 2] > 0))
    chosen = inside[:good]
    assert len(chosen) == good
    scene, ids = make_scene(points)
    seen, clutter = xy[chosen] + rng.normal(0, 0.5, (good, 2)), rng.uniform(0, [WIDTH, HEIGHT], (wrong, 2))
    keypoints = np.concatenate([seen, clutter])
    matched = []
    for image in range(images):
        right = np.array([i for i in range(good) if (image - i) % images < votes], np.int64)
        false = np.arange(good + image, good + wrong, images)
        index = np.concatenate([right, false])
        observed = np.concatenate([ids[chosen[right]], rng.choice(ids, len(false))])
        matched.append(unscored(np.column_stack([index, np.arange(len(index))]), observed))
    return localize_from_matches(keypoints, matched, scene, CAMERA, PoseOptions())


@pytest.mark.parametrize(("good", "wrong", "votes"), [(200, 100, 2), (60, 1500, 2), (40, 400, 1)])
def test_pose_among_wrong_matches(good: int, wrong: int, votes: int) -> None:
    found = problem(good, wrong, votes=votes)
    assert found.status == "localized" and found.pose is not None and found.covariance is not None
    t_m, r_deg = pose_errors(found.pose, pose_to_array(POSE))
    assert t_m < 0.05 and r_deg < 0.3
    assert t_m < 5 * np.sqrt(np.trace(found.covariance[3:, 3:]))
    assert found.num_inliers >= 0.9 * good
    assert found.num_matches == good * votes + wrong


@pytest.mark.parametrize("seed", range(8))
def test_random_matches_are_never_a_localization(seed: int) -> None:
    found = problem(0, 1200, seed)
    assert found.status == "not verified"
    assert found.pose is None and found.covariance is None


def test_scene_shrunk_into_a_cluster_of_keypoints_is_not_a_localization() -> None:
    """hloc reports such poses: a camera far away sees all points in one place, where the query has many keypoints."""
    rng = np.random.default_rng(0)
    scene, ids = make_scene(make_points(300, rng))
    keypoints = np.array([320, 240]) + rng.normal(0, 3, (200, 2))
    matched = [unscored(np.column_stack([np.arange(200)] * 2), rng.choice(ids, 200)) for _ in range(5)]
    assert localize_from_matches(keypoints, matched, scene, CAMERA, PoseOptions()).status == "not verified"


@pytest.mark.parametrize(("good", "wrong"), [(0, 0), (3, 0), (11, 0)])
def test_too_few_matches(good: int, wrong: int) -> None:
    found = problem(good, wrong)
    assert found.status == "too few matches" and found.pose is None


@pytest.mark.parametrize("seed", [2, 3])
def test_a_pose_from_a_corner_is_refined_until_what_is_near_it_stays_the_same(seed: int) -> None:
    """Twelve agreed correspondences in one corner give a rough pose, and each refinement finds more that is near."""
    rng = np.random.default_rng(seed)
    points = make_points(2000, rng)
    xy = np.asarray(CAMERA.img_from_cam(POSE * points))
    inside = ((xy > 0) & (xy < [WIDTH, HEIGHT])).all(axis=1) & ((POSE * points)[:, 2] > 0)
    points, xy = points[inside], xy[inside] + rng.normal(0, 2.5, (np.count_nonzero(inside), 2))
    votes = np.ones(len(xy), np.int64)
    votes[np.argsort(xy.sum(axis=1))[:12]] = 2
    found = best_candidate(xy, points, votes, CAMERA, PoseOptions(sure_log10_nfa=0.0))
    assert found is not None
    assert np.count_nonzero(found.errors <= 6) > 0.9 * len(xy)
    t_m, r_deg = pose_errors(pose_to_array(found.cam_from_world), pose_to_array(POSE))
    assert t_m < 0.05 and r_deg < 0.3


def test_the_same_result_every_time() -> None:
    first, second = problem(60, 800), problem(60, 800)
    assert first.pose is not None and second.pose is not None
    np.testing.assert_array_equal(first.pose, second.pose)
    np.testing.assert_array_equal(first.covariance, second.covariance)


def test_gather_counts_votes_and_drops_keypoints_without_point() -> None:
    observed = np.array([70, -1, 50])
    matches = [np.array([[4, 0], [2, 1], [1, 2]]), np.array([[4, 0], [1, 0]]), np.zeros((0, 2), int)]
    found = gather([unscored(rows, observed) for rows in matches])
    assert found.keypoints.tolist() == [1, 1, 4]
    assert found.points3D.tolist() == [50, 70, 70]
    assert found.votes.tolist() == [1, 1, 2]
    assert found.num_matches == 4
    assert len(gather([])) == 0


@pytest.mark.parametrize("largest_id", [40, 2**31, 2**62])
def test_votes_are_those_of_the_plain_way(largest_id: int) -> None:
    rng = np.random.default_rng(0)
    keypoints = rng.integers(0, 30, 2000)
    points3D = rng.choice(rng.integers(0, largest_id, 20, endpoint=True), 2000)
    fast, plain = count_votes(keypoints, points3D), count_rows(keypoints, points3D)
    np.testing.assert_array_equal(fast.keypoints, plain.keypoints)
    np.testing.assert_array_equal(fast.points3D, plain.points3D)
    np.testing.assert_array_equal(fast.votes, plain.votes)
    assert fast.num_matches == 2000 and fast.votes.max() > 1


def test_no_match_is_no_correspondence() -> None:
    assert len(gather([])) == 0
    assert len(gather([unscored(np.zeros((2, 2), np.int64), np.array([-1]))])) == 0


def one_image_in_thirty(best_num_trials: int, scored: bool) -> PoseEstimate:
    """One retrieved image shows the place, with a third of its matches right; the others show none of it."""
    rng = np.random.default_rng(7)
    points = make_points(1500, rng)
    in_camera = POSE * points
    xy = np.asarray(CAMERA.img_from_cam(in_camera))
    inside = np.flatnonzero(((xy > 0) & (xy < [WIDTH, HEIGHT])).all(axis=1) & (in_camera[:, 2] > 0))
    scene, ids = make_scene(points)
    right, clutter = inside[:70], 6000
    keypoints = np.concatenate(
        [xy[right] + rng.normal(0, 0.5, (len(right), 2)), rng.uniform(0, [WIDTH, HEIGHT], (clutter, 2))]
    )
    matched = []
    for image, false in enumerate(np.array_split(np.arange(len(right), len(keypoints)), 30)):
        index = np.concatenate([np.arange(len(right)), false]) if image == 17 else false
        observed = rng.choice(ids, len(index))
        shown = index < len(right)
        observed[shown] = ids[right[index[shown]]]
        scores = rng.uniform(0, 1, len(index)) + 0.3 * shown if scored else np.ones(len(index))
        matched.append(MatchedImage(np.column_stack([index, np.arange(len(index))]), observed, lambda s=scores: s))
    options = PoseOptions(best_num_trials=best_num_trials)
    return localize_from_matches(keypoints, matched, scene, CAMERA, options)


@pytest.mark.parametrize("scored", [False, True])
def test_one_image_that_shows_the_place_is_enough(scored: bool) -> None:
    assert one_image_in_thirty(0, scored).status == "not verified"
    found = one_image_in_thirty(PoseOptions.best_num_trials, scored)
    assert found.status == "localized" and found.pose is not None
    t_m, r_deg = pose_errors(found.pose, pose_to_array(POSE))
    assert t_m < 0.05 and r_deg < 0.3
    assert found.num_inliers >= 63


@pytest.mark.parametrize(
    ("agreed", "group", "expected"),
    [(-61.0, -9.0, [4]), (-59.0, -7.0, [4, 5, 6]), (5.0, -8.0, [4, 5, 6]), (5.0, -7.0, [4, 5, 6, 10])],
)
def test_rounds_end_when_what_was_found_is_enough(
    monkeypatch: pytest.MonkeyPatch, agreed: float, group: float, expected: list[int]
) -> None:
    """The agreed four, then groups of five and six, then all ten: until sure, after the groups until localized."""
    log10_nfa = {4: agreed, 5: 7.0, 6: group, 10: -50.0}
    tried = []

    def attempt(chosen: tuple[FloatArray, FloatArray], *_: object) -> Candidate:
        tried.append(len(chosen[0]))
        return Candidate(pycolmap.Rigid3d(), np.zeros(10), log10_nfa[len(chosen[0])], evidence=20)

    monkeypatch.setattr(absolute_pose, "_attempt", attempt)
    votes = np.repeat([2, 1], [4, 6])
    found = best_candidate(
        np.zeros((10, 2)), np.zeros((10, 3)), votes, CAMERA, PoseOptions(), [np.arange(5), np.arange(6)]
    )
    assert tried == expected
    assert found is not None and found.log10_nfa == min(log10_nfa[size] for size in expected)


def test_the_best_scored_are_tried_only_when_the_agreed_correspondences_leave_doubt() -> None:
    def groups() -> Iterator[IntArray]:
        raise AssertionError("none is wanted")
        yield

    rng = np.random.default_rng(1)
    points = make_points(300, rng)
    points = points[np.isfinite(points).all(axis=1) & ((POSE * points)[:, 2] > 0)]
    points2D = np.asarray(CAMERA.img_from_cam(POSE * points))
    votes = np.where(np.arange(len(points)) % 2, 2, 1)
    found = best_candidate(points2D, points, votes, CAMERA, PoseOptions(), groups())
    assert found is not None and found.log10_nfa < PoseOptions.sure_log10_nfa
