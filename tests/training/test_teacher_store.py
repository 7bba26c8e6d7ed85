"""A teacher's store: resumed after any kill, never computed twice, never a row of another image."""

from __future__ import annotations

import json
import logging
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.h5store import journal_path
from samfeat_hloc.formats.journal import Journal, Record
from samfeat_hloc.images import read_image
from tests.kill import kill_after, run
from training.records import TeacherRow
from training.teacher import main
from training.teachers import shards as teacher_shards
from training.teachers.rendered import RenderedTeacher
from training.teachers.segmentation import SegmentationTeacher
from training.teachers.shards import ShardWriter, shard_path, unfinished_rows
from training.teachers.store import StoredTeacher, open_teacher, write_store

SLOW_STORE = """
import sys, time
from pathlib import Path
import numpy as np
from training.records import TeacherRow
from training.teachers.store import write_store

class Slow:
    signature = {"kind": "slow"}
    def row(self, path, image):
        time.sleep(0.1)
        with open(sys.argv[3], "a") as log:
            log.write(path.name + chr(10))
        return TeacherRow(groups=np.full(image.shape[:2], int(image[0, 0, 0]), np.int16))

write_store(Slow(), Path(sys.argv[1]), Path(sys.argv[2]), per_shard=4)
"""


class Counting:
    """A teacher whose row says which image it saw, and which counts."""

    def __init__(self, setting: int = 0) -> None:
        self.signature: dict[str, Any] = {"kind": "counting", "setting": setting}
        self.seen: list[str] = []

    def row(self, path: Path, image: npt.NDArray[np.uint8]) -> TeacherRow | None:
        self.seen.append(path.name)
        if path.stem == "unknown":
            return None
        if path.stem == "misfit":
            raise InputError("the map has another size")
        value = int(image[0, 0, 0])
        return TeacherRow(
            embedding=np.full((4, 3, 5), value, np.float16),
            extent=(4.5, 3.0),
            groups=np.full(image.shape[:2], value, np.int16),
            edges=np.full((2, 2), value, np.uint8),
        )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for index in range(11):
        name = f"below/{index}.png" if index % 2 else f"{index}.png"
        Image.fromarray(np.full((12, 16, 3), index, np.uint8)).save(folder / name)
    return folder


def value_of(teacher: StoredTeacher, path: Path) -> int:
    row = teacher.row(path, read_image(path)[0])
    assert row is not None and row.groups is not None
    return int(row.groups[0, 0])


def check_whole(store: Path, photos: Path) -> None:
    stored = StoredTeacher(store)
    paths = sorted(photos.rglob("*.png"))
    assert len(stored) == len(paths) == 11
    assert all(value_of(stored, path) == int(path.stem) for path in paths)
    for path in store.glob("shard-*.h5"):
        with h5py.File(path) as shard:
            assert len(json.loads(shard["index"][()])) <= 4
    leftovers = [path.name for path in store.iterdir() if path.suffix not in (".h5", ".json")]
    assert not leftovers


def test_rows_come_back_as_they_were(photos: Path, tmp_path: Path) -> None:
    teacher = Counting()
    assert write_store(teacher, photos, tmp_path / "store", per_shard=4) == 11
    check_whole(tmp_path / "store", photos)
    assert len(list((tmp_path / "store").glob("shard-*.h5"))) == 3
    stored = StoredTeacher(tmp_path / "store")
    assert stored.signature == teacher.signature
    path = photos / "below" / "7.png"
    image = read_image(path)[0]
    row, expected = stored.row(path, image), teacher.row(path, image)
    assert row is not None and expected is not None and row.extent == expected.extent
    for key in ("embedding", "groups", "edges"):
        found, wanted = getattr(row, key), getattr(expected, key)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    with h5py.File(shard_path(tmp_path / "store", 0)) as shard:
        assert shard["rows/0.png/groups"].compression == "gzip"


def test_parts_that_are_switched_off_stay_off(photos: Path, tmp_path: Path) -> None:
    class Groups(Counting):
        def row(self, path: Path, image: npt.NDArray[np.uint8]) -> TeacherRow:
            return TeacherRow(groups=np.ones((3, 4), np.int16))

    write_store(Groups(), photos, tmp_path / "store")
    row = StoredTeacher(tmp_path / "store").row(photos / "0.png", np.zeros((12, 16, 3), np.uint8))
    assert row is not None and row.groups is not None
    assert row.embedding is None and row.edges is None and row.extent is None


