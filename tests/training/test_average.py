"""The mean of two weights: between the two, of one network alone, and it says where it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samfeat_hloc.checkpoints import load_weights, save_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.model import Architecture, SAMFeat
from training.average import average, main


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]
    for name, refinement in zip(names, ("quadratic", "soft"), strict=True):
        save_weights(name, SAMFeat(Architecture(attention="rows", refinement=refinement)), {"steps": "7"})  # type: ignore[arg-type]
    return names


def test_between_the_two(two: list[str], tmp_path: Path) -> None:
    first, second = (load_weights(name) for name in two)
    output = str(tmp_path / "mean.safetensors")
    main([*two, "--share", "0.75", "--output", output])
    found = load_weights(output)
    for name, value in found.state.items():
        torch.testing.assert_close(value, 0.25 * first.state[name] + 0.75 * second.state[name])
    assert found.architecture == second.architecture
    assert found.metadata["steps"] == "7"
    assert json.loads(found.metadata["average"])["of"] == [
        ["a.safetensors", first.sha256],
        ["b.safetensors", second.sha256],
    ]


def test_phases_hold_no_weight(two: list[str], tmp_path: Path) -> None:
    first, second = (load_weights(name) for name in two)
    four = average(*two, 0.5, tmp_path / "four.safetensors", phases=4)
    assert load_weights(four).architecture == replace(second.architecture, phases=4)
    mixed = load_weights(average(two[0], str(four), 0.5, tmp_path / "mixed.safetensors"))
    assert mixed.architecture.phases == 4
    for name, value in mixed.state.items():
        torch.testing.assert_close(value, 0.75 * first.state[name] + 0.25 * second.state[name])


def test_all_of_the_second(two: list[str], tmp_path: Path) -> None:
    found = load_weights(average(*two, 1.0, tmp_path / "mean.safetensors"))
    for name, value in load_weights(two[1]).state.items():
        assert torch.equal(found.state[name], value)


def test_beyond_the_second_but_for_a_layer(two: list[str], tmp_path: Path) -> None:
    first, second = (load_weights(name) for name in two)
    output = str(tmp_path / "beyond.safetensors")
    main([*two, "--share", "1.5", "--keep", "conv_des", "conv1a", "--output", output])
    found = load_weights(output)
    for name, value in found.state.items():
        kept = name.split(".")[0] in ("conv_des", "conv1a")
        beyond = 1.5 * second.state[name] - 0.5 * first.state[name]
        torch.testing.assert_close(value, second.state[name] if kept else beyond)
    assert json.loads(found.metadata["average"])["kept"] == ["conv_des", "conv1a"]


def test_what_is_refused(two: list[str], tmp_path: Path) -> None:
    output = tmp_path / "mean.safetensors"
    with pytest.raises(ConfigError, match="phases is 3; expected one of 1, 2, 4"):
        average(*two, 0.5, output, phases=3)
    with pytest.raises(ConfigError, match="share is"):
        average(*two, 2.5, output)
    with pytest.raises(ConfigError, match="no layer conv_dse to keep; expected some of conv1a"):
        average(*two, 0.5, output, keep=["conv_dse"])
    other = str(tmp_path / "c.safetensors")
    save_weights(other, SAMFeat(Architecture(attention="pixels")), {})
    with pytest.raises(InputError, match="expected one network"):
        average(two[0], other, 0.5, output)
    assert not output.exists()
