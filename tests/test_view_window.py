"""The window: which camera a click means, what its absence becomes, and the window itself under a virtual display."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samfeat_hloc import view
from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.viewing import window
from samfeat_hloc.viewing.framing import View, default_view
from samfeat_hloc.viewing.model_scene import scene_from_model
from samfeat_hloc.viewing.picking import pick, project
from samfeat_hloc.viewing.scene import Scene
from tests.photographed import NAMES, Photographed, make_photographed

ROOT = Path(__file__).parents[1]
SIZE = (800.0, 600.0)
DISPLAY = ":93"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Photographed:
    return make_photographed(tmp_path_factory.mktemp("window"))


@pytest.fixture(scope="module")
def scene(world: Photographed) -> Scene:
    return scene_from_model(world.reconstruction)


def clip_from_world(at: View) -> np.ndarray:
    """OpenGL's matrix of a view with a focal length of 600 pixels."""
    view_matrix = np.eye(4)
    view_matrix[:3, :3] = np.diag([1, -1, -1]) @ at.rotation
    view_matrix[:3, 3] = -view_matrix[:3, :3] @ at.eye
    clip = np.zeros((4, 4))
    clip[0, 0], clip[1, 1] = 2 * 600 / SIZE[0], 2 * 600 / SIZE[1]
    clip[2, 2], clip[2, 3], clip[3, 2] = -1.0, -0.2, -1.0
    return clip @ view_matrix


def test_a_click_means_the_camera_that_is_there(scene: Scene) -> None:
    at = default_view(scene, cameras=True)
    matrix, frusta = clip_from_world(at), scene.database.frusta(0.4)
    xy, depth = project(matrix, frusta, SIZE)
    in_view = (frusta - at.eye) @ at.rotation.T
    np.testing.assert_allclose(xy, in_view[..., :2] / in_view[..., 2:] * 600 + [400, 300], atol=1e-9)
    np.testing.assert_allclose(depth, in_view[..., 2], atol=1e-9)
    for index in range(len(frusta)):
        assert pick(matrix, frusta, SIZE, tuple(xy[index, 1:].mean(axis=0))) == index  # the image plane's middle
        assert pick(matrix, frusta, SIZE, (xy[index, 0, 0] + 1, xy[index, 0, 1] - 1)) is not None
    assert pick(matrix, frusta, SIZE, (5.0, 5.0)) is None
    assert pick(matrix, frusta[:0], SIZE, (400.0, 300.0)) is None


def test_of_two_cameras_under_a_click_the_nearer_one_is_meant_and_none_behind_the_eye(scene: Scene) -> None:
    at = default_view(scene, cameras=True)
    one = scene.database.frusta(0.4)[0]
    ray = (one[0] - at.eye) / np.linalg.norm(one[0] - at.eye)
    nearer, behind = one - 0.5 * ray, one - 3 * np.linalg.norm(one[0] - at.eye) * ray
    xy, _ = project(clip_from_world(at), one[None], SIZE)
    click = tuple(xy[0, 1:].mean(axis=0))
    stack = np.stack([one, nearer, behind])
    assert pick(clip_from_world(at), stack, SIZE, click) == 1
    assert pick(clip_from_world(at), behind[None], SIZE, click) is None


def test_no_display_is_one_line(world: Photographed) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "samfeat_hloc.view", str(world.model)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: a window needs a display") and done.stderr.count("\n") == 1
    assert "--html" in done.stderr


def test_a_window_that_cannot_open_points_to_the_page(
    world: Photographed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MissingDependencyError("Open3D is not installed; pip install it")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(window, "_answers", lambda display: True)
    monkeypatch.setattr(window, "run_child", fails)
    with pytest.raises(MissingDependencyError, match="not installed; pip install it; or write a page"):
        view.main(world.model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no photograph at all"):
        view.main(world.model, images=tmp_path / "empty")


@pytest.mark.parametrize("display", [":4711", "unix:4711.0", "localhost:4711"])
def test_a_display_that_does_not_answer_is_one_line(
    world: Photographed, monkeypatch: pytest.MonkeyPatch, display: str
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingDependencyError, match=r"does not answer.*or write a page for a browser") as failed:
        view.main(world.model)
    assert "\n" not in str(failed.value)


def test_a_child_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(
        "from samfeat_hloc.viewing.child import end_with_parent\nend_with_parent()\nprint('done')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    for _ in range(5):  # one that ends by itself ends well
        script = "from samfeat_hloc.viewing.child import run_child; run_child('good', [])"
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    (tmp_path / "orphan.py").write_text(
        "import os, time\nfrom samfeat_hloc.viewing.child import end_with_parent\n"
        "end_with_parent()\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    script = "from samfeat_hloc.viewing.child import run_child\n"
    script += "run_child('orphan', [], on_line=lambda line: print(line, flush=True))"
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{orphan}/stat").exists() or Path(f"/proc/{orphan}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(orphan, signal.SIGKILL)
    pytest.fail("the child lives on")


@pytest.fixture
def display() -> Iterator[dict[str, str]]:
    """A virtual display, as environment variables."""
    tools = ("Xvfb", "xdotool")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"no {missing[0]} here; Debian: apt install xvfb xdotool")
    if importlib.util.find_spec("open3d") is None:
        pytest.skip("Open3D is not installed")
    server = subprocess.Popen(["Xvfb", DISPLAY, "-screen", "0", "1400x900x24"], stderr=subprocess.DEVNULL)
    time.sleep(2)
    yield {**os.environ, "DISPLAY": DISPLAY}
    server.terminate()
    server.wait()


@pytest.mark.slow
def test_the_window_opens_and_a_click_chooses_a_photograph(world: Photographed, display: dict[str, str]) -> None:
    from PIL import ImageGrab

    def xdotool(*words: str) -> str:
        done = subprocess.run(["xdotool", *words], env=display, capture_output=True, text=True, timeout=30)
        return done.stdout

    def screen() -> np.ndarray:
        return np.asarray(ImageGrab.grab(xdisplay=DISPLAY).convert("RGB")).astype(int)

    command = [sys.executable, "-m", "samfeat_hloc.view", str(world.model), "--images", str(world.images)]
    shown = subprocess.Popen(command, cwd=ROOT, env=display, stdout=subprocess.PIPE, text=True)
    try:
        blue = np.zeros((0, 2), int)
        for _ in range(60):
            time.sleep(1)
            picture = screen()
            blue = np.argwhere(np.abs(picture - [77, 163, 255]).sum(axis=2) < 20)
            if len(blue) > 100:
                break
        assert len(blue) > 100, "no camera is drawn"
        row, column = np.median(blue[blue[:, 1] < np.percentile(blue[:, 1], 25)], axis=0).astype(int)
        xdotool("mousemove", str(column), str(row), "mousedown", "1")
        time.sleep(0.5)
        xdotool("mouseup", "1")
        time.sleep(4)
        after = screen()
        assert (np.abs(after - [255, 176, 32]).sum(axis=2) < 12).sum() > 100  # its points are marked
        xdotool("key", "Right")
        time.sleep(2)
    finally:
        shown.terminate()
        said = shown.communicate(timeout=30)[0].splitlines()
    assert len(said) == 2 and set(said) <= set(NAMES) and said[0] != said[1]
