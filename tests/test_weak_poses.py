"""Poses that hardly a point of the model supports are taken back, and the folder of models says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from samfeat_hloc import reconstruction
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.mappers import MappingTask
from samfeat_hloc.weak_poses import LEAST_POINTS, keep_supported, let_go
from tests.reconstructing import photographed_world, reconstruct


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weak")
    reconstruct(photographed_world(root / "world"), root / "sfm")
    return root / "sfm"


def forget(model: pycolmap.Reconstruction, image_id: int, left: int) -> str:
    """Let a photograph see no more than so many points; returns its name."""
    image = model.images[image_id]
    seen = [index for index, point in enumerate(image.points2D) if point.has_point3D()]
    for index in seen[left:]:
        if model.images[image_id].points2D[index].has_point3D():  # its point may have gone with another
            model.delete_observation(image_id, index)
    return str(image.name)


def test_a_photograph_without_points_loses_its_pose(mapped: Path) -> None:
    model = read_model(mapped)
    count, points = model.num_reg_images(), model.num_points3D()
    assert let_go(model) == [] and model.num_reg_images() == count
    first = sorted(model.images)[0]
    name = forget(model, first, LEAST_POINTS - 1)
    assert let_go(model) == [name]
    assert model.num_reg_images() == count - 1 and not model.images[first].has_pose
    assert model.num_points3D() > 0.9 * points  # nearly all are seen by others


def test_the_folder_of_models_is_written_anew(mapped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = [read_model(mapped), read_model(mapped)]
    name = forget(models[1], sorted(models[1].images)[0], 3)
    for number, model in enumerate(models):
        (tmp_path / str(number)).mkdir()
        model.write_binary(tmp_path / str(number))
    keep_supported(models, tmp_path)
    whole, less = (read_model(tmp_path / str(number)) for number in (0, 1))
    assert whole.num_reg_images() == less.num_reg_images() + 1 == models[1].num_reg_images() + 1
    assert name not in {image.name for image in less.images.values() if image.has_pose}
    assert f"1 photographs see fewer than {LEAST_POINTS} points of model 1 and lose their poses: {name}" in caplog.text


def test_two_photographs_stay(mapped: Path) -> None:
    model = read_model(mapped)
    for image in list(model.images.values())[2:]:
        model.deregister_frame(image.frame_id)
    forget(model, next(image.image_id for image in model.images.values() if image.has_pose), 3)
    assert let_go(model) == [] and model.num_reg_images() == 2


def test_a_model_is_never_left_empty(mapped: Path) -> None:
    model = read_model(mapped)
    assert len(let_go(model, least=10**6)) == len(model.images) - 2 and model.num_reg_images() == 2


def test_the_stage_does_it_between_mapping_and_the_last_adjustment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, names = reconstruction.run_mapper, []

    def forgetful(task: MappingTask) -> list[pycolmap.Reconstruction]:
        models = inner(task)
        names.append(forget(models[0], sorted(models[0].images)[0], 1))
        return models

    monkeypatch.setattr(reconstruction, "run_mapper", forgetful)
    model = reconstruct(photographed_world(tmp_path / "world"), tmp_path / "sfm")
    for found in (model, read_model(tmp_path / "sfm"), read_model(tmp_path / "sfm" / "models" / "0")):
        assert names[0] not in {image.name for image in found.images.values() if image.has_pose}
        assert found.num_reg_images() > 2
