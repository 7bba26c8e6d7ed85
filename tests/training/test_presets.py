"""Configurations: presets, files, changes and sources from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samfeat_hloc.checkpoints import DEFAULT_WEIGHTS, load_weights
from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.errors import ConfigError
from training.config import TrainingConfig
from training.presets import PRESETS, read_config
from training.records import SourceConfig
from training.train import parse_source, with_changes


def test_the_papers_preset_has_the_papers_numbers() -> None:
    paper = read_config("paper")
    assert (paper.size, paper.pairs, paper.learning_rate, paper.weight_decay) == (400, 14, 1e-3, 1e-4)
    assert paper.steps == 50_571  # 30 epochs of 23,600 samples, 14 a batch
    assert (paper.schedule, paper.losses.attention_temperature, paper.losses.margin) == ("linear", 15.0, 1.0)
    assert (paper.losses.groups_margin, paper.losses.groups_temperature) == (0.07, 5.0)
    weights = {name: value for name, value in to_dict(paper.losses).items() if name.endswith("_weight")}
    assert set(weights.values()) == {1.0}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name: str) -> None:
    preset = read_config(name)
    assert from_dict(TrainingConfig, json.loads(json.dumps(to_dict(preset)))) == preset


def test_the_default_weights_are_what_the_preset_of_their_name_wrote() -> None:
    weights, preset = load_weights(DEFAULT_WEIGHTS), read_config(DEFAULT_WEIGHTS.removeprefix("samfeat-"))
    made = from_dict(TrainingConfig, json.loads(weights.metadata["training_config"]))
    elsewhere = {"sources": (), "output": "", "checkpoint_minutes": 1.0}  # where and how often, not what is learned
    assert replace(made, **elsewhere) == replace(preset, **elsewhere)
    assert int(weights.metadata["steps"]) == preset.steps
    assert not {"average", "whitened", "calibrated"} & weights.metadata.keys()  # and nothing was done to it since


def test_a_file_changes_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    source = {"kind": "photos", "path": "pictures", "overlap": [0.2, 0.7]}
    path.write_text(json.dumps({"preset": "paper", "pairs": 2, "losses": {"groups": "masked"}, "sources": [source]}))
    config = read_config(str(path))
    assert (config.pairs, config.size, config.losses.groups, config.losses.edges) == (2, 400, "masked", "l1")
    assert config.sources == (SourceConfig("photos", "pictures", overlap=(0.2, 0.7)),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "holds a list"),
        ('{"stpes": 3}', "did you mean 'steps'"),
        ('{"preset": "x"}', "preset 'x'"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_config(str(path))


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'photos'"):
        read_config("photo")


def test_changes_are_checked() -> None:
    config = TrainingConfig()
    assert with_changes(config, ["homography.scale=2.0", "steps=9"]).homography.scale == 2.0
    assert with_changes(config, ["losses.groups=off"]).losses.groups == "off"
    for change, message in [
        ("steps", "key=value"), ("stpes=3", "stpes"), ("size=100", "multiple of 16"), ("share=0", "share"),
        ("lossses.groups=off", "no group"), ("losses.groups=of", "groups"), ("resident_views=1", "resident_views"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            with_changes(config, [change])


def test_sources_are_read_from_the_command_line() -> None:
    source = parse_source("kind=rgbd,path=a b/frames,weight=0.5,overlap=0.2:0.6,limit=10,teacher=rendered")
    assert source == SourceConfig("rgbd", "a b/frames", 0.5, "rendered", limit=10, overlap=(0.2, 0.6))
    for text, message in [
        ("photos", "key=value"), ("path=x", "no kind"), ("kind=photos", "no path"), ("kind=fotos,path=x", "kind"),
        ("kind=photos,path=x,weight=0", "weight"), ("kind=rgbd,path=x,overlap=0.9:0.1", "overlap"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            parse_source(text)
