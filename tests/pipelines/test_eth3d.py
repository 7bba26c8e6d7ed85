"""`python -m pipelines.eth3d` on a scene that is known exactly."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datasets.eth3d import ALIGNMENT, SCANS, Eth3dScene
from pipelines import eth3d_clouds
from pipelines.dense import NO_CUDA
from pipelines.eth3d import parse
from pipelines.eth3d_poses import THRESHOLDS, align, auc_at, recall_at, score_poses
from pipelines.eth3d_run import Options, run
from pipelines.sparse_statistics import sparse_statistics
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.ply import read_ply, write_ply
from tests.pipelines.corner import surface, write_scene

KEYPOINTS = 600


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("eth3d") / "corner")


@pytest.fixture(scope="module")
def outputs(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    write_ply(folder / "mvs.ply", surface().astype(np.float32) + np.float32(0.03))
    run(Options(dataset=scene, outputs=folder / "out", max_keypoints=KEYPOINTS, cloud=folder / "mvs.ply"))
    return folder / "out"


@pytest.fixture(scope="module")
def summary(outputs: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((outputs / "summary.json").read_text())
    return found


def test_every_camera_is_found_and_close(summary: dict[str, Any]) -> None:
    models = summary["scenes"]["corner"]["features"]["samfeat"]
    poses = models["reconstruction-incremental"]["poses"]
    assert (poses["images"], poses["registered"]) == (7, 7)
    assert poses["recall"][2] == 1.0 and poses["recall_deg"][1] == 1.0
    assert 0 < poses["median_cm"] < 2 and poses["max_cm"] < 5
    assert poses["auc_cm"][2] > 0.6
    for name in ("triangulation", "reconstruction-incremental"):
        sparse = models[name]["sparse"]
        assert sparse["points"] > 200 and sparse["mean_track_length"] > 2.5
        assert sparse["mean_reprojection_error_px"] < 1


def test_sparse_points_lie_on_the_walls(summary: dict[str, Any]) -> None:
    clouds = summary["scenes"]["corner"]["clouds"]
    assert clouds["samfeat triangulation"]["accuracy"][2] > 0.95  # 5 cm; a pixel is 1 cm wide
    assert clouds["samfeat reconstruction-incremental"]["accuracy"][2] > 0.9
    assert clouds["samfeat triangulation"]["completeness"][0] < 0.1  # it is sparse


def test_a_dense_cloud_3_cm_off_every_wall_fails_at_2_cm_and_passes_at_5(summary: dict[str, Any]) -> None:
    scores = summary["scenes"]["corner"]["clouds"]["mvs.ply"]
    assert max(scores["f1"][:2]) < 0.05 and min(scores["f1"][2:]) > 0.99
    assert scores["median_m"] == pytest.approx(0.03, abs=0.002)


def test_tables_and_pictures_are_there(outputs: Path) -> None:
    text = (outputs / "corner.md").read_text()
    for words in ("7 of 7", "AUC@5 cm", "mvs.ply", "completeness", "voxels of 1 cm", "ETH3D's own program"):
        assert words in text
    assert "completeness" not in next(line for line in text.splitlines() if "samfeat triangulation" in line)
    for name in ("corner-samfeat.png", "corner-mvs.png"):
        picture = cv2.imread(str(outputs / name))
        assert picture is not None and len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    assert len(read_ply(outputs / "runs/corner/clouds/samfeat-triangulation.ply")) > 200


def test_a_second_run_computes_nothing_again(
    scene: Path, outputs: Path, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(eth3d_clouds, "evaluate_cloud", forbidden)
    monkeypatch.setattr("pipelines.eth3d_run.draw_cloud", forbidden)
    monkeypatch.setattr(pycolmap, "incremental_mapping", forbidden)
    monkeypatch.setattr(pycolmap, "triangulate_points", forbidden)
    cloud = outputs.parent / "mvs.ply"
    again = run(Options(dataset=scene, outputs=outputs, max_keypoints=KEYPOINTS, cloud=cloud))
    for key in ("features", "clouds"):
        assert again["scenes"]["corner"][key] == summary["scenes"]["corner"][key]


def test_a_changed_cloud_is_judged_anew(scene: Path, outputs: Path, tmp_path: Path) -> None:
    judge = eth3d_clouds.CloudJudge(Eth3dScene.open(scene), tmp_path)
    write_ply(tmp_path / "a.ply", surface()[::7])
    first = judge.file("a", tmp_path / "a.ply")
    write_ply(tmp_path / "a.ply", surface()[::7] + 0.03)
    second = judge.file("a", tmp_path / "a.ply")
    assert first["accuracy"][0] == 1.0 and second["accuracy"][0] < 0.1
    write_ply(tmp_path / "a.ply", np.zeros((0, 3)))
    with pytest.raises(InputError, match=r"a\.ply is empty"):
        judge.file("a", tmp_path / "a.ply")


def test_a_cloud_of_multi_view_stereo_is_judged_where_there_is_cuda(
    scene: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = Options(dataset=scene, outputs=outputs, max_keypoints=KEYPOINTS, mvs=True)
    asked = []

    def stereo(model: Path, image_dir: Path, workspace: Path, size: int) -> Path:
        asked.append((model.name, image_dir, workspace.name, size))
        return outputs.parent / "mvs.ply"

    with caplog.at_level(logging.WARNING):
        clouds = run(options)["scenes"]["corner"]["clouds"]
    if not pycolmap.has_cuda:
        assert "samfeat MVS" not in clouds
        assert NO_CUDA in [record.getMessage() for record in caplog.records]
    monkeypatch.setattr("pipelines.eth3d_run.dense_cloud", stereo)
    scores = run(options)["scenes"]["corner"]["clouds"]["samfeat MVS"]
    assert asked == [("triangulation", scene / "images", "dense", 3200)]
    assert max(scores["f1"][:2]) < 0.05 and min(scores["f1"][2:]) > 0.99


def test_photographs_that_share_nothing_end_with_one_line(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "walls", 3)
    rng = np.random.default_rng(0)
    for path in (root / "images").rglob("*.png"):
        noise = rng.integers(0, 256, (24, 32, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC))
    with pytest.raises(InputError, match="none of the 3 pairs"):
        run(Options(dataset=root, outputs=tmp_path / "out", max_keypoints=200))


def moved(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    turned = pycolmap.Rotation3d(np.array([0.4, 0.2, -1.0]))
    model.transform(pycolmap.Sim3d(0.2, turned, np.array([5.0, 6.0, 7.0])))
    return model


def test_a_moved_turned_and_shrunk_reconstruction_has_no_error(scene: Path) -> None:
    truth = Eth3dScene.open(scene).model
    model = moved(Eth3dScene.open(scene).model)
    similarity = align(model, truth)
    assert similarity is not None and similarity.scale == pytest.approx(5.0)
    model.transform(similarity.to_sim3d())
    scores = score_poses(model, truth)
    assert scores.registered == 7 and scores.recall == (1.0,) * 3
    assert scores.max_cm is not None and scores.max_cm < 1e-6
    assert min(scores.auc_cm + scores.auc_deg) > 0.999


def test_pose_scores_by_hand() -> None:
    errors = [0.25, 0.75, 3.0]  # cm, of four cameras: one is not registered
    assert THRESHOLDS == (0.5, 1.0, 5.0)
    assert recall_at(errors, 4) == (0.25, 0.5, 0.75)
    assert auc_at(errors, 4) == pytest.approx((0.5 / 4, (0.75 + 0.25) / 4, (0.95 + 0.85 + 0.4) / 4))
    assert recall_at([], 0) == (0.0, 0.0, 0.0)


def test_a_camera_that_is_off_and_one_that_is_missing_count(scene: Path) -> None:
    truth, model = Eth3dScene.open(scene).model, Eth3dScene.open(scene).model
    first, second = sorted(model.images)[:2]
    pose = model.images[first].cam_from_world()
    off = pycolmap.Rigid3d(pose.rotation, pose.translation + np.array([0.0, 0.03, 0.0]))
    model.frames[model.images[first].frame_id].set_cam_from_world(1, off)
    model.deregister_frame(model.images[second].frame_id)
    scores = score_poses(model, truth)
    assert (scores.images, scores.registered) == (7, 6)
    assert scores.recall_cm == pytest.approx((5 / 7, 5 / 7, 6 / 7))
    assert scores.max_cm == pytest.approx(3.0)
    assert scores.auc_cm[2] == pytest.approx((5 + 1 - 3 / 5) / 7)


def test_no_model_scores_nothing(scene: Path) -> None:
    scores = score_poses(None, Eth3dScene.open(scene).model)
    assert (scores.registered, scores.recall, scores.median_cm) == (0, (0.0, 0.0, 0.0), None)
    assert sparse_statistics(None, 5)["registered"] == 0


def test_missing_scans_are_told_before_any_work_and_can_be_left_out(scene: Path, tmp_path: Path) -> None:
    root = tmp_path / "corner"
    shutil.copytree(scene, root)
    (root / SCANS / ALIGNMENT).unlink()
    with pytest.raises(InputError, match=r"no laser scan.*--no-clouds"):
        run(Options(dataset=root, outputs=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    found = run(Options(dataset=root, outputs=tmp_path / "out", max_keypoints=KEYPOINTS, clouds=False))
    row = found["scenes"]["corner"]
    assert row["clouds"] == {} and row["features"]["samfeat"]["reconstruction-incremental"]["poses"]["registered"] == 7


def test_bad_inputs_end_with_status_2_and_one_line(scene: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.eth3d", "--outputs", str(tmp_path / "out"), "--dataset"]
    root = Path(__file__).parents[2]
    found = subprocess.run([*command, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 2 and "has no ETH3D scene" in found.stderr and "Traceback" not in found.stderr


def test_options() -> None:
    assert parse(["--features", "sift", "sift"]).features == ("sift",)
    with pytest.raises(ConfigError, match="--no-clouds"):
        Options(clouds=False, cloud=Path("a.ply"))
    with pytest.raises(ConfigError, match="--max-keypoints is 0"):
        Options(max_keypoints=0)
    with pytest.raises(InputError, match="absent"):
        run(Options(dataset=Path("absent")))
