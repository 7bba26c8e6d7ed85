"""Extraction of several photographs at once: the same file, in order; errors and kills lose nothing finished."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samfeat_hloc import extract_features
from samfeat_hloc.extractors import Extractor, get_extractor
from samfeat_hloc.formats.features import FeatureReader, Features
from samfeat_hloc.formats.h5store import journal_path
from samfeat_hloc.formats.journal import count_records
from tests.kill import kill_after, run
from tests.test_extract_features import SLOW_STAGE, texture

COUNT = 9
AT_ONCE = SLOW_STAGE.replace("\nsift.SIFT = Slow\n", "\n    parallel = 3\n\nsift.SIFT = Slow\n")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    for index in range(COUNT):
        Image.fromarray(texture(index)).save(root / f"{index:02d}.png")
    return root


class Uneven(Extractor):
    """SIFT whose first images take longest."""

    parallel = 3

    def __init__(self) -> None:
        self.sift = get_extractor("sift")
        self.name, self.conf, self.weights_sha256 = self.sift.name, self.sift.conf, self.sift.weights_sha256
        self.shares: list[tuple[int, str]] = []
        self.running, self.most = 0, 0
        self.lock = threading.Lock()

    def share(self, calls: int) -> None:
        self.shares.append((calls, threading.current_thread().name))

    def __call__(self, image: np.ndarray) -> Features:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            pause = 0.02 * (5 - self.running)
        time.sleep(pause)
        with self.lock:
            self.running -= 1
        return self.sift(image)


def test_several_at_once_make_the_same_file(tmp_path: Path, images: Path) -> None:
    one_by_one = extract_features.main("sift", images, feature_path=tmp_path / "single.h5")
    uneven = Uneven()
    path = extract_features.main("sift", images, tmp_path, extractor=uneven)
    assert path.read_bytes() == one_by_one.read_bytes()
    assert uneven.most == 3
    in_threads = [calls for calls, thread in uneven.shares if thread.startswith("extract")]
    assert in_threads == [3] * len(in_threads)
    assert len(in_threads) > 1
    assert uneven.shares[-1] == (1, threading.current_thread().name)  # the whole machine again


def test_an_error_is_raised_and_what_was_finished_is_kept(tmp_path: Path, images: Path) -> None:
    class Fails(Uneven):
        def __call__(self, image: np.ndarray) -> Features:
            if (image == texture(6)).all():
                raise MemoryError("too large")
            return super().__call__(image)

    with pytest.raises(MemoryError, match="too large"):
        extract_features.main("sift", images, feature_path=tmp_path / "f.h5", extractor=Fails())
    assert count_records(journal_path(tmp_path / "f.h5")) >= 5
    path = extract_features.main("sift", images, feature_path=tmp_path / "f.h5")
    assert path.read_bytes() == extract_features.main("sift", images, tmp_path).read_bytes()


def test_killed_with_several_under_way(tmp_path: Path, images: Path) -> None:
    path, log = tmp_path / "f.h5", tmp_path / "log"
    assert kill_after(2, journal_path(path), AT_ONCE, images, path, log) == -signal.SIGKILL
    done, before = count_records(journal_path(path)), len(log.read_text())
    last = run(AT_ONCE, images, path, log)
    assert last.returncode == 0, last.stderr
    assert len(log.read_text()) - before == COUNT - done
    assert path.read_bytes() == extract_features.main("sift", images, tmp_path).read_bytes()


def test_samfeat_on_two_cores_is_samfeat_on_one(tmp_path: Path, images: Path) -> None:
    before = torch.get_num_threads()
    extractor = get_extractor("samfeat", max_keypoints=100, threshold=0.2, device="cpu")
    extractor.parallel = 2
    both = extract_features.main("samfeat", images, feature_path=tmp_path / "both.h5", extractor=extractor)
    extractor.parallel = 1
    one = extract_features.main("samfeat", images, feature_path=tmp_path / "one.h5", extractor=extractor)
    assert torch.get_num_threads() == before
    with FeatureReader(both) as first, FeatureReader(one) as second:
        for name in second.names:
            a, b = first.read(name), second.read(name)
            assert len(a.keypoints) > 20
            np.testing.assert_allclose(a.keypoints, b.keypoints, atol=0.05)
            np.testing.assert_allclose(a.descriptors, b.descriptors, atol=0.02)


def test_a_large_photograph_has_the_processor_by_itself(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(texture(20, 160, 240)).save(images / "04.png")
    monkeypatch.setattr(extract_features, "PARALLEL_PIXELS", 96 * 128)

    class Watched(Uneven):
        def __call__(self, image: np.ndarray) -> Features:
            if image.shape[0] == 160:
                assert self.running == 0
                assert threading.current_thread() is threading.main_thread()
            return super().__call__(image)

    watched = Watched()
    path = extract_features.main("sift", images, tmp_path, extractor=watched)
    assert watched.most == 3
    assert path.read_bytes() == extract_features.main("sift", images, feature_path=tmp_path / "one.h5").read_bytes()
