"""All textures in one picture with its mip levels, so that a frame is shaded by a handful of look-ups."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LEVELS = 6
PAD = 16  # texels replicated around every texture: bleeding stays out of levels 0 to 4
ALIGN = 1 << (LEVELS - 1)
WIDTH = 8192
ROW = 1024  # look-ups are made in rows of this many


@dataclass(frozen=True)
class Atlas:
    """levels[k] (H / 2^k, W / 2^k, 4) uint8; coverage[k] the fourth channel of its top rows, which hold all cut-outs;
    corners (T, 2) float32 x, y of every texture's first texel at level 0."""

    levels: list[NDArray[np.uint8]]
    coverage: list[NDArray[np.uint8]]
    corners: NDArray[np.float32]


class AtlasBuilder:
    """Collects textures (H, W, 4) uint8: red, green, blue (sRGB) and coverage (cut-outs) or glow (all others)."""

    def __init__(self) -> None:
        self.textures: list[NDArray[np.uint8]] = []
        self.cutouts: set[int] = set()

    def add(self, texture: NDArray[np.uint8], cutout: bool = False) -> int:
        if cutout:
            self.cutouts.add(len(self.textures))
        self.textures.append(texture)
        return len(self.textures) - 1

    def add_colour(self, colour: NDArray[np.floating]) -> int:
        """A texture from (H, W, 3) float in [0, 1] that does not glow."""
        return self.add(to_canvas(colour))

    def build(self) -> Atlas:
        """Shelves of textures sorted by height, then every level halves the one before."""
        sizes = [(_aligned(t.shape[0]), _aligned(t.shape[1])) for t in self.textures]
        corners = np.zeros((len(sizes), 2), np.float32)
        x = y = shelf = top_rows = 0
        places: dict[int, tuple[int, int]] = {}
        for index in sorted(range(len(sizes)), key=lambda i: (i not in self.cutouts, -sizes[i][0], i)):
            height, width = sizes[index]
            top_rows = max(top_rows, y + height) if index in self.cutouts else top_rows
            if x + width > WIDTH:
                x, y, shelf = 0, y + shelf, 0
            places[index] = (x, y)
            x, shelf = x + width, max(shelf, height)
        base = np.zeros((y + shelf, WIDTH, 4), np.uint8)
        for index, (left, top) in places.items():
            texture, (height, width) = self.textures[index], sizes[index]
            h, w = texture.shape[:2]
            base[top : top + height, left : left + width] = cv2.copyMakeBorder(
                texture, PAD, height - h - PAD, PAD, width - w - PAD, cv2.BORDER_REPLICATE
            )
            corners[index] = (left + PAD, top + PAD)
        levels = [base]
        for _ in range(1, LEVELS):
            previous = levels[-1]
            levels.append(
                cv2.resize(previous, (previous.shape[1] // 2, previous.shape[0] // 2), interpolation=cv2.INTER_AREA)
            )
        coverage = [np.ascontiguousarray(level[: max(1, top_rows >> k), :, 3]) for k, level in enumerate(levels)]
        return Atlas(levels, coverage, corners)


def lookup(image: NDArray, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray:
    """Bilinear values (N, C) of an image at N places (pixel centres at integers)."""
    rows = -(-len(x) // ROW)
    maps = []
    for values in (x, y):
        padded = np.zeros(rows * ROW, np.float32)
        padded[: len(x)] = values
        maps.append(padded.reshape(rows, ROW))
    out = cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(rows * ROW, -1)[: len(x)]


def _aligned(size: int) -> int:
    return -(-(size + 2 * PAD) // ALIGN) * ALIGN


def to_canvas(colour: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(H, W, 3) float in [0, 1] -> (H, W, 4) uint8 without glow."""
    canvas = np.zeros((*colour.shape[:2], 4), np.uint8)
    canvas[..., :3] = np.clip(colour * 255.0 + 0.5, 0, 255)
    return canvas
