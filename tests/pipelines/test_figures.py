"""The figures the project promises, on its shipped weights: the embedded town and real photographs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.matching_accuracy import matching_accuracy
from datasets.strecha import write_scene
from pipelines.aachen_run import Options, run
from samfeat_hloc.extractors import get_extractor


@pytest.fixture(scope="module")
def town_summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Summary of ``python -m pipelines.aachen``: of the run that CI has just made (`SAMFEAT_TOWN_OUTPUTS`), or ours."""
    given = os.environ.get("SAMFEAT_TOWN_OUTPUTS")
    if given:
        summary: dict[str, Any] = json.loads((Path(given) / "summary.json").read_text())
        return summary
    return run(Options(outputs=tmp_path_factory.mktemp("town"), num_pictures=2))


def test_town_bars(town_summary: dict[str, Any]) -> None:
    entry = town_summary["features"]["samfeat"]
    assert entry["day"]["recall"][0] >= 0.9
    assert entry["night"]["recall"][1] >= 0.7
    assert sum(town_summary["seconds"].values()) < 300
    assert town_summary["peak_memory_mb"] < 4000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_town_bars_hold_for_other_seeds_and_night_is_above_sift(seed: int, tmp_path: Path) -> None:
    features = run(Options(outputs=tmp_path, seed=seed, features=("samfeat", "sift")))["features"]
    assert features["samfeat"]["day"]["recall"][0] >= 0.9
    assert features["samfeat"]["night"]["recall"][1] >= 0.7
    assert features["samfeat"]["night"]["recall"][1] > features["sift"]["night"]["recall"][1]


@pytest.mark.parametrize(("folder", "accuracy", "correct"), [("homography", 0.63, 750), ("webcam", 0.16, 115)])
def test_matching_accuracy(shared_data: Path, folder: str, accuracy: float, correct: float) -> None:
    result = matching_accuracy(get_extractor("samfeat", max_keypoints=2048), shared_data / folder)
    assert result["mma"][2] >= accuracy
    assert result["correct"] >= correct


@pytest.mark.parametrize("scene", ["fountain-P11", "Herz-Jesus-P8"])
def test_strecha(shared_data: Path, scene: str, tmp_path: Path) -> None:
    dataset = write_scene(shared_data / "strecha" / scene, tmp_path / "scene")
    features = run(Options(dataset=dataset, outputs=tmp_path / "outputs", features=("samfeat", "sift")))["features"]
    ours, sift = features["samfeat"]["day"], features["sift"]["day"]
    assert ours["localized"] == ours["queries"]
    assert ours["median_t_m"] <= 1.5 * sift["median_t_m"]


@pytest.mark.slow
def test_south_building(shared_data: Path, tmp_path: Path) -> None:
    dataset = shared_data / "south_building"
    features = run(Options(dataset=dataset, outputs=tmp_path, features=("samfeat", "sift")))["features"]
    ours, sift = features["samfeat"], features["sift"]
    assert all(a >= b for a, b in zip(ours["day"]["recall"], sift["day"]["recall"], strict=True))
    assert ours["night"]["recall"][1] > sift["night"]["recall"][1]
