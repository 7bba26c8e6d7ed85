"""VLAD: retrieves the right place, is deterministic, copes with few or no descriptors, refuses other features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import global_descriptors
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import FeatureReader, Features, FeatureWriter
from samfeat_hloc.formats.global_features import read_global_descriptors
from samfeat_hloc.vlad import Codebook, VLADConf

PLACES = 6
WORDS = VLADConf(words=8)


def make(place: int, seed: int, count: int = 120) -> Features:
    """Descriptors of a place: its own 40 prototypes, seen with noise."""
    prototypes = np.random.default_rng(place).normal(size=(40, 32))
    rng = np.random.default_rng(1000 + seed)
    descriptors = prototypes[rng.integers(0, 40, count)] + 0.4 * rng.normal(size=(count, 32))
    descriptors = (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)
    ones = np.ones(count, np.float32)
    return Features(np.zeros((count, 2), np.float32), descriptors, ones, ones, (640, 480))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vlad") / "f.h5"
    with FeatureWriter(path, {"name": "test"}, "w") as writer:
        for place in range(PLACES):
            for view in range(4):
                writer.add(f"db/{place}_{view}.jpg", make(place, 10 * place + view))
            writer.add(f"query/{place}.jpg", make(place, 10 * place + 9))
        writer.add("query/grey.jpg", make(0, 0, count=0))
    return path


@pytest.fixture(scope="module")
def database(features: Path) -> list[str]:
    with FeatureReader(features) as reader:
        return [name for name in reader.names if name.startswith("db/")]


def test_retrieves_the_place(tmp_path: Path, features: Path, database: list[str]) -> None:
    path = global_descriptors.main(features, tmp_path / "g.h5", codebook_list=database, conf=WORDS)
    rows = read_global_descriptors(path, database)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    for place in range(PLACES):
        query = read_global_descriptors(path, [f"query/{place}.jpg"])[0]
        best = [database[i] for i in np.argsort(-rows @ query)[:4]]
        assert all(name.startswith(f"db/{place}_") for name in best)
    assert not read_global_descriptors(path, ["query/grey.jpg"]).any()


def test_encode_equals_the_plain_formula(features: Path, database: list[str]) -> None:
    codebook = Codebook.train(features, database, WORDS)
    with FeatureReader(features) as reader:
        local = reader.read(database[0])
    sums = np.zeros(codebook.centroids.shape)
    for descriptor in local.descriptors:
        word = np.linalg.norm(codebook.centroids - descriptor, axis=1).argmin()
        residual = descriptor - codebook.centroids[word]
        sums[word] += residual / np.linalg.norm(residual)
    sums = np.sign(sums) * np.sqrt(np.abs(sums))
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(codebook.encode(local), (sums / np.linalg.norm(sums)).ravel(), atol=1e-5)


def test_same_seed_same_codebook(tmp_path: Path, features: Path, database: list[str]) -> None:
    one, two = (Codebook.train(features, database, WORDS) for _ in range(2))
    assert one.sha256 == two.sha256
    assert Codebook.train(features, database, VLADConf(words=8, seed=1)).sha256 != one.sha256
    one.save(tmp_path / "c.npz")
    loaded = Codebook.load(tmp_path / "c.npz")
    assert loaded.sha256 == one.sha256
    assert loaded.conf == WORDS


def test_few_descriptors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "f.h5"
    with FeatureWriter(path, {}) as writer:
        writer.add("1.jpg", make(0, 0, count=20))
    codebook = Codebook.train(path)
    assert codebook.centroids.shape == (2, 32)
    assert "20 descriptors are too few" in caplog.text
    empty = tmp_path / "e.h5"
    with FeatureWriter(empty, {}) as writer:
        writer.add("1.jpg", make(0, 0, count=0))
    with pytest.raises(InputError, match="no feature at all"):
        Codebook.train(empty)


def test_resumes_and_grows(tmp_path: Path, features: Path, database: list[str]) -> None:
    output = tmp_path / "g.h5"
    global_descriptors.main(features, output, image_list=database, conf=WORDS)
    before = global_descriptors.codebook_path(output).read_bytes()
    global_descriptors.main(features, output, image_list=["query/1.jpg"])  # later queries: the same codebook
    assert global_descriptors.codebook_path(output).read_bytes() == before
    assert read_global_descriptors(output, [database[0], "query/1.jpg"]).shape == (2, 8 * 32)


def test_codebook_of_other_features_is_refused(tmp_path: Path, features: Path, database: list[str]) -> None:
    output = tmp_path / "g.h5"
    global_descriptors.main(features, output, image_list=database, conf=WORDS)
    other = tmp_path / "other.h5"
    with FeatureWriter(other, {"name": "test"}, "other weights") as writer:
        writer.add("1.jpg", make(0, 0))
    with pytest.raises(InputError, match="learnt from other features"):
        global_descriptors.main(other, output)
    with pytest.raises(InputError, match=r"words=8.*wanted.*words=4"):
        global_descriptors.main(features, output, conf=VLADConf(words=4))
    with pytest.raises(InputError, match=r"'db/none.jpg'"):
        global_descriptors.main(features, output, image_list=["db/none.jpg"])


def test_damaged_codebook(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match="is not a codebook"):
        Codebook.load(path)
    with pytest.raises(InputError, match="does not exist"):
        Codebook.load(tmp_path / "none.npz")
    with pytest.raises(ConfigError, match="words is 0"):
        VLADConf(words=0)