def test_killed_again_and_again_nothing_is_computed_twice(photos: Path, tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    for number, items in ((0, 2), (1, 1)):
        kill_after(items, journal_path(shard_path(store, number)), SLOW_STORE, photos, store, log)
    before = log.read_text().split()
    safe = unfinished_rows(store) + (len(StoredTeacher(store)) if (store / "shard-00000.h5").exists() else 0)
    assert 5 <= safe < 11
    log.unlink()
    assert run(SLOW_STORE, photos, store, log).returncode == 0
    after = log.read_text().split()
    assert len(after) == len(set(after)) == 11 - safe
    assert set(before) | set(after) == {f"{index}.png" for index in range(11)}
    check_whole(store, photos)


def test_a_kill_while_a_shard_is_written_loses_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SIGKILL would leave it: the journal full, the shard not there or there, half of it under another name."""
    store, first = tmp_path / "store", Counting()

    def killed(path: Path, journal: Journal) -> None:
        shutil.copy(journal.path, tmp_path / "kept.journal")
        (store / ".shard-00000.h5.abc.tmp").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(teacher_shards, "_write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            write_store(first, photos, store, per_shard=4)
    assert len(first.seen) == 4 and not list(store.glob("*.h5"))
    second = Counting()
    write_store(second, photos, store, per_shard=4)
    assert not set(first.seen) & set(second.seen) and len(second.seen) == 7
    check_whole(store, photos)

    shutil.copy(tmp_path / "kept.journal", journal_path(store / "shard-00000.h5"))  # killed before it was removed
    assert not unfinished_rows(store)
    third = Counting()
    assert write_store(third, photos, store, per_shard=4) == 11
    assert not third.seen
    check_whole(store, photos)


def test_new_images_are_added_and_a_torn_record_is_done_again(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    class Stops(Counting):
        def row(self, path: Path, image: npt.NDArray[np.uint8]) -> TeacherRow | None:
            if len(self.seen) == 3:
                raise KeyboardInterrupt
            return super().row(path, image)

    with pytest.raises(KeyboardInterrupt):
        write_store(Stops(), photos, store)
    journal = journal_path(store / "shard-00000.h5")
    journal.write_bytes(journal.read_bytes()[:-5])
    again = Counting()
    assert write_store(again, photos, store) == 11
    assert len(again.seen) == 9
    Image.fromarray(np.full((12, 16, 3), 99, np.uint8)).save(photos / "99.png")
    more = Counting()
    assert write_store(more, photos, store) == 12
    assert more.seen == ["99.png"]
    assert value_of(StoredTeacher(store), photos / "99.png") == 99


def test_an_unfinished_store_says_so(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = tmp_path / "store"
    write_store(Counting(), photos, store)
    journal = Journal.open(journal_path(store / "shard-00001.h5"), {"signature": Counting().signature})
    journal.append(Record("x.png", {}, {}))
    journal.close()
    with caplog.at_level(logging.WARNING):
        StoredTeacher(store)
    assert "rows that are not used yet (1)" in caplog.text


def test_another_teacher_is_refused(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_store(Counting(), photos, store)
    with pytest.raises(InputError, match="by another teacher: setting is 0 there and 1 now; give another folder"):
        write_store(Counting(1), photos, store)
    write_store(Counting(1), photos, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "shard-00000.h5", store / "shard-00007.h5")
    with pytest.raises(InputError, match=r"shard-00007\.h5 was made by another teacher"):
        StoredTeacher(store)
    with pytest.raises(InputError, match="not empty"):
        write_store(Counting(), photos, photos)


def test_two_processes_cannot_write_one_store(photos: Path, tmp_path: Path) -> None:
    store, teacher = tmp_path / "store", Counting()
    write_store(teacher, photos, store)
    with (
        ShardWriter(store, teacher.signature),
        pytest.raises(InputError, match="another process"),
    ):
        write_store(teacher, photos, store)


def test_a_row_of_another_image_is_refused(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_store(Counting(), photos, store)
    stored, path = StoredTeacher(store), photos / "below" / "3.png"
    image = read_image(path)[0]
    with pytest.raises(InputError, match=r"row of 'below/3\.png' with 16x12 pixels.*3\.png was given with 8x12"):
        stored.row(path, image[:, :8])
    shutil.copy(photos / "0.png", path)
    with pytest.raises(InputError, match=r"row of 'below/3\.png' that was made from another file than .*3\.png"):
        stored.row(path, image)
    path.write_bytes(path.read_bytes() + b"longer")
    with pytest.raises(InputError, match="is another file than the one whose row"):
        write_store(Counting(), photos, store)
    assert stored.row(photos / "below" / "0.png", image) is None  # not the row of 0.png


def test_images_that_moved_are_found(photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_store(Counting(), photos, store)
    moved = photos.rename(tmp_path / "elsewhere")
    assert value_of(StoredTeacher(store), moved / "below" / "5.png") == 5
    assert value_of(StoredTeacher(store, moved / "below" / ".."), moved / "4.png") == 4
    only_below = StoredTeacher(store, moved / "below")
    assert only_below.row(moved / "below" / "5.png", read_image(moved / "below" / "5.png")[0]) is None
    (tmp_path / "unknown.png").write_bytes(b"")
    assert StoredTeacher(store).row(tmp_path / "unknown.png", np.zeros((12, 16, 3), np.uint8)) is None


def test_what_has_no_row_is_listed_and_the_rest_goes_on(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "torn.png").write_bytes((photos / "0.png").read_bytes()[:40])
    for name in ("unknown", "misfit"):
        shutil.copy(photos / "0.png", photos / f"{name}.png")
    store = tmp_path / "store"
    with caplog.at_level(logging.WARNING):
        assert write_store(Counting(), photos, store) == 11
    skipped = {row["name"]: row["reason"] for row in json.loads((store / "skipped.json").read_text())}
    assert set(skipped) == {"torn.png", "unknown.png", "misfit.png"}
    assert "cannot be read" in skipped["torn.png"] and "another size" in skipped["misfit.png"]
    assert "left out 3 images" in caplog.text
    for name in skipped:
        (photos / name).unlink()
    write_store(Counting(), photos, store)
    assert not (store / "skipped.json").exists()
    for path in photos.rglob("*.png"):
        path.rename(path.with_name("unknown.png"))
    with pytest.raises(InputError, match=r"none of the 2 images has a row; the first, below/unknown\.png: the teacher"):
        write_store(Counting(), photos, tmp_path / "empty")


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """32 rows of 2 MB each, in shards of 8: neither writing nor opening holds more than a few."""

    class Large(Counting):
        def row(self, path: Path, image: npt.NDArray[np.uint8]) -> TeacherRow:
            return TeacherRow(embedding=np.full((256, 64, 64), int(path.stem), np.float16))

    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(32):
        Image.fromarray(np.full((12, 16, 3), index, np.uint8)).save(photos / f"{index:02d}.png")
    tracemalloc.start()
    write_store(Large(), photos, tmp_path / "store", per_shard=8)
    stored = StoredTeacher(tmp_path / "store")
    row = stored.row(photos / "31.png", read_image(photos / "31.png")[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row is not None and row.embedding is not None and row.embedding[0, 0, 0] == 31
    assert peak < 16e6  # all rows have 67 MB, a shard of them has 17 MB


def test_open_teacher(photos: Path, tmp_path: Path) -> None:
    assert open_teacher(None) is None
    assert isinstance(open_teacher("segmentation"), SegmentationTeacher)
    assert isinstance(open_teacher("rendered"), RenderedTeacher)
    write_store(Counting(), photos, tmp_path / "store")
    assert isinstance(open_teacher(str(tmp_path / "store")), StoredTeacher)
    with pytest.raises(ConfigError, match="there is no teacher 'segmentatoin'; expected segmentation, rendered, or"):
        open_teacher("segmentatoin")
    with pytest.raises(InputError, match=r"is no teacher's store: it has no teacher\.json"):
        open_teacher(str(photos))
    (tmp_path / "store" / "teacher.json").write_text("{")
    with pytest.raises(InputError, match=r"teacher\.json is damaged"):
        open_teacher(str(tmp_path / "store"))


def test_a_damaged_shard_is_named(photos: Path, tmp_path: Path) -> None:
    write_store(Counting(), photos, tmp_path / "store")
    shard = tmp_path / "store" / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"shard-00000\.h5 is not a whole h5 file"):
        open_teacher(str(tmp_path / "store"))


def test_maps_beside_photographs_are_no_photographs(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    image = np.zeros((40, 60, 3), np.uint8)
    for name in ("one.webp", "two.png"):
        Image.fromarray(image).save(photos / name)
        labels = np.repeat(np.arange(2, dtype=np.uint8), 20)[:, None].repeat(60, axis=1)
        Image.fromarray(labels).save(photos / f"{Path(name).stem}_groups.png")
    main(["--images", str(photos), "--output", str(tmp_path / "store"), "--kind", "segmentation"])
    stored = open_teacher(str(tmp_path / "store"))
    assert isinstance(stored, StoredTeacher) and len(stored) == 2
    assert stored.signature == SegmentationTeacher().signature
    row = stored.row(photos / "one.webp", image)
    assert row is not None and row.groups is not None and row.groups.max() == 2 and row.edges is None
