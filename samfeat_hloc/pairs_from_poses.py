"""Pairs of a COLMAP model's images whose cameras are near and look the same way; the model needs no points.

python -m samfeat_hloc.pairs_from_poses --model sfm --output pairs.txt --num_matched 20
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.pairs import Pair, write_pairs

logger = logging.getLogger(__name__)
DEFAULT_ROTATION_THRESHOLD = 30.0
BLOCK = 1024  # rows of the distance matrix held at once
FloatArray = npt.NDArray[np.float64]


def main(
    model: Path | str,
    output: Path | str,
    num_matched: int,
    rotation_threshold: float = DEFAULT_ROTATION_THRESHOLD,
) -> Path:
    """Write each image with the nearest cameras whose viewing direction differs by less than the threshold.

    Args:
        model: folder of a COLMAP model.
        output: pair list.
        num_matched: partners an image.
        rotation_threshold: largest angle between optical axes in degrees; turning about the axis does not count.

    Returns:
        the pair list.

    Raises:
        InputError: no model, or no two images that look the same way.
    """
    from samfeat_hloc._pycolmap import read_model

    if num_matched < 1:
        raise InputError(f"num_matched is {num_matched}; expected at least 1")
    images = sorted((i for i in read_model(model).images.values() if i.has_pose), key=lambda image: str(image.name))
    matrices = np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4)
    pairs = near_pairs([image.name for image in images], matrices, num_matched, rotation_threshold)
    if not pairs:
        raise InputError(
            f"no two of the {len(images)} images with a pose in {model} look the same way within "
            f"{rotation_threshold} degrees; raise rotation_threshold"
        )
    lonely = len(images) - len({name for name, _ in pairs})
    if lonely:
        logger.warning("warning: %d of %d images look another way than all others", lonely, len(images))
    write_pairs(output, pairs)
    return Path(output)


def near_pairs(
    names: Sequence[str], cam_from_world: FloatArray, num_matched: int, rotation_threshold_deg: float
) -> list[Pair]:
    """Nearest first for each image; memory grows with the images, not with their square.

    Args:
        names: of the N images.
        cam_from_world: (N, 3, 4).
        num_matched: partners an image.
        rotation_threshold_deg: largest angle between optical axes, exclusive.
    """
    rotations, translations = cam_from_world[:, :, :3], cam_from_world[:, :, 3]
    centres = -np.einsum("nji,nj->ni", rotations, translations)
    axes = rotations[:, 2]  # the optical axis in the world: third row of cam_from_world
    pairs: list[Pair] = []
    for start in range(0, len(names), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(names)))
        distance = np.linalg.norm(centres[rows, None] - centres[None], axis=2)
        angle_deg = np.rad2deg(np.arccos(np.clip(axes[rows] @ axes.T, -1, 1)))
        distance[angle_deg >= rotation_threshold_deg] = np.inf
        distance[rows - start, rows] = np.inf
        order = np.argsort(distance, axis=1, kind="stable")[:, :num_matched]
        for row, nearest in zip(rows, order, strict=True):
            pairs += [(names[int(row)], names[int(i)]) for i in nearest if np.isfinite(distance[row - start, i])]
    return pairs


def cli() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model")
    parser.add_argument("--output", type=Path, required=True, help="pair list to write")
    parser.add_argument("--num_matched", type=int, required=True, help="partners an image")
    parser.add_argument(
        "--rotation_threshold", type=float, default=DEFAULT_ROTATION_THRESHOLD, help="degrees between optical axes"
    )
    print(main(**vars(parser.parse_args())))


if __name__ == "__main__":
    run_cli(cli)
