"""Packs: what comes back, how large they may be, what damages do, and chapters that cover everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from samfeat_hloc.errors import ConfigError, InputError
from tests.kill import ROOT
from tests.training.photographs import smooth_photo, write_photos
from tests.training.scenes import write_rgbd
from training import pack as pack_module
from training.pack import pack, parse_source
from training.packing.reader import Pack
from training.packing.writer import PackOptions
from training.records import SourceConfig
from training.sources import open_source


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[SourceConfig]:
    root = tmp_path_factory.mktemp("sources")
    photos = write_photos(root / "photos", 3, segmented=True)
    cv2.imwrite(str(photos / "large.jpg"), smooth_photo(7, 300, 700))
    cv2.imwrite(str(photos / "kept.jpg"), smooth_photo(8, 150, 150))
    (photos / "broken.png").write_bytes(b"no image")
    with h5py.File(root / "keypoints.h5", "w") as file:
        for index in range(4):
            data = np.array([[10.0, 20.5], [100.25, 7.0]]) + index
            file.create_dataset(f"frame-{index:06d}.color.png/keypoints", data=data)
    return [
        SourceConfig("photos", str(photos), weight=2.0, teacher="segmentation"),
        SourceConfig(
            "rgbd", str(write_rgbd(root / "rgbd")), overlap=(0.1, 0.95), keypoints=str(root / "keypoints.h5")
        ),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def packed(sources: list[SourceConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(sources, tmp_path_factory.mktemp("pack") / "data.h5")


def test_views_and_pairs_come_back(sources: list[SourceConfig], packed: Path) -> None:
    with Pack(packed) as file:
        assert file.weights.tolist() == [2.0, 1.0]
        assert [source.views for source in file.sources] == [5, 4]
        assert file.sources[0].skipped == {"unreadable image": 1, "kept without a teacher row": 2}
        assert file.sources[0].teacher is not None and file.sources[0].teacher["kind"] == "segmentation"
        assert file.sources[1].config == sources[1]
        assert file.header["options"]["channels"] == PackOptions().channels
        found = {(file.view_source[index], file.names[index]): file.view(index) for index in range(len(file))}
        first_pair = 0
        for number, config in enumerate(sources):
            source = open_source(config)
            for view in source.views():
                stored = found.pop((number, view.name))
                assert stored.image.shape == view.image.shape
                difference = np.abs(stored.image.astype(int) - view.image).mean()
                assert difference < 10  # noise is hard to compress
                if view.name == "kept.jpg":
                    assert difference == 0
                assert (stored.teacher.embedding is None) == (view.teacher.embedding is None)
                if view.keypoints is not None and stored.keypoints is not None:
                    assert np.abs(np.sort(stored.keypoints, 0) - np.sort(view.keypoints, 0)).max() <= 1 / 32
                else:
                    assert view.keypoints is stored.keypoints is None
            for pair in source.pairs():
                first, second, points = file.pair(first_pair)
                assert (file.names[first], file.names[second]) == (pair.first, pair.second)
                assert file.pair_source[first_pair] == number
                assert points.dtype == np.float32
                assert len(points) <= PackOptions().pair_points
                nearest = [np.abs(pair.points - point).max(axis=1).min() for point in points[::50]]
                assert max(nearest) <= 1 / 32
                first_pair += 1
        assert not found
        assert first_pair == file.num_pairs > 0


def test_a_limit_lowers_quality_first_and_then_leaves_views_out_of_every_source(
    sources: list[SourceConfig], packed: Path, tmp_path: Path
) -> None:
    whole = packed.stat().st_size
    overhead = pack_module.BYTES_A_FILE
    lower = pack(sources, tmp_path / "lower.h5", 0.9 * whole / pack_module.MIB, PackOptions(tight_quality=20))
    with Pack(lower) as file:
        assert len(file) == 9
        assert not any(source.left_out for source in file.sources)
    part = pack(sources, tmp_path / "part.h5", (overhead + (whole - overhead) / 2) / pack_module.MIB)
    assert part.stat().st_size <= overhead + (whole - overhead) / 2
    with Pack(part) as file:
        counts = [(source.views, source.left_out) for source in file.sources]
        assert [views + left for views, left in counts] == [5, 4]
        assert all(views for views, _ in counts) and any(left for _, left in counts)
        assert file.sources[1].pairs == file.num_pairs > 0
        [file.view(index) for index in range(len(file))]
        assert set(file.pair_views.ravel()) <= set(np.flatnonzero(file.view_source == 1))
    with pytest.raises(ConfigError, match="nothing fits"):
        pack(sources, tmp_path / "none.h5", 0.001)
    assert not (tmp_path / "none.h5").exists()
    assert pack(sources, tmp_path / "all.h5", None).stat().st_size == pytest.approx(whole, rel=0.01)


def test_a_pack_is_a_source(packed: Path, tmp_path: Path) -> None:
    again = pack([SourceConfig("pack", str(packed), weight=3.0)], tmp_path / "again.h5")
    with Pack(packed) as before, Pack(again) as after:
        assert len(after) == len(before)
        assert after.num_pairs == before.num_pairs
        assert after.weights.tolist() == [3.0]
        assert after.names[0] == f"0/{before.names[0]}"
        assert all(before.encoded(index) == after.encoded(index) for index in range(len(before)))
        points = [np.sort(file.pair(0)[2], axis=0) for file in (before, after)]
        assert np.abs(points[0] - points[1]).max() == 0
    with pytest.raises(ConfigError, match="when packing"):
        open_source(SourceConfig("pack", str(packed), teacher="segmentation"))


def test_the_same_sources_give_the_same_bytes(sources: list[SourceConfig], packed: Path, tmp_path: Path) -> None:
    assert pack(sources, tmp_path / "data.h5").read_bytes() == packed.read_bytes()


def test_damaged_and_foreign_files_are_refused(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a whole h5 file"):
        Pack(cut)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["depth"] = np.zeros(3)
    with pytest.raises(InputError, match="is not a pack"):
        Pack(tmp_path / "foreign.h5")
    with pytest.raises(InputError, match="does not exist"):
        Pack(tmp_path / "absent.h5")
    with Pack(packed) as file:
        photograph = file.encoded(2)
    place = whole.index(photograph[100:160])
    flipped = tmp_path / "flipped.h5"
    flipped.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with Pack(flipped) as file, pytest.raises(InputError, match="damaged"):
        file.view(2)
    with h5py.File(cut, "w") as file, h5py.File(packed) as good:
        for key in ("names", "views"):
            good.copy(key, file)
        file.attrs.update(good.attrs)
    with pytest.raises(InputError, match="damaged pack"):
        Pack(cut)


def test_an_error_or_a_kill_leaves_no_half_file(
    sources: list[SourceConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "data.h5"
    output.write_bytes(b"what was there")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f".data.h5.packing-{int(dead.stdout)}"
    left.mkdir()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_module.PackWriter, "add_pair", fail)
    with pytest.raises(KeyboardInterrupt):
        pack(sources, output)
    assert [path.name for path in tmp_path.iterdir()] == ["data.h5"]
    assert output.read_bytes() == b"what was there"


def test_one_chapter_holds_everything_when_it_fits(packed: Path) -> None:
    with Pack(packed) as file:
        assert file.num_chapters(9) == 1
        views, pairs = file.chapter(5, 9)
        assert sorted(views) == list(range(9))
        assert sorted(pairs) == list(range(file.num_pairs))
        assert file.num_chapters(4) > 1
        assert (file.chapter(0, 4).views == file.chapter(file.num_chapters(4), 4).views).all()
        with pytest.raises(ConfigError, match="at least 4"):
            file.chapter(0, 3)


def test_sources_on_the_command_line(tmp_path: Path) -> None:
    assert parse_source("kind=photos,path=a b,weight=0.5,limit=3,overlap=0.2:0.7") == SourceConfig(
        "photos", "a b", weight=0.5, limit=3, overlap=(0.2, 0.7)
    )
    assert parse_source('{"kind": "rgbd", "path": "a,b"}') == SourceConfig("rgbd", "a,b")
    for bad, message in [
        ("photos", "is not key=value"),
        ("kind=photos", "has no path"),
        ("kind=photo,path=a", "kind is 'photo'"),
        ("kind=photos,path=a,wieght=1", "did you mean 'weight'"),
        ("kind=photos,path=a,limit=many", "limit is 'many'"),
        ("{kind", "is not JSON"),
    ]:
        with pytest.raises(ConfigError, match=message):
            parse_source(bad)
    with pytest.raises(ConfigError, match="no source"):
        pack([], tmp_path / "data.h5")


def test_the_command_line_packs_and_says_what_is_wrong(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    command = [sys.executable, "-m", "training.pack", "--output", str(tmp_path / "data.h5")]
    good = [*command, "--source", f"kind=photos,path={photos}", "--quality", "50"]
    done = subprocess.run(good, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 views, 0 pairs" in done.stderr
    with Pack(tmp_path / "data.h5") as file:
        assert file.header["options"]["quality"] == 50
    bad = [*command, "--source", f"kind=photos,path={tmp_path}/absent"]
    refused = subprocess.run(bad, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("error: ")
