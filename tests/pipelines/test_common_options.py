"""What the pipelines' command lines share, on each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import aachen, eth3d, eth_benchmark, photos
from pipelines.common_options import extractor_of
from samfeat_hloc.errors import ConfigError

PARSERS: dict[str, tuple[Callable[[list[str]], Any], list[str]]] = {
    "aachen": (aachen.parse, []),
    "eth3d": (eth3d.parse, []),
    "eth_benchmark": (eth_benchmark.parse, ["--dataset", "collections"]),
    "photos": (photos.parse, ["photographs"]),
}


@pytest.mark.parametrize("name", PARSERS)
def test_each_pipeline_takes_what_all_take(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parse, needed = PARSERS[name]
    assert parse(needed).features == ("samfeat",)
    given = parse([*needed, "--features", "sift", "samfeat", "sift", "--weights", "w.safetensors", "--outputs", "out"])
    assert (given.features, given.weights, given.outputs) == (("sift", "samfeat"), "w.safetensors", Path("out"))
    with pytest.raises(SystemExit) as stopped:
        parse([*needed, "--features", "surf"])
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err
    assert f"usage: python -m pipelines.{name}" in complaint and "invalid choice: 'surf'" in complaint


@pytest.mark.parametrize("name", PARSERS)
def test_numbers_have_a_least_value(name: str) -> None:
    parse, needed = PARSERS[name]
    with pytest.raises(ConfigError, match="--max-keypoints is 0; expected at least 1"):
        parse([*needed, "--max-keypoints", "0"])


def test_weights_are_samfeats_alone() -> None:
    assert extractor_of("sift", "no such weights", max_keypoints=5).conf.max_keypoints == 5
    with pytest.raises(Exception, match="no such weights"):
        extractor_of("samfeat", "no such weights")
