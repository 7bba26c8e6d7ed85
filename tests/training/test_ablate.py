"""Ablation tables: the paper's rows, trained once, never again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.precision import choose_runtime
from tests.training.photographs import write_photos
from tests.training.runs import homography_sequence
from training import ablate as module
from training.ablate import ablate, format_table, main
from training.ablation_tables import TABLES
from training.config import TrainingConfig
from training.records import SourceConfig


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    photos = write_photos(tmp_path / "photos", 2, segmented=True)
    folder = homography_sequence(tmp_path / "sequences")
    source = SourceConfig("photos", str(photos), teacher="segmentation")
    return TrainingConfig(
        sources=(source,), validation=(str(folder),), steps=1, pairs=1, size=64, points=20, tensorboard=False
    )


def test_rows_are_the_papers() -> None:
    row = {row.name: row.of(TrainingConfig()) for row in TABLES["IV"][1]}
    base, whole = row["baseline"], row["ASRD + EAG + WSC"]
    assert (base.losses.relations, base.losses.groups, base.losses.edges) == ("off", "off", "off")
    assert (base.architecture.attention, whole.architecture.attention) == ("off", "rows")
    assert whole == TrainingConfig()
    assert row["ASRD + WSC"].architecture.attention == "off"
    assert [one.paper for one in TABLES["IV"][1]] == [75.7, 78.6, 80.9, 82.2, 81.2, 79.4]
    features, relations = (one.of(TrainingConfig()).losses for one in TABLES["V"][1])
    assert (features.relations, relations.relations) == ("features", "paper")
    assert (features.groups, features.edges) == ("off", "off")
    assert [one.of(TrainingConfig()).losses.groups_margin for one in TABLES["VI"][1]][:3] == [0, 0.03, 0.05]
    assert [one.of(TrainingConfig()).share for one in TABLES["VII"][1]] == [0.1, 0.3, 1.0]
    assert [one.of(TrainingConfig()).losses.edges_weight for one in TABLES["IX"][1]] == [0.5, 1.0, 1.5]
    assert [one.paper for one in TABLES["VIII"][1]] == [3.6, 4.7, 5.1, 6.0]


def test_finished_rows_are_not_trained_again(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = choose_runtime("cpu", "float32")
    rows = ablate("V", config, tmp_path / "out", runtime, [0, 1])
    assert [row["row"] for row in rows] == ["DSFD", "ASRD"]
    assert all(len(row["runs"]) == 2 for row in rows)
    table = format_table("V", rows, 1)
    assert "| DSFD | " in table and "MMA@3 sequences" in table and " to " in table

    def forbidden(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "Trainer", forbidden)
    assert ablate("V", config, tmp_path / "out", runtime, [0, 1]) == rows
    with pytest.raises(InputError, match="other settings"):
        ablate("V", replace(config, points=21), tmp_path / "out", runtime, [0])


def test_only_named_sources_keep_their_teacher(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(module, "pack_once", lambda sources, *_: seen.append([one.teacher for one in sources]))
    result = {"mma@3/x": 0.5, "correct": 1, "seconds": 1, "pairs_per_s": 1}
    monkeypatch.setattr(module, "train_row", lambda *_: result)
    rendered = SourceConfig("town", "somewhere", teacher="rendered")
    ablate("teachers", replace(config, sources=(*config.sources, rendered)), tmp_path, choose_runtime("cpu"), [0])
    assert seen == [[None, None], ["segmentation", None], [None, "rendered"], ["segmentation", "rendered"]]
    seen.clear()
    stored = replace(config.sources[0], teacher="a/store")
    ablate("teachers", replace(config, sources=(stored, rendered)), tmp_path, choose_runtime("cpu"), [0])
    assert seen == [[None, None], [None, None], [None, "rendered"], [None, "rendered"], ["a/store", None]]


def test_what_is_missing_is_said(config: TrainingConfig, tmp_path: Path) -> None:
    runtime = choose_runtime("cpu", "float32")
    with pytest.raises(ConfigError, match="no --validation"):
        ablate("IV", replace(config, validation=()), tmp_path, runtime, [0])
    with pytest.raises(ConfigError, match="no --source"):
        ablate("IV", replace(config, sources=()), tmp_path, runtime, [0])


def test_command_line_writes_json(config: TrainingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = config.sources[0]
    main(
        [
            "--table", "V", "--steps", "1", "--source", f"kind=photos,path={source.path},teacher=segmentation",
            "--validation", *config.validation, "--output", str(tmp_path / "out"), "--json", str(tmp_path / "v.json"),
            "--device", "cpu", "--precision", "float32", "--set", "pairs=1", "size=64", "points=20",
        ]
    )  # fmt: skip
    assert "Table V: relations against features; 1 steps" in capsys.readouterr().out
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["rows"][1]["paper"] == 78.6
    assert 0 <= report["rows"][1]["runs"][0]["mma@3"] <= 1


def test_some_rows_can_be_trained_alone(config: TrainingConfig, tmp_path: Path) -> None:
    runtime = choose_runtime("cpu", "float32")
    rows = ablate("V", config, tmp_path / "out", runtime, [0], only=[1])
    assert [row["row"] for row in rows] == ["ASRD"]
    with pytest.raises(ConfigError, match="rows 0 to 1"):
        ablate("V", config, tmp_path / "out", runtime, [0], only=[2])
