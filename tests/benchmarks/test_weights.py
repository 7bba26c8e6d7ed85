"""Weights side by side: what is measured once is read, unknown names are refused, the table has every figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import weights
from samfeat_hloc.errors import InputError


def moved_by_seven(folder: Path) -> None:
    """One sequence of two photographs, the second the first moved by 7 px."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)
    image = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), np.roll(image, 7 * (number - 1), axis=1))
    (folder / "H_1_2").write_text("1 0 7 0 1 0 0 0 1")


def test_matching_is_measured_once_for_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved_by_seven(tmp_path / "homography" / "v_shift")
    names = ["samfeat-photos-1"]
    found = weights.compare(names, ["homography"], tmp_path, tmp_path / "out")
    row = found["homography"][names[0]]
    assert 0.7 < row["mma@1"] <= row["mma@3"] <= row["mma@5"] <= 1
    assert 0 < row["correct"] <= row["matches"]
    assert f"{row['mma@3']:.3f}" in weights.table(found)

    def never(*_: Any) -> dict[str, Any]:
        raise AssertionError("measured again")

    monkeypatch.setattr(weights, "measure_matching", never)
    assert weights.compare(names, ["homography"], tmp_path, tmp_path / "out") == found


def test_the_table_of_localization() -> None:
    day = {"queries": 20, "localized": 20, "recall": [1.0, 1.0, 1.0], "median_t_m": 0.0071, "median_r_deg": 0.029}
    night = {"queries": 20, "localized": 0, "recall": [0.0, 0.0, 0.0], "median_t_m": None, "median_r_deg": None}
    printed = weights.table({"town-0": {"a": {"day": day, "night": night}, "b": {"day": day, "night": night}}})
    assert "| town-0 | day 20 | 100 / 100 / 100, median 7 mm, 0.029° | 100" in printed
    assert "| town-0 | night 20 | 0 / 0 / 0 | 0 / 0 / 0 |" in printed


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no set 'aachen'; expected some of homography"):
        weights.compare(["samfeat-photos-1"], ["aachen"], tmp_path, tmp_path)
    with pytest.raises(InputError, match="no weights called samfeat-photos-0"):
        weights.compare(["samfeat-photos-0"], ["homography"], tmp_path, tmp_path)
