"""Homographic adaptation: points that repeat, exactly where they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.precision import choose_runtime
from tests.training.photographs import facade
from training.adaptation import AdaptationConfig, repeatable_points
from training.corners import Corners, find_corners, pixel_map
from training.label import label_image

CPU = choose_runtime("cpu", "float32")
FEW = AdaptationConfig(views=10)


def checkerboard(height: int, width: int, square: float, shift: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Squares whose corners lie at shift + k * square, each pixel the mean over its area."""
    x = (np.arange(8 * width) + 0.5) / 8 - 0.5 - shift[0]
    y = (np.arange(8 * height) + 0.5) / 8 - 0.5 - shift[1]
    board = ((x // square)[None, :] + (y // square)[:, None]) % 2
    grey = board.reshape(height, 8, width, 8).mean(axis=(1, 3)) * 180 + 40
    return np.repeat(grey[..., None], 3, axis=2).round().astype(np.uint8)


def distances(points: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N,) distance of each point to the nearest of the others."""
    nearest: npt.NDArray[np.float32] = np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1)
    return nearest


def test_known_corners_are_found_finer_than_a_pixel() -> None:
    image = checkerboard(150, 190, 22.0, (7.3, 11.6))
    points, scores = label_image(image, find_corners, AdaptationConfig(), CPU, 512)
    x, y = np.arange(7.3, 190, 22), np.arange(11.6, 150, 22)
    truth = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = truth[((truth > 8) & (truth < np.array([190, 150]) - 9)).all(axis=1)]
    found = distances(inside.astype(np.float32), points)
    assert (found < 0.35).all()
    assert found.mean() < 0.15
    assert (distances(points[scores > 0.6], truth.astype(np.float32)) < 1).all()  # and nothing else repeats as well
    assert (np.diff(scores) <= 0).all() and scores.min() >= 0.5 and scores.max() <= 1


def test_a_shifted_and_a_turned_copy_give_the_same_corners() -> None:
    large = facade(0, 180, 230)
    points, _ = label_image(np.ascontiguousarray(large[:160, :200]), find_corners, FEW, CPU, 512)
    shifted, _ = label_image(np.ascontiguousarray(large[11:171, 17:217]), find_corners, FEW, CPU, 512)
    both = points[(points > [17 + 14, 11 + 14]).all(axis=1) & (points < [186, 146]).all(axis=1)]
    assert len(both) > 40
    found = distances(both, shifted + np.array([17, 11], np.float32))
    assert (found < 1).mean() > 0.8 and np.median(found) < 0.25
    turned, _ = label_image(np.ascontiguousarray(np.rot90(large[:160, :200])), find_corners, FEW, CPU, 512)
    back = np.stack([199 - turned[:, 1], turned[:, 0]], axis=1)
    found = distances(points, back)
    assert (found < 1).mean() > 0.8 and np.median(found) < 0.25


def test_the_score_is_the_share_of_views_that_find_a_point() -> None:
    """A finder that sees one fixed point of the photograph in every view, and another in every other view only."""
    calls = 0

    def find(images: torch.Tensor, valid: torch.Tensor) -> Corners:
        nonlocal calls
        mask = torch.zeros_like(valid)
        positions = pixel_map(images)
        for index, image in enumerate(images):
            for channel in (0, 1):
                if channel == 1 and (calls + index) % 2:
                    continue
                weight = image[channel] * valid[index, 0]
                if weight.max() > 0.05:
                    row, column = divmod(int(weight.argmax()), weight.shape[1])
                    mask[index, 0, row, column] = True
        calls += len(images)
        return Corners(mask, positions)

    photo = torch.zeros(3, 96, 96)
    photo[0, 40:43, 40:43] = photo[1, 60:63, 52:55] = 0.2
    photo[0, 41, 41] = photo[1, 61, 53] = 1.0
    config = AdaptationConfig(views=20, min_agreement=0.1, at_once=4)
    points, scores = repeatable_points(photo, find, config)
    assert len(points) == 2
    torch.testing.assert_close(points, torch.tensor([[41.0, 41.0], [53.0, 61.0]]), atol=0.6, rtol=0)
    assert scores[0] >= 0.9 and 0.35 <= scores[1] <= 0.65
    assert len(repeatable_points(photo, find, AdaptationConfig(views=20, min_agreement=0.7, at_once=4))[0]) == 1


def test_views_at_once_change_nothing_and_flat_photographs_have_none() -> None:
    image = facade(1, 100, 130)
    one = label_image(image, find_corners, AdaptationConfig(views=6, at_once=6), CPU, 512)
    two = label_image(image, find_corners, AdaptationConfig(views=6, at_once=4), CPU, 512)
    np.testing.assert_allclose(one[0], two[0], atol=1e-4)
    assert len(one[0]) > 20
    few = label_image(image, find_corners, AdaptationConfig(views=6, max_keypoints=7), CPU, 512)
    np.testing.assert_allclose(few[0], one[0][:7], atol=1e-4)
    points, scores = label_image(np.full((100, 130, 3), 90, np.uint8), find_corners, FEW, CPU, 512)
    assert points.shape == (0, 2) and scores.shape == (0,)


def test_large_photographs_are_reduced_and_keypoints_are_in_the_files_pixels() -> None:
    image = checkerboard(300, 400, 44.0, (20.0, 30.0))
    points, scores = label_image(image, find_corners, FEW, CPU, 200)
    truth = np.stack(np.meshgrid(np.arange(64, 360, 44.0), np.arange(74, 260, 44.0)), axis=-1).reshape(-1, 2)
    found = distances(truth.astype(np.float32), points)
    assert found.max() < 1.2 and found.mean() < 0.35  # half of that in the pixels that were looked at
    assert scores[distances(points, truth.astype(np.float32)) < 1].min() > 0.6
