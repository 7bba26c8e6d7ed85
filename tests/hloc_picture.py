"""Pictures for the tests of the plug-in. No pycolmap: hloc 1.4 runs with an older one than ours."""

from __future__ import annotations

import cv2
import numpy as np


def picture(cut: slice = slice(0, 160)) -> np.ndarray:
    """(120, W, 3) uint8: part of a surface with discs, boxes and letters, 240 pixels wide."""
    rng = np.random.default_rng(3)
    wall = np.full((120, 240, 3), 150, np.uint8)
    for _ in range(260):
        x, y, kind = int(rng.integers(240)), int(rng.integers(120)), int(rng.integers(3))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        if kind == 0:
            cv2.circle(wall, (x, y), int(rng.integers(2, 12)), colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(wall, (x, y), (x + int(rng.integers(4, 24)), y + int(rng.integers(4, 16))), colour, -1)
        else:
            letter, scale = chr(65 + int(rng.integers(26))), float(rng.uniform(0.4, 1.0))
            cv2.putText(wall, letter, (x, y), 0, scale, colour, 2, cv2.LINE_AA)
    return np.ascontiguousarray(wall[:, cut])
