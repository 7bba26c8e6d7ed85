"""HPatches' layout: any number of images, and what is wrong with a damaged sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.hpatches import read_sequence, read_sequences
from samfeat_hloc.errors import InputError


def make(folder: Path, images: int = 3, extension: str = "ppm") -> Path:
    folder.mkdir(parents=True)
    for number in range(1, images + 1):
        (folder / f"{number}.{extension}").touch()
        if number > 1:
            (folder / f"H_1_{number}").write_text(f"1 0 {number}\n0 1 0\n0 0 1\n")
    return folder


def test_any_number_of_images(tmp_path: Path) -> None:
    make(tmp_path / "v_one", 14, "png")
    make(tmp_path / "i_two", 2)
    make(tmp_path / "i_dc", 2)
    sequences = read_sequences(tmp_path)
    assert [s.name for s in sequences] == ["i_two", "v_one"]  # i_dc is left out by the protocol
    assert [len(s.homographies) for s in sequences] == [1, 13]
    assert [p.stem for p in sequences[1].images] == [str(n) for n in range(1, 15)]  # by number, not as text
    np.testing.assert_array_equal(sequences[1].homographies[12], [[1, 0, 14], [0, 1, 0], [0, 0, 1]])
    assert len(read_sequences(tmp_path, protocol=False)) == 3


def test_damaged(tmp_path: Path) -> None:
    folder = make(tmp_path / "v_one")
    (folder / "H_1_2").write_text("1 0 0 0")
    with pytest.raises(InputError, match="H_1_2 is not an invertible 3x3 matrix"):
        read_sequence(folder)
    (folder / "2.ppm").unlink()
    with pytest.raises(InputError, match="lacks image 2"):
        read_sequence(folder)
    with pytest.raises(InputError, match="has no sequence"):
        read_sequences(folder)
    with pytest.raises(InputError, match="does not exist"):
        read_sequences(tmp_path / "none")
