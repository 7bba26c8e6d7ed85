"""All photographs of a run in memory, as one tensor on the training device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from samfeat_hloc.errors import InputError

logger = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".ppm", ".bmp", ".tif", ".tiff"}
LABEL_SUFFIXES = ("_groups.png", "_ucm.png", ".depth.png")
MIN_SIDE = 96


class PhotoBank:
    """Photographs (P, 3, S, S) uint8, padded at the right and bottom, and their sizes (P, 2) width, height."""

    def __init__(self, photos: Tensor, sizes: Tensor, skipped: list[str]) -> None:
        self.photos, self.sizes, self.skipped = photos, sizes, skipped

    def __len__(self) -> int:
        return len(self.photos)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Photographs (B, 3, S, S) float32 in [0, 1] and their sizes (B, 2) float32."""
        return self.photos[indices].float() / 255, self.sizes[indices].float()

    @classmethod
    def read(
        cls, folders: Sequence[str | Path], max_side: int, device: torch.device, limit: int | None = None
    ) -> PhotoBank:
        """Read every photograph below the folders.

        Raises:
            InputError: the folders hold no readable photograph. Single unreadable files are skipped and listed.
        """
        paths = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if _is_photo(path)][:limit]
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(lambda path: _read(path, max_side), paths))
        kept = [image for image in images if image is not None]
        skipped = [str(path) for path, image in zip(paths, images, strict=True) if image is None]
        if skipped:
            logger.warning("skipped %d unreadable or small photographs, first %s", len(skipped), skipped[0])
        if not kept:
            where = ", ".join(str(folder) for folder in folders) or "no folder"
            raise InputError(f"no readable photograph in {where}; expected images with sides >= {MIN_SIDE} px")
        photos = np.zeros((len(kept), 3, max_side, max_side), dtype=np.uint8)
        for slot, image in zip(photos, kept, strict=True):
            slot[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
        sizes = torch.tensor([[image.shape[1], image.shape[0]] for image in kept])
        return cls(torch.from_numpy(photos).to(device), sizes.to(device), skipped)


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.endswith(LABEL_SUFFIXES)


def _read(path: Path, max_side: int) -> np.ndarray | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or min(image.shape[:2]) < MIN_SIDE:
        return None
    scale = max_side / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image[:max_side, :max_side, ::-1]
