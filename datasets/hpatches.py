"""HPatches' layout: a folder of sequences, each with images 1..K and text files H_1_k, the homography 1 -> k.

Any number of images and any image format. Sequences are called `i_NAME` (illumination and other change), `v_NAME`
(viewpoint), or anything else. Source: Balntas et al., CVPR 2017; protocol of D2-Net, Dusmanu et al., CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.images import EXTENSIONS

LEFT_OUT = frozenset(
    {
        "i_contruction",
        "i_crownnight",
        "i_dc",
        "i_pencils",
        "i_whitebuilding",
        "v_artisans",
        "v_astronautis",
        "v_talent",
    }
)
"""Sequences that D2-Net's protocol leaves out for their size: 52 + 56 sequences, 540 pairs stay."""


@dataclass(frozen=True)
class Sequence:
    """One sequence: the reference image, the others, and the homography from the first to each.

    Attributes:
        name: the folder's.
        images: path of image 1, 2, ..., K.
        homographies: (3, 3) each, from image 1 to image 2, ..., K; pixel centres at integers.
    """

    name: str
    images: tuple[Path, ...]
    homographies: tuple[npt.NDArray[np.float64], ...]


def read_sequence(folder: Path | str) -> Sequence:
    """Read one sequence.

    Raises:
        InputError: image 1 or another image is missing, or a homography is malformed.
    """
    folder = Path(folder)
    images = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in EXTENSIONS}
    indices = sorted(int(path.name[4:]) for path in folder.glob("H_1_*") if path.name[4:].isdigit())
    missing = [str(index) for index in [1, *indices] if str(index) not in images]
    if missing or not indices:
        what = f"image {missing[0]}" if missing else "a file H_1_2"
        raise InputError(f"{folder} lacks {what}; expected images 1, 2, ... and homographies H_1_2, H_1_3, ...")
    homographies = tuple(_read_homography(folder / f"H_1_{index}") for index in indices)
    return Sequence(folder.name, tuple(images[str(index)] for index in [1, *indices]), homographies)


def read_sequences(folder: Path | str, protocol: bool = True) -> list[Sequence]:
    """All sequences of a folder by name; with `protocol`, without the eight that D2-Net's leaves out.

    Raises:
        InputError: no such folder or no sequence in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; expected a folder of sequences in HPatches layout")
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and (path / "H_1_2").exists()]
    if not found:
        raise InputError(f"{folder} has no sequence; expected sub-folders with images 1, 2, ... and H_1_2, ...")
    return [read_sequence(path) for path in found if not (protocol and path.name in LEFT_OUT)]


def _read_homography(path: Path) -> npt.NDArray[np.float64]:
    try:
        matrix = np.array(path.read_text().split(), np.float64)
    except ValueError:
        matrix = np.zeros(0)
    if matrix.shape != (9,) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix.reshape(3, 3))) < 1e-12:
        raise InputError(f"{path} is not an invertible 3x3 matrix of numbers; check the file")
    return matrix.reshape(3, 3)
