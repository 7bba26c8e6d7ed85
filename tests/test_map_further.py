"""Photographs that the global mapper lost are added by the incremental one, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from samfeat_hloc import map_further, reconstruction
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.map_further import add_lost
from samfeat_hloc.mappers import MappingTask, pipeline_options
from samfeat_hloc.stage_folder import DATABASE_NAME
from samfeat_hloc.weak_poses import LEAST_POINTS
from tests.reconstructing import centres, photographed_world, reconstruct, worst_error
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return photographed_world(tmp_path_factory.mktemp("further"))


@pytest.fixture(scope="module")
def mapped(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped") / "sfm"
    reconstruct(world, folder, mapper="global", finish=False)
    return folder


def without_first(folder: Path) -> str:
    """Take the pose of the first photograph in FOLDER/models/0; returns its name."""
    model = read_model(folder / "models/0")
    image = model.images[min(model.images)]
    name = str(image.name)
    model.deregister_frame(image.frame_id)
    model.write_binary(folder / "models/0")
    return name


def task_of(folder: Path, world: World, mapper: str = "global") -> MappingTask:
    return MappingTask(
        mapper=mapper,
        database=folder / DATABASE_NAME,
        image_dir=world.images,
        folder=folder,
        options=pipeline_options(mapper),
    )


def test_a_lost_photograph_gets_its_place(
    world: World, mapped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = Path(shutil.copytree(mapped, tmp_path / "sfm"))
    name = without_first(folder)
    [model] = add_lost(task_of(folder, world), [read_model(folder / "models/0")])
    for found in (model, read_model(folder / "models/0")):
        assert set(centres(found)) == set(world.database) and worst_error(world, found) < 0.02
        assert next(image for image in found.images.values() if image.name == name).num_points3D >= LEAST_POINTS
    assert (
        "1 photographs with verified pairs were not in the largest model; the incremental mapper added 1" in caplog.text
    )


def test_fixed_cameras_stay(world: World, mapped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mapped, tmp_path / "sfm"))
    without_first(folder)
    before = read_model(folder / "models/0")
    task = task_of(folder, world)
    fixed = MappingTask(**{**vars(task), "fixed_cameras": list(before.cameras)})
    [model] = add_lost(fixed, [before])
    assert set(centres(model)) == set(world.database)
    assert all(list(model.cameras[key].params) == list(camera.params) for key, camera in before.cameras.items())


def test_the_stage_adds_what_it_took_back(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = reconstruction.keep_supported

    def stricter(models: list[pycolmap.Reconstruction], folder: Path) -> None:
        inner(models, folder)
        without_first(folder.parent)
        models[0] = read_model(folder / "0")

    monkeypatch.setattr(reconstruction, "keep_supported", stricter)
    model = reconstruct(world, tmp_path / "sfm", mapper="global")
    assert set(centres(model)) == set(world.database) == set(centres(read_model(tmp_path / "sfm")))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("mapping went on")


def test_mapping_goes_on_only_when_the_global_mapper_lost_something(
    world: World, mapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_further, "_go_on", refuse)
    folder = Path(shutil.copytree(mapped, tmp_path / "sfm"))
    whole = [read_model(folder / "models/0")]
    assert add_lost(task_of(folder, world), whole) == whole
    assert add_lost(task_of(folder, world), []) == []
    without_first(folder)
    less = [read_model(folder / "models/0")]
    assert add_lost(task_of(folder, world, "hierarchical"), less) == less
    assert add_lost(task_of(folder, world, "incremental"), less) == less
    with pytest.raises(AssertionError, match="went on"):
        add_lost(task_of(folder, world), less)


def test_a_model_that_gains_none_stays_as_it_is(
    world: World, mapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(mapped, tmp_path / "sfm"))
    without_first(folder)
    before = (folder / "models/0/images.bin").read_bytes()
    same = read_model(folder / "models/0")
    monkeypatch.setattr(map_further.pycolmap, "incremental_mapping", lambda *_, **__: {0: same})
    [model] = add_lost(task_of(folder, world), [read_model(folder / "models/0")])
    assert model is not same and centres(model).keys() == centres(same).keys()
    assert (folder / "models/0/images.bin").read_bytes() == before
