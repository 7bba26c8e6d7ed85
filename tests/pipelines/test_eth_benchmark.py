"""`python -m pipelines.eth_benchmark` on a tiny collection in its layout."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipelines import dense
from pipelines.eth_benchmark import parse
from pipelines.eth_benchmark_paper import TABLE, paper_rows
from pipelines.eth_benchmark_report import collection_markdown
from pipelines.eth_benchmark_run import Options, run
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.pairs import read_pairs
from samfeat_hloc.formats.ply import read_ply
from tests.pipelines.corner import FOCAL, write_collection

KEYPOINTS = 600


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("benchmark") / "Tower_of_London")


@pytest.fixture(scope="module")
def outputs(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    run(Options(dataset=collection, outputs=folder, max_keypoints=KEYPOINTS))
    return folder


@pytest.fixture(scope="module")
def found(outputs: Path) -> dict[str, Any]:
    summary = json.loads((outputs / "summary.json").read_text())
    row: dict[str, Any] = summary["collections"]["Tower_of_London"]["features"]["samfeat"]
    return row


def test_all_images_are_registered_from_all_pairs(outputs: Path, found: dict[str, Any]) -> None:
    sparse = found["sparse"]
    assert (sparse["images"], sparse["registered"]) == (7, 7)
    assert sparse["points"] > 200 and sparse["mean_track_length"] > 2.5
    assert sparse["observations"] == pytest.approx(sparse["points"] * sparse["mean_track_length"], rel=0.001)
    assert 0 < sparse["mean_reprojection_error_px"] < 1
    assert len(read_pairs(outputs / "Tower_of_London/samfeat/pairs.txt")) == 21


def test_intrinsics_start_from_the_database_and_are_refined(outputs: Path) -> None:
    model = read_model(outputs / "Tower_of_London/samfeat/sfm")
    assert len(model.cameras) == 7 and {c.model_name for c in model.cameras.values()} == {"SIMPLE_RADIAL"}
    focals = [camera.params[0] for camera in model.cameras.values()]
    assert abs(np.median(focals) - FOCAL) < 0.02 * FOCAL  # the database is 3 % off
    assert 1.03 * FOCAL not in focals


def test_matches_pass_the_ratio_test(outputs: Path) -> None:
    with h5py.File(outputs / "Tower_of_London/samfeat/matches.h5") as file:
        conf = json.loads(str(file.attrs["conf"]))
    assert (conf["ratio"], conf["mutual"], conf["metric"]) == (0.8, True, "l2")


def test_our_row_stands_under_the_papers(outputs: Path) -> None:
    lines = (outputs / "Tower_of_London.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "SuperPoint (paper)", "D2-Net (paper)", "ASLFeat (paper)", "DISK (paper)", "AWDesc-CA (paper)",
        "SAMFeat (paper)", "samfeat (ours)",
    ]  # fmt: skip
    assert all(word in rows[7] for word in ("1443 of 1576", "587K", "13.01", "0.84 px", "2.91M"))
    assert "7 of 7" in rows[8]
    assert any("ratio test 0.8" in line for line in lines) and any("pycolmap-cuda12" in line for line in lines)


def test_a_second_run_computes_nothing_again(
    collection: Path, outputs: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(pycolmap, "incremental_mapping", forbidden)
    again = run(Options(dataset=collection, outputs=outputs, max_keypoints=KEYPOINTS))
    assert again["collections"]["Tower_of_London"]["features"]["samfeat"]["sparse"] == found["sparse"]


def test_other_pairs_want_another_folder(collection: Path, outputs: Path) -> None:
    with pytest.raises(InputError, match="made from other inputs"):
        run(Options(dataset=collection, outputs=outputs, max_keypoints=KEYPOINTS, pairs="retrieval", num_retrieved=2))


def test_retrieval_takes_the_most_alike(collection: Path, tmp_path: Path) -> None:
    options = Options(
        dataset=collection.parent, outputs=tmp_path, max_keypoints=KEYPOINTS, pairs="retrieval", num_retrieved=3,
        features=("sift",), dense=False,
    )  # fmt: skip
    row = run(options)["collections"]["Tower_of_London"]
    assert len(read_pairs(tmp_path / "Tower_of_London/sift/pairs.txt")) == 21  # 7 images, 3 each
    assert row["features"]["sift"]["sparse"]["registered"] == 7
    assert "3 most alike" in (tmp_path / "Tower_of_London.md").read_text()


def test_the_papers_rows_are_found_by_any_spelling() -> None:
    assert paper_rows("Madrid Metropolis") == paper_rows("madrid_metropolis") == TABLE["Madrid_Metropolis"]
    assert paper_rows("Alamo") is None
    row = {"images": 2, "pairs": "exhaustive", "protocol": "p", "features": {}}
    assert "no figures of this collection" in collection_markdown("Alamo", row)


def test_without_cuda_one_line_says_so(outputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if pycolmap.has_cuda:
        pytest.skip("pycolmap has CUDA here")
    with caplog.at_level(logging.WARNING):
        cloud = dense.dense_cloud(outputs / "Tower_of_London/samfeat/sfm", tmp_path, tmp_path / "dense", 300)
    assert cloud is None and not (tmp_path / "dense").exists()
    assert [record.getMessage() for record in caplog.records] == [dense.NO_CUDA] and "\n" not in dense.NO_CUDA


def test_dense_stages_are_called_in_order_and_kept(
    collection: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = outputs / "Tower_of_London/samfeat/sfm", []

    def stereo(workspace: Path, options: pycolmap.PatchMatchOptions) -> None:
        assert (workspace / "sparse").is_dir() and not options.geom_consistency
        assert len(list((workspace / "images").iterdir())) == 7
        calls.append("stereo")

    def fusion(output: str, workspace: Path, input_type: str, options: Any) -> pycolmap.Reconstruction:
        calls.append(f"{input_type} {options.min_num_pixels}")
        return read_model(model)

    monkeypatch.setattr(dense, "can_reconstruct_densely", lambda: True)
    monkeypatch.setattr(pycolmap, "patch_match_stereo", stereo, raising=False)
    monkeypatch.setattr(pycolmap, "stereo_fusion", fusion)
    first = dense.dense_cloud(model, collection / "images", tmp_path / "dense", 200, geometric=False)
    assert first is not None and len(read_ply(first)) == read_model(model).num_points3D()
    assert calls == ["stereo", "photometric 5"]
    assert dense.dense_cloud(model, collection / "images", tmp_path / "dense", 200, geometric=False) == first
    assert len(calls) == 2
    dense.dense_cloud(model, collection / "images", tmp_path / "dense", 150, geometric=False)
    assert len(calls) == 4


def test_bad_options_and_inputs(collection: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ratio"):
        run(Options(dataset=collection, outputs=tmp_path, ratio=1.5))
    with pytest.raises(ConfigError, match="--num-retrieved is 0"):
        Options(dataset=collection, num_retrieved=0)
    with pytest.raises(ConfigError, match="--pairs is all"):
        Options(dataset=collection, pairs="all")
    assert parse(["--dataset", "x", "--no-dense"]).dense is False
    command = [sys.executable, "-m", "pipelines.eth_benchmark", "--dataset", str(tmp_path)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "has no dataset" in ended.stderr and "Traceback" not in ended.stderr
