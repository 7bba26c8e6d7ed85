"""The training data of the MTLDesc and SAMFeat releases ("Mega_train"): pairs cut from MegaDepth, with points.

    image/NAME.jpg         left and right view side by side, each half as wide as the file
    keypoint/NAME.npz      points_0, points_1: (K, 2) y, x, where the detector shall fire in the left and the right view
    despoint/NAME.npz      raw_desp_point1, raw_desp_point2: (n, 2) y, x, corresponding pixels; valid_mask (n,)

desp_point1/2 (the same, normalised) and not_search_mask (n, n) are not read: training keeps its negatives a distance
away by itself. `python -m datasets.mtldesc ROOT` writes every view as a file of its own, halves/NAME_0.png and
NAME_1.png, which a teacher needs.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.images import RGBImage, read_image
from samfeat_hloc.progress import progress

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class SideBySide:
    """Paths of one pair."""

    name: str
    image: Path
    keypoints: Path
    points: Path
    halves: tuple[Path, Path]


def list_pairs(root: Path | str) -> list[SideBySide]:
    """Every pair by name; its keypoints, points and halves may be missing on disk.

    Raises:
        InputError: no folder `image` there, or nothing in it.
    """
    root = Path(root)
    images = sorted(path for path in (root / "image").glob("*") if path.suffix.lower() in SUFFIXES)
    if not images:
        raise InputError(f"{root} has no image/NAME.jpg; expected the folders image, keypoint and despoint of MTLDesc")
    return [
        SideBySide(
            path.stem,
            path,
            root / "keypoint" / f"{path.stem}.npz",
            root / "despoint" / f"{path.stem}.npz",
            (root / "halves" / f"{path.stem}_0.png", root / "halves" / f"{path.stem}_1.png"),
        )
        for path in images
    ]


def read_halves(path: Path) -> tuple[RGBImage, RGBImage]:
    """The left and the right view (H, W, 3).

    Raises:
        InputError: no image, or one of odd width.
    """
    image, _ = read_image(path)
    width = image.shape[1]
    if width % 2:
        raise InputError(f"{path} is {width} px wide; expected two views of one width side by side")
    return np.ascontiguousarray(image[:, : width // 2]), np.ascontiguousarray(image[:, width // 2 :])


def read_keypoints(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(K, 2) keypoints x, y of the left and the right view.

    Raises:
        InputError: no such file, or not what it should hold.
    """
    arrays = _read(path, "points_0", "points_1")
    return _points(path, arrays[0]), _points(path, arrays[1])


def read_points(path: Path) -> npt.NDArray[np.float32]:
    """(M, 4) corresponding pixels x y of the left and x y of the right view, the valid ones.

    Raises:
        InputError: no such file, or not what it should hold.
    """
    first, second, valid = _read(path, "raw_desp_point1", "raw_desp_point2", "valid_mask")
    both = np.concatenate([_points(path, first), _points(path, second)], axis=-1) if len(first) == len(second) else None
    if both is None or valid.reshape(-1).shape != (len(both),):
        raise InputError(f"{path} holds {len(first)} and {len(second)} points and {valid.size} flags; expected as many")
    return both[valid.reshape(-1) > 0]


def write_halves(root: Path | str) -> int:
    """Write the views of every pair as files of their own; those that are there are kept.

    Returns:
        the number of pairs.

    Raises:
        InputError: no pair there, or an image that cannot be read.
    """
    from PIL import Image

    pairs = list_pairs(root)
    for pair in progress(pairs, total=len(pairs), desc="halves", unit="pair"):
        if all(path.is_file() for path in pair.halves):
            continue
        for path, half in zip(pair.halves, read_halves(pair.image), strict=True):
            with replace_file(path) as temporary:
                Image.fromarray(half).save(temporary, "PNG")
    return len(pairs)


def _read(path: Path, *keys: str) -> list[npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [np.asarray(arrays[key]) for key in keys]
    except Exception as error:  # a damaged zip raises half a dozen types
        raise InputError(f"{path} cannot be read ({error}); expected {', '.join(keys)}") from None


def _points(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(K, 2) y, x as x, y."""
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise InputError(f"{path} holds points of shape {values.shape}; expected finite (K, 2) y, x")
    return np.ascontiguousarray(values[:, ::-1], np.float32)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.mtldesc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder with image, keypoint and despoint")
    root = parser.parse_args().root
    print(f"{write_halves(root)} pairs in {root / 'halves'}")


if __name__ == "__main__":
    run_cli(main)
