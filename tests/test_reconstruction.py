"""Structure from motion on a synthetic world."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from samfeat_hloc import pair_graph, reconstruction
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.pairs import write_pairs
from samfeat_hloc.stage_folder import DATABASE_NAME
from tests.reconstructing import centres, photographed_world, reconstruct, worst_error
from tests.world import HEIGHT, PARAMS, WIDTH, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return photographed_world(tmp_path_factory.mktemp("world"))


def test_cameras_are_where_they_were_up_to_a_similarity(world: World, tmp_path: Path) -> None:
    found = centres(reconstruct(world, tmp_path / "sfm"))
    assert set(found) == set(world.database)
    truth = np.stack([world.poses[name].inverse().translation for name in found])
    aligned = pycolmap.estimate_sim3d(np.stack(list(found.values())), truth)
    moved = np.stack([aligned * centre for centre in found.values()])
    assert np.linalg.norm(moved - truth, axis=1).max() < 0.02
    assert read_model(tmp_path / "sfm").num_points3D() > 500
    assert len(list((tmp_path / "sfm/models").iterdir())) >= 1


def test_a_finished_model_is_read_and_another_one_is_never_replaced(world: World, tmp_path: Path) -> None:
    reconstruct(world, tmp_path / "sfm")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sfm").rglob("*")}
    reconstruct(world, tmp_path / "sfm")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "sfm").rglob("*")} == before
    with pytest.raises(InputError, match="different: camera_mode"):
        reconstruct(world, tmp_path / "sfm", camera_mode="PER_IMAGE")


def test_bad_input(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no camera mode 'ONE'"):
        reconstruct(world, tmp_path / "a", camera_mode="ONE")
    with pytest.raises(ConfigError, match="no image option 'camera'"):
        reconstruct(world, tmp_path / "b", image_options={"camera": 1})
    write_pairs(tmp_path / "pairs.txt", [("db/0.jpg", "db/9.jpg")])
    with pytest.raises(InputError, match=r"'db/9\.jpg'"):
        reconstruct(world, tmp_path / "c", pairs=tmp_path / "pairs.txt")
    write_pairs(tmp_path / "pairs.txt", [("db/0.jpg", "query/day/q0.jpg")])
    with pytest.raises(InputError, match=r"not in .*images, for example query/day/q0\.jpg"):
        reconstruct(world, tmp_path / "d", pairs=tmp_path / "pairs.txt")


def test_photographs_of_another_size_than_the_features(world: World, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in world.database:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(images / name), np.zeros((HEIGHT // 2, WIDTH, 3), np.uint8))
    with pytest.raises(InputError, match=r"features of db/0\.jpg are of 640x480 pixels and COLMAP's camera is 640x240"):
        reconstruction.main(tmp_path / "sfm", images, world.pairs_db, world.features, world.matches_db)


def known_cameras(names: list[str], focal: float = PARAMS[0]) -> dict[str, pycolmap.Camera]:
    """Two cameras that the images take in turn."""
    made = []
    for camera_id in (3, 5):
        params = [focal, *PARAMS[1:]]
        camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=params, camera_id=camera_id)
        camera.has_prior_focal_length = True
        made.append(camera)
    return {name: made[number % 2] for number, name in enumerate(names)}


@pytest.mark.parametrize("mapper", ["incremental", "global", "hierarchical"])
def test_every_mapper_finds_the_cameras_and_keeps_fixed_ones(world: World, tmp_path: Path, mapper: str) -> None:
    cameras = known_cameras(world.database)
    model = reconstruct(world, tmp_path / "sfm", mapper=mapper, cameras=cameras, fixed_cameras=[3, 5])
    assert set(centres(model)) == set(world.database)
    assert worst_error(world, model) < 0.02
    assert {camera_id: list(camera.params) for camera_id, camera in model.cameras.items()} == {
        3: list(PARAMS),
        5: list(PARAMS),
    }
    kept = [read_model(path) for path in sorted((tmp_path / "sfm/models").iterdir())]
    assert max(model.num_reg_images() for model in kept) == len(world.database)
    assert not list((tmp_path / "sfm").glob("calibrated.db*")) and not (tmp_path / "sfm/snapshots").exists()


def test_wrong_focal_lengths_are_refined_unless_fixed(world: World, tmp_path: Path) -> None:
    wrong = known_cameras(world.database, focal=1.1 * PARAMS[0])
    free = reconstruct(world, tmp_path / "free", cameras=wrong)
    assert all(abs(camera.params[0] - PARAMS[0]) < 5 for camera in free.cameras.values())
    with pytest.raises(InputError, match="different: cameras"):
        reconstruct(world, tmp_path / "free", cameras=wrong, fixed_cameras=[3, 5])


def test_the_global_mapper_estimates_focal_lengths_it_is_not_given(world: World, tmp_path: Path) -> None:
    model = reconstruct(world, tmp_path / "sfm", mapper="global", image_options={"camera_model": "SIMPLE_RADIAL"})
    assert set(centres(model)) == set(world.database)
    assert all(abs(camera.params[0] - PARAMS[0]) < 10 for camera in model.cameras.values())
    with pycolmap.Database.open(tmp_path / "sfm" / DATABASE_NAME) as database:
        assert [camera.params[0] for camera in database.read_all_cameras()] == [1.2 * WIDTH]  # the guess, unchanged


def test_verified_pairs_of_another_mapper_are_taken_over(world: World, tmp_path: Path) -> None:
    cameras = known_cameras(world.database)
    reconstruct(world, tmp_path / "first", cameras=cameras)

    def refuse(*_: object) -> None:
        raise AssertionError("a pair was verified again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruction, "estimate_geometry", refuse)
        model = reconstruct(
            world, tmp_path / "second", mapper="global", cameras=cameras, verified_by=tmp_path / "first"
        )
        assert set(centres(model)) == set(world.database)
        with pytest.raises(AssertionError, match="verified again"):  # other cameras: other inputs
            reconstruct(world, tmp_path / "third", mapper="global", verified_by=tmp_path / "first")


def test_separate_places_become_separate_models(world: World, tmp_path: Path) -> None:
    left, right = world.database[:4], world.database[4:]
    pairs = [(a, b) for side in (left, right) for i, a in enumerate(side) for b in side[i + 1 :]]
    write_pairs(tmp_path / "pairs.txt", pairs)
    options = {"pairs": tmp_path / "pairs.txt", "cameras": known_cameras(world.database)}
    model = reconstruct(world, tmp_path / "sfm", mapper_options={"min_model_size": 3}, **options)
    assert set(centres(model)) in (set(left), set(right))
    kept = [set(centres(read_model(path))) for path in (tmp_path / "sfm/models").iterdir()]
    assert sorted(map(sorted, kept)) == [left, right]


def test_bad_mappers_and_cameras(world: World, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="there is no mapper 'fast'; expected one of incremental, global, hierarchical"
    ):
        reconstruct(world, tmp_path / "a", mapper="fast")
    with pytest.raises(
        ConfigError, match="there is no mapper option 'refine_focal'; did you mean 'refine_focal_length'"
    ):
        reconstruct(world, tmp_path / "b", mapper="global", mapper_options={"refine_focal": False})
    with pytest.raises(InputError, match=r"1 of 8 images are not in the given cameras: 'db/0\.jpg'"):
        reconstruct(world, tmp_path / "c", cameras=known_cameras(world.database[1:]))
    with pytest.raises(reconstruction.NothingReconstructed, match="none of the 28 pairs passed"):
        reconstruct(world, tmp_path / "d", min_match_score=2.0)


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_a_true_pair_that_was_set_aside_comes_back_with_the_model(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapper: str
) -> None:
    aside: list[tuple[int, int]] = []

    def weakest(inliers: dict[tuple[int, int], int], *_: object) -> list[tuple[int, int]]:
        aside.append(min(inliers, key=lambda pair: (inliers[pair], pair)))
        return list(aside)

    monkeypatch.setattr(pair_graph, "unconfirmed_pairs", weakest)
    model = reconstruct(world, tmp_path / "sfm", mapper=mapper, cameras=known_cameras(world.database))
    assert set(centres(model)) == set(world.database) and len(aside) == 1
    with pycolmap.Database.open(tmp_path / "sfm" / DATABASE_NAME) as database:
        assert database.exists_two_view_geometry(*aside[0])
    assert pair_graph.pairs_set_aside(tmp_path / "sfm" / DATABASE_NAME) == []
    assert read_model(tmp_path / "sfm/models/0").num_reg_images() == len(world.database)


def test_nothing_is_set_aside_or_finished_when_told_so(world: World, tmp_path: Path) -> None:
    model = reconstruct(world, tmp_path / "sfm", max_steps=None, finish=False)
    assert pair_graph.pairs_set_aside(tmp_path / "sfm" / DATABASE_NAME) is None
    left = centres(read_model(tmp_path / "sfm/models/0"))
    assert all(np.array_equal(place, left[name]) for name, place in centres(model).items())
