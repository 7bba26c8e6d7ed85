"""Views with depth: correspondences are where geometry says, hidden points are none, and bad frames are counted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from samfeat_hloc.errors import InputError
from tests.training.scenes import EYES, FOCAL, HEIGHT, WIDTH, Eye, eye, transfer_errors, write_rgbd
from training.records import Pair, Skipped, SourceConfig
from training.sources import open_source
from training.sources.covisible import DepthView, choose_pairs, correspondences, overlap, spread, thin_out
from training.sources.depth import DepthPairs, grid_matrix

ALL = (0.1, 0.95)


def depth_view(camera: Eye, scale: float = 1.0) -> DepthView:
    depth = camera.depth(scale).astype(np.float32)
    matrix = grid_matrix(camera.matrix, (camera.width, camera.height), (depth.shape[1], depth.shape[0]))
    return DepthView(depth, matrix, camera.world_from_cam)


def read(folder: Path, **config: object) -> tuple[dict[str, np.ndarray], list[Pair], dict[str, int]]:
    source = open_source(SourceConfig(kind="rgbd", path=str(folder), **{"overlap": ALL, **config}))  # type: ignore[arg-type]
    views = {view.name: view.image for view in source.views()}
    return views, list(source.pairs()), source.skipped


def eyes_of(pair: Pair) -> tuple[Eye, Eye]:
    return EYES[int(pair.first[6:12])], EYES[int(pair.second[6:12])]


def test_correspondences_are_exact_and_leave_out_what_is_hidden() -> None:
    first, second = EYES[0], EYES[2]
    points = correspondences(depth_view(first), depth_view(second), 2000, np.random.default_rng(0))
    errors, hidden = transfer_errors(points, first, second)
    assert 800 < len(points) <= 2000
    assert errors.max() < 0.01
    assert not hidden.any()
    # the scene has hidden points: the test above would fail without the check of depth
    everything = np.stack(np.meshgrid(np.arange(0, WIDTH, 4), np.arange(0, HEIGHT, 4)), axis=-1).reshape(-1, 2)
    there = second.project(first.world(everything.astype(float)))
    assert transfer_errors(np.concatenate([everything, there], axis=1), first, second)[1].mean() > 0.02


def test_a_wrong_depth_gives_no_correspondence() -> None:
    first, second = depth_view(EYES[0]), depth_view(EYES[1])
    deeper = DepthView(second.depth_m * np.float32(1.05), second.matrix, second.world_from_cam)
    assert len(correspondences(first, second, 500, np.random.default_rng(0))) > 200
    assert len(correspondences(first, deeper, 500, np.random.default_rng(0))) == 0


def test_thinning_out_keeps_the_geometry() -> None:
    first, second = (depth_view(camera) for camera in EYES[:2])
    rng = np.random.default_rng(0)
    assert max(thin_out(first).depth_m.shape) <= 96
    assert overlap(thin_out(first), thin_out(second), rng) == pytest.approx(overlap(first, second, rng), abs=0.1)


def test_views_that_see_nothing_in_common_are_no_pair() -> None:
    away = eye(0.0, turn_deg=180)
    view = depth_view(EYES[0])
    behind = DepthView(view.depth_m, view.matrix, away.world_from_cam)
    assert overlap(view, behind, np.random.default_rng(0)) == 0
    assert choose_pairs([view, behind, depth_view(EYES[1])], ALL, None, 0) == [(0, 2)]


def test_pairs_are_bounded_and_the_same_at_the_same_seed() -> None:
    looks = [depth_view(camera, 0.25) for camera in EYES]
    every = choose_pairs(looks, ALL, None, 0)
    assert len(every) > 3
    assert all(first < second for first, second in every)
    assert choose_pairs(looks, ALL, 2, 0) == choose_pairs(looks, ALL, 2, 0) == every[:2]
    assert {tuple(choose_pairs(looks, ALL, 2, seed)) for seed in range(6)} != {tuple(every[:2])}
    high = max(overlap(looks[first], looks[second], np.random.default_rng(0)) for first, second in every)
    assert len(choose_pairs(looks, (0.1, high - 0.05), None, 0)) < len(every)


def test_points_are_spread_over_squares() -> None:
    rng = np.random.default_rng(0)
    crowded = np.concatenate([rng.uniform(0, 10, (5000, 2)), rng.uniform(0, 100, (200, 2))])
    picked = crowded[spread(crowded, (100, 100), 100, rng)]
    assert len(picked) <= 100
    assert (picked < 10).all(axis=1).sum() <= 4
    assert (spread(crowded[:50], (100, 100), 100, rng) == np.arange(50)).all()


@pytest.mark.parametrize(("depth_scale", "max_side"), [(1.0, 512), (0.5, 512), (0.5, 200)])
def test_rgbd_pairs_in_the_views_own_pixels(tmp_path: Path, depth_scale: float, max_side: int) -> None:
    views, pairs, skipped = read(write_rgbd(tmp_path, depth_scale=depth_scale), max_side=max_side)
    assert len(views) == 4
    assert skipped == {}
    assert len(pairs) >= 3
    scale = min(1.0, max_side / WIDTH)
    for pair in pairs:
        assert views[pair.first].shape == (round(HEIGHT * scale), round(WIDTH * scale), 3)
        errors, hidden = transfer_errors(pair.points, *eyes_of(pair), scale)
        assert pair.points.dtype == np.float32
        assert np.median(errors) < 0.1  # millimetres of depth
        assert np.quantile(errors, 0.99) < 0.5
        assert hidden.mean() < 0.01


def test_unregistered_colour_is_aligned_by_the_photographs(tmp_path: Path) -> None:
    folder = write_rgbd(tmp_path, colour_focal=0.85 * FOCAL)
    _, aligned, _ = read(folder)
    cameras = [Eye(camera.world_from_cam, focal=0.85 * FOCAL) for camera in EYES]
    by_depth, by_picture = [], []
    for pair in aligned:
        ends = cameras[int(pair.first[6:12])], cameras[int(pair.second[6:12])]
        by_picture.append(transfer_errors(pair.points, *ends)[0])
        wrong = EYES[int(pair.second[6:12])].project(eyes_of(pair)[0].world(pair.points[:, :2].astype(float)))
        by_depth.append(np.linalg.norm(wrong - pair.points[:, 2:], axis=1))
    assert np.mean(np.concatenate(by_depth)) > 4
    assert np.median(np.concatenate(by_picture)) < 0.5
    assert np.quantile(np.concatenate(by_picture), 0.9) < 2
    assert np.mean(np.concatenate(by_picture) > 3) < 0.015  # edges of depth
    ends_of_all = np.concatenate([pair.points for pair in aligned]).reshape(-1, 2)
    assert (ends_of_all >= 0).all() and (ends_of_all <= [WIDTH - 1, HEIGHT - 1]).all()


def test_frames_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    folder = write_rgbd(tmp_path, [*EYES, *EYES])
    (folder / "frame-000004.color.png").write_bytes(b"no image")
    cv2.imwrite(str(folder / "frame-000005.depth.png"), np.ones((100, 100), np.uint16))
    (folder / "frame-000006.pose.txt").write_text("nan " * 16)
    (folder / "frame-000007.depth.png").unlink()
    views, pairs, skipped = read(folder)
    assert sorted(views) == [f"frame-{index:06d}.color.png" for index in range(4)]
    assert skipped == {"unreadable image": 1, "depth map of another size": 1, "unusable depth or pose": 2}
    assert {pair.first for pair in pairs} | {pair.second for pair in pairs} <= set(views)


def test_an_empty_folder_and_one_without_a_usable_frame_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}/none is no folder"):
        open_source(SourceConfig(kind="rgbd", path=str(tmp_path / "none")))
    folder = write_rgbd(tmp_path / "bad", EYES[:1])
    (folder / "frame-000000.pose.txt").write_text("1 2 3")
    with pytest.raises(InputError, match=r"bad has no usable view \(1 unusable depth or pose\)"):
        read(folder)
    (folder / "frame-000000.color.png").unlink()
    with pytest.raises(InputError, match="has no RGB-D frame"):
        read(folder)


def test_views_that_do_not_overlap_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no usable pair of views.*overlap by 0\.1 to 0\.95"):
        read(write_rgbd(tmp_path, [EYES[0], eye(30.0)]))


def test_views_of_two_scenes_are_no_pair(tmp_path: Path) -> None:
    config = SourceConfig(kind="rgbd", path=str(tmp_path), overlap=(0.0, 1.0))
    pairs = DepthPairs(config, Skipped(), lambda name: depth_view(EYES[int(name)]))
    pairs.add("0", depth_view(EYES[0]), "one scene")
    pairs.add("1", depth_view(EYES[1]), "another")
    with pytest.raises(InputError, match="no usable pair"):
        list(pairs.pairs({}))


def test_real_frames_agree_with_sift(shared_data: Path) -> None:
    """7-Scenes: depth alone is 9 px off (median); with the photographs' help it is about one."""
    views, pairs, _ = read(shared_data / "rgbd", limit=6, overlap=(0.3, 0.8))
    sift, errors = cv2.SIFT_create(1000), []
    for pair in pairs:
        (k0, d0), (k1, d1) = (
            sift.detectAndCompute(cv2.cvtColor(views[name], cv2.COLOR_RGB2GRAY), None)
            for name in (pair.first, pair.second)
        )
        for best, next_best in cv2.BFMatcher().knnMatch(d0, d1, k=2):
            a, b = np.array(k0[best.queryIdx].pt), np.array(k1[best.trainIdx].pt)
            offsets = np.linalg.norm(pair.points[:, :2] - a, axis=1)
            if best.distance < 0.65 * next_best.distance and offsets.min() < 4:
                nearest = pair.points[offsets.argmin()]
                errors.append(np.linalg.norm(nearest[2:] + a - nearest[:2] - b))
    inliers = np.array(errors)[np.array(errors) < 30]
    assert len(pairs) == 6
    assert len(inliers) > 20
    assert np.median(inliers) < 2
