"""The town as training data: exact frames by day and night, resumable, and never the towns that are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.rgbd import list_frames, read_depth, read_intrinsics, read_pose
from datasets.town import build_town, frames
from datasets.town.frames import CAMERA, FARTHEST_M, MANIFEST, write_frames
from samfeat_hloc.errors import ConfigError, InputError
from training.records import SourceConfig
from training.sources import open_source

DETAIL = 0.2
SEED = 1003


@pytest.fixture(scope="module", autouse=True)
def _one_town() -> Iterator[None]:
    """Drawing and lighting the town takes ten seconds: once is enough."""
    town = build_town(SEED, DETAIL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "build_town", lambda *_: town)
        yield


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("town") / "frames", SEED, places=2, detail=DETAIL, threads=1)


def config(folder: Path, seed: int = SEED, **more: object) -> SourceConfig:
    return SourceConfig(kind="town", path=str(folder), seed=seed, **more)  # type: ignore[arg-type]


def test_day_and_night_show_one_place(rendered: Path) -> None:
    listed = list_frames(rendered)
    assert [frame.name for frame in listed] == [f"frame-{index:06d}.color.jpg" for index in range(4)]
    for day, night in (listed[:2], listed[2:]):
        images = [cv2.imread(str(frame.colour)) for frame in (day, night)]
        assert images[0].shape == (480, 640, 3)
        assert images[1].mean() < 0.6 * images[0].mean()
        assert day.depth.read_bytes() == night.depth.read_bytes()
        assert (read_pose(day.pose) == read_pose(night.pose)).all()
    assert not np.allclose(read_pose(listed[0].pose), read_pose(listed[2].pose))


def test_depth_is_millimetres_up_to_65_m_and_masks_fit(rendered: Path) -> None:
    for frame in list_frames(rendered):
        depth = read_depth(frame.depth, (CAMERA.width, CAMERA.height))
        instances = cv2.imread(str(frame.depth).replace(".depth.", ".instances."), cv2.IMREAD_UNCHANGED)
        assert instances.dtype == np.uint16
        assert 0 < depth.max() <= FARTHEST_M
        assert (depth[instances == 0] == 0).all()  # sky
        assert (depth > 0).mean() > 0.5
        assert len(np.unique(instances)) > 3
    assert np.allclose(read_intrinsics(rendered), [[525, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])


def test_a_source_reads_it_with_the_objects_as_teacher(rendered: Path) -> None:
    source = open_source(config(rendered, teacher="rendered", overlap=(0.05, 1.0)))
    views = {view.name: view for view in source.views()}
    pairs = {(pair.first[6:12], pair.second[6:12]): pair.points for pair in source.pairs()}
    assert len(views) == 4
    assert source.skipped == {}
    assert all(view.teacher.groups is not None for view in views.values())
    same_place = pairs["000000", "000001"]  # day and night by one camera
    assert len(same_place) > 1000
    assert np.abs(same_place[:, :2] - same_place[:, 2:]).max() < 0.1


def test_a_finished_town_is_left_and_a_killed_one_goes_on(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in rendered.iterdir()}
    write_frames(rendered, SEED, places=2, detail=DETAIL)
    assert {path.name: path.stat().st_mtime_ns for path in rendered.iterdir()} == before
    write_text = frames._write_text

    def stop_at_second_place(path: Path, text: str) -> None:
        if path.name == "frame-000002.pose.txt":
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr(frames, "_write_text", stop_at_second_place)
    with pytest.raises(KeyboardInterrupt):
        write_frames(tmp_path, SEED, places=2, detail=DETAIL, threads=1)
    monkeypatch.undo()
    finished = (tmp_path / "frame-000000.color.jpg").stat().st_mtime_ns
    assert len(list(open_source(config(tmp_path, overlap=(0.0, 1.0))).views())) == 4  # goes on with its own settings
    assert (tmp_path / "frame-000000.color.jpg").stat().st_mtime_ns == finished
    for path in rendered.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.parametrize("seed", [0, 1, 2, -1])
def test_evaluated_towns_are_refused(tmp_path: Path, seed: int) -> None:
    with pytest.raises(ConfigError, match="for evaluation"):
        open_source(config(tmp_path / "town", seed))
    assert not (tmp_path / "town").exists()


def test_a_folder_of_something_else_is_refused(rendered: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"holds town {SEED} and seed is 1004"):
        open_source(config(rendered, 1004))
    with pytest.raises(InputError, match="holds another town"):
        write_frames(rendered, SEED, places=3, detail=DETAIL)
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="holds no town and is not empty"):
        open_source(config(tmp_path))
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        open_source(config(tmp_path))
