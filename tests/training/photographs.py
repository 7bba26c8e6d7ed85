"""Photographs made up for tests, some with a segmentation beside them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def smooth_photo(seed: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: coloured clouds."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    noise = cv2.GaussianBlur(noise, (0, 0), 4)
    return (128 + 400 * noise).clip(0, 255).astype(np.uint8)


def facade(seed: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: rectangles of random colours on a smooth ground."""
    generator = np.random.default_rng(seed)
    image = cv2.GaussianBlur(generator.normal(size=(height, width, 3)), (0, 0), 8) * 300 + 128
    for _ in range(height * width // 600):
        x, y = generator.integers(0, (width, height))
        w, h = generator.integers(8, 30, 2)
        image[y : y + h, x : x + w] = generator.integers(0, 255, 3)
    image = cv2.GaussianBlur(image, (0, 0), 0.8).clip(0, 255)
    return image.astype(np.uint8)


def write_photos(folder: Path, count: int = 3, segmented: bool = False) -> Path:
    """Photographs of different sizes; segmented: each of four rectangles, in the layout of shared/data/bsds."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        height, width = [(160, 200), (200, 160), (176, 176)][index % 3]
        photo = smooth_photo(index, height, width)
        if segmented:
            groups = np.zeros((height, width), np.uint16)
            groups[height // 2 :] = 1
            groups[:, width // 2 :] += 2
            ucm = np.zeros((height, width), np.uint8)
            ucm[height // 2 - 1] = 200
            ucm[:, width // 2 - 1] = np.maximum(ucm[:, width // 2 - 1], 120)
            photo = (photo * 0.6 + 25 * groups[..., None]).astype(np.uint8)
            cv2.imwrite(str(folder / f"{index}_groups.png"), groups)
            cv2.imwrite(str(folder / f"{index}_ucm.png"), ucm)
        cv2.imwrite(str(folder / f"{index}.png"), photo)
    return folder


def write_facades(folder: Path, count: int = 3) -> Path:
    """Photographs of rectangles, which have many corners."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), facade(index, 220, 260))
    return folder
