"""Pictures show what they should, where they should."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipelines.pictures import BLUE, GREEN, GREY, draw_map, draw_matches, write_image


def close(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(image.astype(int) - colour) < 12).all(axis=-1)


def test_matches_are_drawn_on_both_sides() -> None:
    query, reference = np.zeros((96, 128, 3), np.uint8), np.zeros((96, 128, 3), np.uint8)
    points = np.array([[20.0, 30.0]])
    picture = draw_matches(query, reference, points, points + 40, points, "title", height=192)
    marked = close(picture, GREEN)
    assert marked[30 + 60, 40]
    assert marked[30 + 140, 256 + 8 + 120]


def test_map_shows_cameras_from_above_with_up_upwards() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 5, (300, 3))
    database = np.array([[0.0, 0, 0], [4, 0, 0]])
    night = [(np.array([0.0, 4, 0]), np.array([0.0, 1, 0]))]
    picture = draw_map(points, database, {"night": night}, np.zeros((0, 3)), np.array([0.0, 0, 1]))
    grey, blue = np.argwhere(close(picture[:-40], GREY)), np.argwhere(close(picture[:-40], BLUE))
    assert len(grey)
    assert len(blue)
    assert picture.shape[2] == 3


def test_written_pictures_read_back(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    write_image(tmp_path / "deep" / "a.png", image)
    assert (cv2.imread(str(tmp_path / "deep" / "a.png"))[..., ::-1] == image).all()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]
