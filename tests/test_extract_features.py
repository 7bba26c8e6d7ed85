"""The extraction stage: survives SIGKILL and Ctrl-C, leaves bad images out, keeps hloc's conventions."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from samfeat_hloc import extract_features
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.extractors import Extractor, get_extractor
from samfeat_hloc.formats.features import FeatureReader, Features
from samfeat_hloc.formats.h5store import journal_path
from samfeat_hloc.formats.journal import count_records
from tests.kill import kill_after, run

COUNT = 12
SLOW_STAGE = """
import sys, time
from pathlib import Path
from samfeat_hloc import extract_features
from samfeat_hloc.errors import run_cli
from samfeat_hloc.extractors import sift

class Slow(sift.SIFT):
    def __call__(self, image):
        time.sleep(0.03)
        with Path(sys.argv[3]).open("a") as log:
            log.write("x")
        return super().__call__(image)

sift.SIFT = Slow
run_cli(lambda: extract_features.main("sift", sys.argv[1], feature_path=sys.argv[2]))
"""

MANY = """
    def extract_many(self, images):
        return [self(image) for image in images]

sift.SIFT = Slow
"""
BATCHES = SLOW_STAGE.replace("\nsift.SIFT = Slow\n", MANY).replace(
    "feature_path=sys.argv[2])", "feature_path=sys.argv[2], batch=4)"
)


def texture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "db").mkdir(parents=True)
    for number in range(COUNT):
        Image.fromarray(texture(number)).save(root / "db" / f"{number:02d}.png")
    return root


def contents(path: Path) -> dict[str, tuple[bytes, ...]]:
    with FeatureReader(path) as reader:
        return {
            name: (f.keypoints.tobytes(), f.descriptors.tobytes(), f.scores.tobytes(), repr(f.image_size).encode())
            for name in reader.names
            for f in [reader.read(name)]
        }


def test_killed_twice_and_interrupted(tmp_path: Path, images: Path) -> None:
    """SIGKILL, SIGKILL, Ctrl-C: the same file as without, and every image was computed once but those in flight."""
    whole = extract_features.main("sift", images, feature_path=tmp_path / "whole.h5")
    path, log = tmp_path / "f.h5", tmp_path / "log"
    arguments = (images, path, log)
    assert kill_after(3, journal_path(path), SLOW_STAGE, *arguments) == -signal.SIGKILL
    assert not path.exists()
    assert kill_after(6, journal_path(path), SLOW_STAGE, *arguments) == -signal.SIGKILL
    assert kill_after(9, journal_path(path), SLOW_STAGE, *arguments, how=signal.SIGINT) == 130
    last = run(SLOW_STAGE, *arguments)
    assert last.returncode == 0, last.stderr
    assert contents(path) == contents(whole)
    assert path.read_bytes() == whole.read_bytes()
    assert COUNT <= len(log.read_text()) <= COUNT + 3  # one in flight at each end
    assert not journal_path(path).exists()
    assert run(SLOW_STAGE, *arguments).returncode == 0
    assert len(log.read_text()) <= COUNT + 3  # nothing is computed again


def test_killed_in_the_middle_of_a_batch(tmp_path: Path, images: Path) -> None:
    """Nothing that was finished is computed again: at most the batches that were under way."""
    whole = extract_features.main("sift", images, feature_path=tmp_path / "whole.h5")
    path, log = tmp_path / "f.h5", tmp_path / "log"
    assert kill_after(2, journal_path(path), BATCHES, images, path, log) == -signal.SIGKILL
    done = count_records(journal_path(path))
    before = len(log.read_text())
    last = run(BATCHES, images, path, log)
    assert last.returncode == 0, last.stderr
    assert len(log.read_text()) - before == COUNT - done
    assert path.read_bytes() == whole.read_bytes()


def test_batches_are_of_one_size_and_in_order(tmp_path: Path, images: Path) -> None:
    Image.fromarray(texture(50, 80, 80)).save(images / "db" / "03.png")
    (images / "db" / "05.png").write_bytes(b"no image")
    sift = get_extractor("sift")
    sizes: list[int] = []

    class Batched(Extractor):
        name, conf, weights_sha256, default_batch = sift.name, sift.conf, sift.weights_sha256, 4

        def __call__(self, image: np.ndarray) -> Features:
            sizes.append(1)
            return sift(image)

        def extract_many(self, group: list[np.ndarray]) -> list[Features]:
            sizes.append(len(group))
            assert len({image.shape for image in group}) == 1
            return [sift(image) for image in group]

    path = extract_features.main("sift", images, tmp_path, extractor=Batched())
    assert sizes == [3, 1, 4, 3]  # 0-2, 3, 4 and 6-8, 9-11
    single = extract_features.main("sift", images, feature_path=tmp_path / "single.h5", batch=1)
    assert path.read_bytes() == single.read_bytes()
    by_default = extract_features.main("sift", images, feature_path=tmp_path / "by_default.h5", batch=4)
    assert path.read_bytes() == by_default.read_bytes()  # SIFT has no way of its own to extract several
    with pytest.raises(ConfigError, match="batch is 0"):
        extract_features.main("sift", images, tmp_path, batch=0)


def test_a_file_has_features_of_one_precision(tmp_path: Path, images: Path) -> None:
    """bfloat16 on one machine and float32 on another make different features; files that do not say are continued."""
    sift = get_extractor("sift")

    class Rounded(Extractor):
        name, conf, weights_sha256, precision = sift.name, sift.conf, sift.weights_sha256, "bfloat16"

        def __call__(self, image: np.ndarray) -> Features:
            return sift(image)

    class Plain(Rounded):
        precision = "float32"

    few = ["db/00.png"]
    path = extract_features.main("sift", images, tmp_path, image_list=few, extractor=Rounded())
    with pytest.raises(InputError, match='precision is "bfloat16" there and "float32" now'):
        extract_features.main("sift", images, tmp_path, extractor=Plain())
    extract_features.main("sift", images, tmp_path, extractor=Rounded())
    old = extract_features.main("sift", images, feature_path=tmp_path / "old.h5", image_list=few)
    assert extract_features.main("sift", images, feature_path=old, extractor=Plain()) == old
    with FeatureReader(old) as reader, FeatureReader(path) as recorded:
        assert len(reader.names) == len(recorded.names) == COUNT
        assert reader.signature == recorded.signature  # a map or matches may use either


def test_killed_while_merging(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "f.h5"
    script = """
