"""Pairs that were set aside come back when the model says that they close a loop, and only then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import pair_graph
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.loop_closing import close_loops, joined_points
from samfeat_hloc.pair_graph import pairs_set_aside, set_aside_unconfirmed


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, pycolmap.Reconstruction]:
    """A database with true matches and the true model; every image sees every point."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 6, 150
    options.two_view_geometry_has_relative_pose = True
    pycolmap.set_random_seed(0)
    path = tmp_path / "database.db"
    with pycolmap.Database.open(path) as database:
        model = pycolmap.synthesize_dataset(options, database)
    return path, model


def aside(path: Path, pairs: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_graph, "unconfirmed_pairs", lambda *_: pairs)
    assert set_aside_unconfirmed(path) == len(pairs)


def test_a_pair_that_the_model_agrees_with_comes_back(
    made: tuple[Path, pycolmap.Reconstruction], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = made
    pair = tuple(sorted(model.reg_image_ids())[:2])
    aside(path, [pair], monkeypatch)
    with pycolmap.Database.open(path) as database:
        assert not database.exists_two_view_geometry(*pair)
    assert close_loops(path, model) == 1
    with pycolmap.Database.open(path) as database:
        assert len(database.read_two_view_geometry(*pair).inlier_matches) >= 15
    assert pairs_set_aside(path) == [] and close_loops(path, model) == 0


def test_a_place_that_looks_alike_stays_out(
    made: tuple[Path, pycolmap.Reconstruction], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = made
    pair = tuple(sorted(model.reg_image_ids())[:2])
    with pycolmap.Database.open(path) as database:
        matches = database.read_matches(*pair)
        wrong = np.column_stack([matches[:, 0], np.roll(matches[:, 1], 31)])
        database.clear_matches()
        database.write_matches(*pair, wrong)
    assert joined_points(model, pair, matches.astype(np.int32)) == len(matches)
    assert joined_points(model, pair, wrong.astype(np.int32)) < len(matches) / 5
    aside(path, [pair], monkeypatch)
    assert close_loops(path, model) == 0
    assert pairs_set_aside(path) == [pair]


def test_photographs_outside_the_model_are_passed_over(
    made: tuple[Path, pycolmap.Reconstruction], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = made
    pair = tuple(sorted(model.reg_image_ids())[:2])
    aside(path, [pair], monkeypatch)
    model.deregister_frame(model.images[pair[0]].frame_id)
    assert close_loops(path, model) == 0


def test_nobody_looked(made: tuple[Path, pycolmap.Reconstruction]) -> None:
    assert close_loops(*made) == 0
