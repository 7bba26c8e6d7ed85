"""The best-scored matches of retrieved images: which correspondences are tried together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc._pycolmap import FloatArray, IntArray, pose_to_array, pycolmap
from samfeat_hloc.absolute_pose import PoseEstimate, PoseOptions, localize_from_matches
from samfeat_hloc.best_matches import MIN_BEST, best_groups
from samfeat_hloc.correspondences import MatchedImage, gather
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.matches import MatchReader, MatchWriter
from samfeat_hloc.localization_inputs import matched_images
from samfeat_hloc.matchers import Matches
from samfeat_hloc.scene import Scene
from tests.world import CAMERA, HEIGHT, WIDTH, look_at, make_points


def image(keypoints: IntArray, point3D_ids: IntArray, scores: FloatArray) -> MatchedImage:
    """The i-th keypoint of the query with the i-th of the image."""
    return MatchedImage(np.column_stack([keypoints, np.arange(len(keypoints))]), point3D_ids, lambda: scores)


def groups(
    matched: list[MatchedImage], share: float = 0.25, num_covisible: int = 5, min_matches: int = 1
) -> list[list[int]]:
    return [group.tolist() for group in best_groups(matched, share, num_covisible, min_matches)]


def test_a_share_of_an_image_by_score() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(200) / 200
    keypoints = rng.permutation(200)
    points = rng.integers(0, 1000, 200)
    points[rng.choice(200, 40, replace=False)] = -1
    only = image(keypoints, points, scores)
    found = gather([only])
    [group] = groups([only])
    chosen = set(zip(found.keypoints[group].tolist(), found.points3D[group].tolist(), strict=True))
    seen = np.flatnonzero(points >= 0)
    best = seen[np.argsort(-scores[seen])[:40]]
    assert chosen == set(zip(keypoints[best].tolist(), points[best].tolist(), strict=True))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (np.ones(100), np.arange(100)),
        (np.repeat([0.5, 0.9], 50), np.arange(50, 100)),
        (np.where(np.arange(100) < 60, np.nan, 0.7), np.arange(60, 100)),
        (np.full(100, np.nan), np.arange(100)),
    ],
)
def test_equal_scores_are_kept_together(scores: FloatArray, expected: IntArray) -> None:
    """A file without scores loses nothing, nor does one with scores of a few values; no number is the lowest."""
    assert groups([image(np.arange(100), np.arange(100), scores)]) == [expected.tolist()]


def test_of_few_matches_all_but_the_worst() -> None:
    scores = np.linspace(1, 0, MIN_BEST + 6)
    every = np.arange(MIN_BEST + 6)
    assert groups([image(every, every, scores)]) == [list(range(MIN_BEST))]
    assert groups([image(every[:5], every[:5], scores[:5])]) == [[0, 1, 2, 3, 4]]


def test_images_of_the_same_points_are_tried_together() -> None:
    """The first shares 20 points with the second and 10 with the third; the fourth is of another place."""
    ids = [np.arange(0, 40), np.arange(20, 60), np.arange(30, 70), np.arange(500, 540)]
    matched = [image(np.arange(40) + 100 * i, points, np.ones(40)) for i, points in enumerate(ids)]
    first, second, third, fourth = (set(range(40 * i, 40 * i + 40)) for i in range(4))
    one = [set(group) for group in groups(matched, num_covisible=1)]
    assert one == [first | second, second | third, fourth, first, second, third]
    two = [set(group) for group in groups(matched, num_covisible=2)]
    assert two == [first | second | third, fourth, first, second, third]
    assert [set(group) for group in groups(matched, num_covisible=0)] == [first, second, third, fourth]


def test_a_correspondence_of_two_images_is_there_once() -> None:
    every = np.arange(30)
    assert groups([image(every, every, np.ones(30))] * 2) == [every.tolist()]


def test_images_with_few_matches_are_left_out() -> None:
    every = np.arange(30)
    matched = [image(every, every, np.ones(30)), image(every[:11], every[:11] + 90, np.ones(11))]
    assert [len(group) for group in groups(matched, min_matches=12)] == [30]
    assert [len(group) for group in groups(matched, min_matches=11)] == [30, 11]
    assert groups([]) == [] and groups([image(every, every - 99, np.ones(30))]) == []


POSE = look_at([1.0, 0.4, 0.5], [0.2, 0.1, 8])


def ten_strips(num_covisible: int, seed: int) -> PoseEstimate:
    """Ten images show a strip of the place each, with 7 right matches of 190, better scored; six show other places."""
    rng = np.random.default_rng(seed)
    points = make_points(3000, rng)
    xy = np.asarray(CAMERA.img_from_cam(POSE * points))
    inside = np.flatnonzero(((xy > 0) & (xy < [WIDTH, HEIGHT])).all(axis=1) & ((POSE * points)[:, 2] > 0))[:70]
    shown = inside[np.argsort(xy[inside, 0])]
    model = pycolmap.Reconstruction()
    ids = np.array([model.add_point3D(each, pycolmap.Track(), np.zeros(3, np.uint8)) for each in points])
    keypoints = np.concatenate([xy[shown] + rng.normal(0, 3, (70, 2)), rng.uniform(0, [WIDTH, HEIGHT], (3000, 2))])
    matched = []
    for view in range(16):
        right = np.arange(7) + 7 * view if view < 10 else np.zeros(0, np.int64)
        others = ids[:1000] if view < 10 else ids[300 * view - 2000 : 300 * view - 1700]
        wrong = 190 - len(right)
        query = np.concatenate([right, rng.choice(np.arange(70, len(keypoints)), wrong, replace=False)])
        observed = np.concatenate([ids[shown[right]], rng.choice(others, wrong)])
        matched.append(image(query, observed, rng.uniform(0, 1, 190) + 0.5 * (query < 70)))
    return localize_from_matches(keypoints, matched, Scene(model), CAMERA, PoseOptions(num_covisible=num_covisible))


def is_right(found: PoseEstimate) -> bool:
    t_m, r_deg = (np.inf, np.inf) if found.pose is None else pose_errors(found.pose, pose_to_array(POSE))
    return t_m <= 0.25 and r_deg <= 2


def test_what_no_image_shows_by_itself_they_show_together() -> None:
    alone = sum(is_right(ten_strips(0, seed)) for seed in range(10))
    together = sum(is_right(ten_strips(PoseOptions.num_covisible, seed)) for seed in range(10))
    assert together >= 9 and alone <= together - 2, (alone, together)


@pytest.mark.parametrize("names", [("query.jpg", "db.jpg"), ("db.jpg", "query.jpg")])
def test_scores_in_memory_are_those_of_the_file(tmp_path: Path, names: tuple[str, str]) -> None:
    """In whichever order the pair is stored."""
    rng = np.random.default_rng(0)
    matches0 = np.where(rng.random(300) < 0.4, rng.permutation(300), -1).astype(np.int32)
    made = Matches(matches0, rng.random(300, np.float32), 300)
    stored = np.full(300, -1), np.zeros(300, np.float32)
    for row, (query, other) in enumerate(made.indices()):
        mine, his = (query, other) if names[0] == "query.jpg" else (other, query)
        stored[0][mine], stored[1][mine] = his, made.scores0[made.matches0 >= 0][row]
    with MatchWriter(tmp_path / "matches.h5", {}, {}) as writer:
        writer.add(*names, *stored, 300)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(**{**CAMERA.todict(), "camera_id": 1})
    model.add_camera_with_trivial_rig(camera)
    keypoints = pycolmap.Image(name="db.jpg", camera_id=1, image_id=1, keypoints=np.zeros((300, 2)))
    model.add_image_with_trivial_frame(keypoints, pycolmap.Rigid3d())
    with MatchReader(tmp_path / "matches.h5") as reader:
        [read] = matched_images(reader, "query.jpg", ["db.jpg"], Scene(model))
        np.testing.assert_array_equal(read.matches, made.indices())
        np.testing.assert_array_equal(read.scores(), made.scores())
        assert len(read.point3D_ids) == 300