import os, signal, sys
from samfeat_hloc import extract_features
from samfeat_hloc.formats import h5store
write = h5store._write_record
def die(out, record):
    write(out, record)
    if record.name.endswith("05.png"):
        os.kill(os.getpid(), signal.SIGKILL)
h5store._write_record = die
extract_features.main("sift", sys.argv[1], feature_path=sys.argv[2])
"""
    assert run(script, images, path).returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.glob(".f.h5.*.tmp"))) == 1
    log = tmp_path / "log"
    assert run(SLOW_STAGE, images, path, log).returncode == 0
    assert not log.exists()  # all were finished; only the merge is done again
    assert len(contents(path)) == COUNT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "images"]


def test_bad_images_are_left_out_and_listed(tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    (images / "db" / "01.png").write_bytes((images / "db" / "01.png").read_bytes()[:200])
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(images / "grey.png")
    names = [*(f"db/{n:02d}.png" for n in range(4)), "grey.png", "missing.png"]
    path = extract_features.main("sift", images, feature_path=tmp_path / "f.h5", image_list=names)
    with FeatureReader(path) as reader:
        assert sorted(reader.names) == ["db/00.png", "db/02.png", "db/03.png", "grey.png"]
        assert reader.read("grey.png").descriptors.shape == (0, 128)
    report = json.loads((tmp_path / "f.skipped.json").read_text())
    assert [row["name"] for row in report] == ["db/01.png", "missing.png"]
    assert "truncated" in report[0]["reason"]
    assert "left out 2 unreadable images" in caplog.text
    Image.fromarray(texture(1)).save(images / "db" / "01.png")  # repaired: taken up by the next run
    extract_features.main("sift", images, feature_path=path, image_list=names[:5])
    assert [row["name"] for row in json.loads((tmp_path / "f.skipped.json").read_text())] == ["missing.png"]


def test_no_readable_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="has no photograph"):
        extract_features.main("sift", tmp_path / "images", tmp_path)
    (tmp_path / "images" / "a.jpg").write_bytes(b"junk")
    with pytest.raises(InputError, match="none of the 1 images could be read"):
        extract_features.main("sift", tmp_path / "images", tmp_path)


def test_keypoints_are_in_stored_pixels(tmp_path: Path) -> None:
    """The same photograph stored upright and stored turned with an EXIF note: the same scene points."""
    root = tmp_path / "images"
    root.mkdir()
    upright = texture(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(upright).save(root / "upright.png")
    Image.fromarray(np.rot90(upright)).save(root / "turned.png", exif=exif)
    path = extract_features.main("sift", root, tmp_path)
    assert path == tmp_path / "feats-sift.h5"
    with FeatureReader(path) as reader:
        one, two = reader.read("upright.png"), reader.read("turned.png")
        assert (one.image_size, two.image_size) == ((128, 96), (96, 128))
        assert reader.item_attrs("turned.png")["exif_orientation"] == 6
    np.testing.assert_array_equal(one.descriptors, two.descriptors)
    np.testing.assert_allclose(
        two.keypoints, np.stack([one.keypoints[:, 1], 127 - one.keypoints[:, 0]], axis=1), atol=1e-4
    )


def test_other_conf_and_changed_image_are_refused(tmp_path: Path, images: Path) -> None:
    path = extract_features.main("sift", images, tmp_path)
    with pytest.raises(InputError, match=r"conf.max_keypoints is 4096 there and 7 now"):
        extract_features.main({"name": "sift", "max_keypoints": 7}, images, feature_path=path)
    Image.fromarray(texture(99, 80, 80)).save(images / "db" / "00.png")
    with pytest.raises(InputError, match=r"00.png is another file than the one whose features"):
        extract_features.main("sift", images, feature_path=path)
    extract_features.main({"name": "sift", "max_keypoints": 7}, images, feature_path=path, overwrite=True)
    with FeatureReader(path) as reader:
        assert reader.read("db/00.png").image_size == (80, 80)
        assert len(reader.read("db/01.png")) == 7


def test_a_defect_surfaces_and_keeps_finished_work(tmp_path: Path, images: Path) -> None:
    calls = 0
    sift = get_extractor("sift")

    class Broken(Extractor):
        name, conf, weights_sha256 = sift.name, sift.conf, sift.weights_sha256

        def __call__(self, image: np.ndarray) -> Features:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise RuntimeError("out of memory")
            return sift(image)

    with pytest.raises(RuntimeError, match="out of memory"):
        extract_features.main("sift", images, tmp_path, extractor=Broken())
    assert journal_path(tmp_path / "feats-sift.h5").exists()
    extract_features.main("sift", images, tmp_path, extractor=Broken())
    assert calls == 5 + COUNT - 4


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--image_dir", str(tmp_path / "no"), "--export_dir", "x", "--conf", "sift"])
    with pytest.raises(SystemExit) as caught:
        run_cli(extract_features.cli)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
