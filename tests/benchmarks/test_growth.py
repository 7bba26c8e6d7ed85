"""How stages grow: the generated street, the exponents, and every stage at a small size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import growth, growth_world
from samfeat_hloc._pycolmap import read_model, to_colmap
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.pairs import read_pairs


def row(memory_mb: float, cpu_s: float) -> growth.Row:
    return {"memory_mb": memory_mb, "cpu_s": cpu_s, "seconds": cpu_s, "peak_mb": memory_mb + 100}


def figures(power: float) -> growth.Figures:
    """Memory and time that grow with a power of the photographs."""
    return {str(size): {"match": row(40 * (size / 250) ** power, (size / 250) ** power)} for size in (250, 500, 1000)}


@pytest.mark.parametrize(("power", "said"), [(1, "no stage's memory grows"), (2, "memory of match grows")])
def test_a_stage_that_grows_with_the_square_is_named(power: float, said: str) -> None:
    found = growth.exponents(figures(power))
    assert found["match"]["memory"] == pytest.approx(power)
    assert found["match"]["cpu"] == pytest.approx(power)
    report = {"figures": figures(power), "exponents": found}
    assert said in growth.format_report(report)
    assert "1000: CPU s" in growth.format_report(report).splitlines()[0]


def test_an_allocators_steps_are_no_growth() -> None:
    steps: growth.Figures = {"250": {"map": row(1, 1)}, "500": {"map": row(9, 1)}}
    assert growth.exponents(steps)["map"]["memory"] == 0


def test_the_street_is_what_its_cameras_see(tmp_path: Path) -> None:
    sizes: dict[int, list[int]] = {}
    for count in (40, 80):
        growth_world.write_world(tmp_path / str(count), count, 200)
        with FeatureReader(tmp_path / str(count) / "features.h5") as reader:
            names = growth_world.names_of(count)
            sizes[count] = [reader.num_keypoints(name) for name in names]
            first, second = (reader.read(name) for name in names[:2])
        model = read_model(tmp_path / str(count) / "reference")
        assert [image.name for _, image in sorted(model.images.items())] == names
        similarity = first.descriptors @ second.descriptors.T
        best = similarity.argmax(axis=1)
        same = similarity.max(axis=1) > 0.8
        assert 0.5 < same.mean() < 0.85  # neighbours share most of what is no clutter
        moved = second.keypoints[best[same], 0] - first.keypoints[same, 0]
        assert -160 < np.median(moved) < -40  # a step and a turn to the right: the wall moves to the left
        assert to_colmap(first.keypoints).min() >= 0
    assert abs(np.mean(sizes[40]) - 200) < 60  # a photograph has as much to see in a long street as in a short one
    assert np.mean(sizes[80]) == pytest.approx(np.mean(sizes[40]), rel=0.25)


def test_every_stage_says_what_it_took(tmp_path: Path) -> None:
    rows: dict[str, growth.Row] = {}
    for job in growth.JOBS:
        rows |= growth.run_job(job, tmp_path, 24, 120, "global")
    assert tuple(rows) == growth.STAGES
    assert all(found["seconds"] > 0 and found["peak_mb"] > 50 for found in rows.values())
    assert all(0 <= found["memory_mb"] < found["peak_mb"] for found in rows.values())
    for folder in ("sfm", "triangulated"):
        model = read_model(tmp_path / folder)
        assert model.num_reg_images() == 24 and model.num_points3D() > 100
        assert model.compute_mean_reprojection_error() < 1


@pytest.mark.slow
def test_every_stage_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"images": [40, 24], "outputs": tmp_path, "keypoints": 120, "mapper": "global"}
    report = growth.main(**arguments, output=tmp_path / "growth.json")
    assert json.loads((tmp_path / "growth.json").read_text()) == report
    assert list(report["figures"]) == ["24", "40"]
    for rows in report["figures"].values():
        assert tuple(rows) == growth.STAGES
        assert all(found["seconds"] > 0 and 50 < found["peak_mb"] < 3000 for found in rows.values())
        assert all(0 <= found["memory_mb"] < found["peak_mb"] for found in rows.values())
    folder = tmp_path / "40-120-global"
    pairs = read_pairs(folder / "pairs.txt")
    assert 40 * growth.NUM_NEIGHBOURS - 60 < len(pairs) <= 40 * (growth.NUM_RETRIEVED + growth.NUM_NEIGHBOURS)

    def again(*_: object, **__: object) -> None:
        raise AssertionError("a stage was measured twice")

    monkeypatch.setattr(growth.subprocess, "run", again)
    assert growth.main(**arguments) == report


def test_bad_options_and_a_stage_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two different"):
        growth.main([100, 100], tmp_path)
    with pytest.raises(ConfigError, match="mapper 'fast' is unknown"):
        growth.main([20, 40], tmp_path, mapper="fast")
    with pytest.raises(InputError, match=r"world of 3 photographs ended with status 2: error: 3 photographs.*log"):
        growth.main([3, 40], tmp_path)


@pytest.mark.slow
def test_no_stages_memory_grows_with_the_square(tmp_path: Path) -> None:
    report = growth.main([250, 500], tmp_path, keypoints=200)
    assert all(slope["memory"] < growth.SQUARE for slope in report["exponents"].values())
