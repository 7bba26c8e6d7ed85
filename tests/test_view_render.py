"""Pictures: our own renderer against projected points, Open3D where it is installed, and what its failures become."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samfeat_hloc import view
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from samfeat_hloc.viewing import child, render, splat
from samfeat_hloc.viewing.framing import default_view
from samfeat_hloc.viewing.model_scene import scene_from_model
from samfeat_hloc.viewing.scene import BACKGROUND, Cameras, Points, Scene
from tests.photographed import Photographed, make_photographed

ROOT = Path(__file__).parents[1]
needs_open3d = pytest.mark.skipif(importlib.util.find_spec("open3d") is None, reason="Open3D is not installed")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Photographed:
    return make_photographed(tmp_path_factory.mktemp("render"), num_points=300)


@pytest.fixture(scope="module")
def scene(world: Photographed) -> Scene:
    return scene_from_model(world.reconstruction, trajectory=True)


def drawn(picture: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - BACKGROUND).sum(axis=2) > 24


def test_points_appear_where_the_view_projects_them(scene: Scene) -> None:
    bare = dataclasses.replace(scene, paths=())
    first = default_view(bare, tight=False)
    picture = splat.draw(bare, first, (400, 300))
    in_view = (bare.points.xyz - first.eye) @ first.rotation.T
    xy = in_view[:, :2] / in_view[:, 2:] * splat.focal_px((400, 300)) + [200, 150]
    on = drawn(picture)
    assert all(on[int(y), int(x)] for x, y in xy)
    assert 300 < on.sum() < 0.3 * on.size
    away = np.ones_like(on)
    for x, y in xy.astype(int):
        away[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6] = False
    assert not (on & away).any()


def test_near_points_cover_far_ones(scene: Scene) -> None:
    first = default_view(scene)
    line = first.eye + np.array([[0.3], [0.9], [0.6]]) * (first.target - first.eye)
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        picture = splat.draw(Scene("", Points(line[order], colours[order]), scene.database), first, (200, 200))
        assert picture[100, 100].tolist() == [250, 0, 0]


def test_cameras_and_paths_are_drawn_when_asked_and_lines_behind_the_eye_are_cut(scene: Scene) -> None:
    first = default_view(scene, cameras=True)
    without = splat.draw(dataclasses.replace(scene, paths=()), first, (400, 300))
    with_paths = splat.draw(scene, first, (400, 300))
    with_cameras = splat.draw(scene, first, (400, 300), cameras=True)
    assert drawn(without).sum() < drawn(with_paths).sum() < drawn(with_cameras).sum()
    through = np.array([first.eye - (first.target - first.eye), first.target])  # from behind the eye
    sideways = through + 0.05 * first.radius * first.rotation[0]
    alone = dataclasses.replace(scene, points=Points(), paths=(sideways,))
    assert drawn(splat.draw(alone, first, (400, 300)))[:, 200:].sum() > 20


def test_an_empty_view_is_background(scene: Scene) -> None:
    empty = Scene("", Points(), Cameras.make([], [], [], []))
    picture = splat.draw(empty, default_view(empty), (64, 48))
    assert (picture == BACKGROUND).all() and picture.shape == (48, 64, 3)


def test_screenshot_and_turntable_without_open3d(
    world: Photographed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MissingDependencyError("Open3D is not installed; pip install it")

    monkeypatch.setattr(render, "run_child", fails)
    shot, turn = tmp_path / "shot.png", tmp_path / "turn.gif"
    view.main(world.model, cameras=True, screenshot=shot, turntable=turn, size=(160, 120), frames=5)
    said = capsys.readouterr().err
    assert "Open3D is not installed" in said and said.count("drawing with samfeat_hloc's own renderer") == 1
    with Image.open(shot) as image:
        assert image.size == (160, 120) and drawn(np.asarray(image.convert("RGB"))).sum() > 100
    with Image.open(turn) as image:
        assert image.size == (80, 60) and image.n_frames == 5 and image.info["loop"] == 0
        frames = []
        for index in range(5):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(frames))  # it turns
    with pytest.raises(MissingDependencyError, match="not installed"):
        view.main(world.model, screenshot=tmp_path / "no.png", renderer="open3d")
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (3, "No module named 'open3d'", "pip install 'samfeat-hloc[viewer]'"),
        (3, "libusb-1.0.so.0: cannot open shared object file: No such file or directory", "apt install libusb-1.0-0"),
        (1, "OSError: libGL.so.1: cannot open shared object file: No such file", "apt install libgl1 "),
        (-11, "FEngine resolved backend: Vulkan\n", "crashed (SIGSEGV)"),
        (-6, "", "apt install libvulkan1 mesa-vulkan-drivers"),
        (1, "Traceback\nRuntimeError: no device\n\n", "Open3D failed (RuntimeError: no device)"),
    ],
)
def test_failures_of_the_child_become_one_line(status: int, said: str, expected: str) -> None:
    line = child.explain(status, said)
    assert expected in line and "\n" not in line


def test_a_child_that_crashes_or_hangs_is_an_error_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "hanging.py").write_text("import time\nprint('frame', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="SIGSEGV"):
        child.run_child("crashing", [])
    lines: list[str] = []
    start = time.monotonic()
    with pytest.raises(MissingDependencyError, match="did nothing for 2 s"):
        child.run_child("hanging", [], on_line=lines.append, timeout_s=2)
    assert lines == ["frame"] and time.monotonic() - start < 30
    (tmp_path / "quiet.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(7)\n")
    child.run_child("quiet", [], timeout_s=6, ready="ready")  # silence is no failure of a window that is open
    (tmp_path / "busy.py").write_text("import time\nwhile True:\n print('x', flush=True)\n time.sleep(0.1)\n")
    with pytest.raises(MissingDependencyError, match="did nothing for 1 s"):
        child.run_child("busy", [], timeout_s=1, ready="ready")


def test_bad_options(world: Photographed, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither \.png nor \.jpg"):
        view.main(world.model, screenshot=tmp_path / "a.bmp")
    with pytest.raises(InputError, match=r"no \.gif"):
        view.main(world.model, turntable=tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match="out of range"):
        view.main(world.model, screenshot=tmp_path / "a.png", size=(4, 4))
    with pytest.raises(ConfigError, match="expected one of auto, open3d, numpy"):
        view.main(world.model, screenshot=tmp_path / "a.png", renderer="gpu")


@needs_open3d
def test_open3d_draws_the_same_view(world: Photographed, tmp_path: Path) -> None:
    for renderer in ("open3d", "numpy"):
        view.main(world.model, screenshot=tmp_path / f"{renderer}.png", renderer=renderer, size=(320, 240))
    with Image.open(tmp_path / "open3d.png") as one, Image.open(tmp_path / "numpy.png") as other:
        theirs, ours = np.asarray(one.convert("RGB")), np.asarray(other)
    assert np.abs(theirs[0, 0].astype(int) - BACKGROUND).max() <= 3
    near = drawn(ours)
    grown = np.zeros_like(near)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            grown |= np.roll(near, (dy, dx), (0, 1))
    assert drawn(theirs).sum() > 300 and (drawn(theirs) & ~grown).sum() < 0.02 * drawn(theirs).sum()
    both = drawn(theirs) & near
    assert np.median(np.abs(theirs[both].astype(int) - ours[both])) < 40  # colours as they are


@needs_open3d
def test_open3d_without_a_driver_is_one_line(world: Photographed, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samfeat_hloc.view", str(world.model), "--screenshot", str(tmp_path / "a.png")]
    environment = {**os.environ, "VK_ICD_FILENAMES": "/nonexistent", "LIBGL_DRIVERS_PATH": "/nonexistent"}
    environment.pop("DISPLAY", None)
    run = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 200}
    done = subprocess.run([*command, "--renderer", "open3d"], **run)  # type: ignore[call-overload]
    if done.returncode == 0:
        pytest.skip("Open3D found a driver all the same")
    assert done.returncode == 2
    assert done.stderr.startswith("error: Open3D") and done.stderr.count("\n") == 1
    done = subprocess.run(command, **run)  # type: ignore[call-overload]
    assert done.returncode == 0 and (tmp_path / "a.png").is_file() and "own renderer" in done.stderr
