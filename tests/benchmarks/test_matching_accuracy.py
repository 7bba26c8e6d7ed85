"""The matching benchmark on a sequence whose answer is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import matching_accuracy
from samfeat_hloc.extractors import get_extractor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Image 2 is image 1 moved by 7 px, with the true homography; image 3 has one that is wrong by 2 px."""
    sequence = tmp_path / "data" / "v_shift"
    sequence.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)
    image = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    for number, shift, stated in ((1, 0, 0), (2, 7, 7), (3, 7, 9)):
        Image.fromarray(np.roll(image, shift, axis=1)).save(sequence / f"{number}.png")
        (sequence / f"H_1_{number}").write_text(f"1 0 {stated} 0 1 0 0 0 1")
    (sequence / "H_1_1").unlink()
    return tmp_path / "data"


def test_known_answer(folder: Path) -> None:
    result = matching_accuracy.matching_accuracy(get_extractor("sift"), folder, 100)
    assert result["keypoints"] == pytest.approx(100)
    mma = dict(zip(result["thresholds"], result["mma"], strict=True))
    assert 0.45 < mma[1.0] <= 0.5  # all of image 2, none of image 3
    assert mma[3.0] > 0.9
    assert result["correct"] == pytest.approx(mma[3.0] * result["matches"], rel=0.02)
    assert result["sequences"][0]["name"] == "v_shift"


def test_no_features_is_zero(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
    (tmp_path / "H_1_2").write_text("1 0 0 0 1 0 0 0 1")
    result = matching_accuracy.matching_accuracy(get_extractor("sift"), tmp_path)
    assert (result["mma"][0], result["matches"], result["correct"]) == (0, 0, 0)


def test_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(folder), "--features", "sift", "--json", str(output)])
    matching_accuracy.main()
    assert "v_shift" in capsys.readouterr().out
    assert json.loads(output.read_text())[str(folder)]["sift"]["correct"] > 0
