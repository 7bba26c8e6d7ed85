"""The reader of the 2017 benchmark's layout."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.eth_benchmark import BenchmarkDataset, find_datasets
from samfeat_hloc.errors import InputError
from tests.pipelines.corner import FOCAL, write_collection


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "Corner", 3)


def change(collection: Path, statement: str) -> None:
    connection = sqlite3.connect(collection / "database.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_cameras_are_the_databases_and_the_database_stays_as_it_is(collection: Path) -> None:
    before = hashlib.sha256((collection / "database.db").read_bytes()).hexdigest()
    opened = BenchmarkDataset.open(collection)
    assert opened.name == "Corner" and list(opened.cameras) == ["1.png", "2.png", "3.png"]
    first, second = opened.cameras["1.png"], opened.cameras["2.png"]
    assert (first.model_name, first.width, first.camera_id) == ("SIMPLE_RADIAL", 320, 1)
    assert first.params[0] == pytest.approx(1.03 * FOCAL)
    assert first.has_prior_focal_length and not second.has_prior_focal_length
    assert hashlib.sha256((collection / "database.db").read_bytes()).hexdigest() == before
    assert sorted(path.name for path in collection.iterdir()) == ["database.db", "images"]


def test_images_may_share_a_camera(collection: Path) -> None:
    change(collection, "UPDATE images SET camera_id = 1")
    assert {camera.camera_id for camera in BenchmarkDataset.open(collection).cameras.values()} == {1}


def test_collections_are_found_one_or_many(collection: Path) -> None:
    assert find_datasets(collection) == find_datasets(collection.parent) == [collection]
    with pytest.raises(InputError, match="has no dataset"):
        find_datasets(collection / "images")
    with pytest.raises(InputError, match="does not exist"):
        find_datasets(collection / "absent")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE cameras SET model = 77 WHERE camera_id = 2", r"the camera of 2\.png cannot be used"),
        ("UPDATE cameras SET params = x'00' WHERE camera_id = 2", r"the camera of 2\.png cannot be used"),
        ("UPDATE cameras SET width = 32 WHERE camera_id = 2", "320x240 pixels and its camera in database.db 32x240"),
        ("UPDATE images SET name = 'x.png' WHERE image_id = 1", r"names x\.png, which is not in"),
        ("UPDATE images SET name = 'a b.png' WHERE image_id = 1", "white space"),
        ("DELETE FROM images", "lists no image"),
        ("DROP TABLE cameras", "cannot be read as a COLMAP database"),
    ],
)
def test_a_bad_database_is_told(collection: Path, statement: str, message: str) -> None:
    change(collection, statement)
    with pytest.raises(InputError, match=message):
        BenchmarkDataset.open(collection)


def test_bad_files_are_told(collection: Path) -> None:
    cv2.imwrite(str(collection / "images/1.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(InputError, match="20x10 pixels"):
        BenchmarkDataset.open(collection)
    (collection / "images/1.png").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as an image"):
        BenchmarkDataset.open(collection)
    (collection / "database.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="cannot be read as a COLMAP database"):
        BenchmarkDataset.open(collection)
    (collection / "database.db").unlink()
    with pytest.raises(InputError, match="has no database"):
        BenchmarkDataset.open(collection)
