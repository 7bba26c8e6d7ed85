"""The table of extraction speeds: every setting finds the same, rows that cannot run say why, accuracy is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import extraction_speed
from benchmarks.extraction_settings import SETTINGS, Place
from samfeat_hloc.errors import ConfigError, InputError


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(noise, (100, 76), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(extraction_speed, "SIZE", (96, 64))
    folder = tmp_path / "hpatches" / "v_noise"
    folder.mkdir(parents=True)
    for number in range(1, 7):
        cv2.imwrite(str(folder / f"{number}.png"), np.clip(picture() * (1 - 0.05 * number), 0, 255).astype(np.uint8))
        if number > 1:
            np.savetxt(folder / f"H_1_{number}", np.eye(3))
    return folder.parent


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(None, 200, tmp_path)


def test_plain_and_inference_give_the_same_features(place: Place) -> None:
    image = picture()
    plain = SETTINGS["plain float32 NCHW"](place)(image)
    assert 20 < len(plain.keypoints) <= 200
    for name in ("plain float32", "inference float32"):
        other = SETTINGS[name](place)(image)
        np.testing.assert_allclose(other.keypoints, plain.keypoints, atol=1e-2)
        assert (other.descriptors * plain.descriptors).sum(axis=1).min() > 0.9999


def test_the_report_has_seconds_accuracy_and_reasons(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.json"
    settings = ["plain float32", "inference float32", "broken"]

    def broken(_: Place) -> None:
        raise InputError("there is no such thing; buy one")

    monkeypatch.setitem(SETTINGS, "broken", broken)
    arguments: dict[str, Any] = {"settings": settings, "loops": ["ours"], "max_keypoints": 200, "rounds": 1}
    report = extraction_speed.main(sequences, output, **arguments)
    assert json.loads(output.read_text()) == report
    assert report["settings"]["plain float32"]["seconds"] > 0
    assert report["loops"]["ours"]["seconds"] > 0
    assert report["settings"]["inference float32"]["accuracy"]["mma"][2] > 0.9  # the same picture, darker
    table = extraction_speed.markdown(report)
    assert "| broken | not run: there is no such thing; buy one |" in table
    assert "| plain float32 | " in table and " | 1.00 | " in table

    def again(*_: object, **__: object) -> None:
        raise AssertionError("accuracy was measured twice")

    monkeypatch.setattr(extraction_speed, "matching_accuracy", again)
    kept = extraction_speed.main(sequences, output, **{**arguments, "loops": []})
    assert kept["settings"]["plain float32"]["accuracy"] == report["settings"]["plain float32"]["accuracy"]
    with pytest.raises(AssertionError, match="twice"):
        extraction_speed.main(sequences, output, **{**arguments, "loops": [], "max_keypoints": 100})


def test_what_is_unknown_is_refused(sequences: Path) -> None:
    with pytest.raises(ConfigError, match="known: plain float32 NCHW"):
        extraction_speed.main(sequences, settings=["fast"])
    with pytest.raises(ConfigError, match="rounds"):
        extraction_speed.main(sequences, rounds=0)


def test_a_loop_that_fails_gives_its_last_line(sequences: Path, tmp_path: Path) -> None:
    place = Place("no-such-weights", 100, tmp_path)
    results = extraction_speed.whole_loops(["ours"], [picture()] * 3, place, 1)
    assert "no weights called no-such-weights" in results["ours"]
