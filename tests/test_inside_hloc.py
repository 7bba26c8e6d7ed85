"""SAMFeat in hloc's own functions and command lines; skipped where hloc is not.

    PYTHONPATH=HLOC python -m pytest tests/test_inside_hloc.py

passes with hloc 1.4 and with its head, and with the older pycolmap that hloc 1.4 was written for.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samfeat_hloc
from samfeat_hloc.extractors import get_extractor
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.global_features import read_global_descriptors
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import write_pairs
from samfeat_hloc.hloc_plugin import EXTRACTORS, MATCHERS, run_stage
from samfeat_hloc.images import read_image
from tests.hloc_picture import picture

pytest.importorskip("hloc", reason="put a checkout of hloc on PYTHONPATH")


def test_hloc_finds_every_model() -> None:
    samfeat_hloc.register_with_hloc()
    from hloc.utils.base_model import BaseModel, dynamic_load

    for package, confs in (("extractors", EXTRACTORS), ("matchers", MATCHERS)):
        for conf in confs.values():
            kind = dynamic_load(importlib.import_module(f"hloc.{package}"), conf["model"]["name"])
            assert issubclass(kind, BaseModel)


def test_hloc_keeps_keypoints_beyond_1024_pixels_exact(tmp_path: Path) -> None:
    samfeat_hloc.register_with_hloc()
    from hloc import extract_features

    (tmp_path / "images").mkdir()
    Image.fromarray(np.ascontiguousarray(np.tile(picture()[:64], (1, 9, 1)))).save(tmp_path / "images/wide.png")
    features = extract_features.main(extract_features.confs["samfeat"], tmp_path / "images", tmp_path, as_half=True)
    with FeatureReader(features) as reader:
        found = reader.read("wide.png").keypoints
    direct = get_extractor("samfeat")(read_image(tmp_path / "images/wide.png")[0]).keypoints
    assert (direct[:, 0] > 1100).sum() > 10
    np.testing.assert_allclose(found, direct, atol=1e-2)


def test_hloc_extracts_and_matches(tmp_path: Path) -> None:
    samfeat_hloc.register_with_hloc()
    from hloc import extract_features, match_features

    images = tmp_path / "images"
    images.mkdir()
    for name, view in (
        ("a", picture()),
        ("b", picture(slice(20, 180))),
        ("empty", np.full((120, 160, 3), 127, np.uint8)),
    ):
        Image.fromarray(view).save(images / f"{name}.png")
    features = extract_features.main(extract_features.confs["samfeat"], images, tmp_path)
    with FeatureReader(features) as reader:
        found = reader.read("a.png")
        assert len(reader.read("empty.png")) == 0
    direct = get_extractor("samfeat")(read_image(images / "a.png")[0])
    np.testing.assert_allclose(found.keypoints, direct.keypoints, atol=1e-3)
    np.testing.assert_allclose(found.descriptors, direct.descriptors, atol=2e-3)
    np.testing.assert_allclose(found.attention, direct.attention, rtol=2e-3)
    assert (found.image_size, found.uncertainty) == ((160, 120), 1)

    write_pairs(tmp_path / "pairs.txt", [("a.png", "b.png"), ("a.png", "empty.png")])
    files: dict[str, Path] = {}
    for name in ("samfeat-nn-mutual", "NN-mutual", "samfeat-released"):
        files[name] = match_features.main(match_features.confs[name], tmp_path / "pairs.txt", features.stem, tmp_path)
    ours, theirs, released = (MatchReader(file) for file in files.values())
    with ours, theirs, released:
        mine, scores = ours.read("a.png", "b.png")
        his, his_scores = theirs.read("a.png", "b.png")
        np.testing.assert_array_equal(mine, his)
        np.testing.assert_allclose(scores, his_scores, atol=2e-3)
        assert len(mine) > 30
        assert len(ours.read("a.png", "empty.png")[0]) == 0
        assert len(released.read("a.png", "b.png")[0]) > 20


def test_hlocs_own_command_line_makes_global_descriptors(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    run_stage("extract_features", ["--conf", "samfeat-vlad", "--image_dir", str(images), "--export_dir", str(tmp_path)])
    path = tmp_path / "global-feats-samfeat-vlad.h5"
    described = read_global_descriptors(path, ["a.png"])
    assert np.linalg.norm(described) == pytest.approx(1, abs=1e-3)
