"""The page: what it holds, how large it gets, and what a browser makes of it (headless Chromium)."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samfeat_hloc import view
from samfeat_hloc._pycolmap import pose_to_array
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.poses import write_poses
from samfeat_hloc.viewing.framing import default_view
from samfeat_hloc.viewing.html import MAX_PAGE_BYTES, SCRIPTS, Limits, write_page
from samfeat_hloc.viewing.model_scene import scene_from_model
from samfeat_hloc.viewing.scene import DEFAULT_CORNERS, Cameras, Points, Scene
from tests.photographed import NAMES, Photographed, make_photographed
from tests.world import look_at

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt install chromium")
EVIL = "right/<script>window.hacked=1.jpg"
COUNT = """
function count(test) {
  const canvas = document.createElement("canvas"), view = document.getElementById("view");
  canvas.width = view.width; canvas.height = view.height;
  const context = canvas.getContext("2d");
  context.drawImage(view, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let found = 0;
  for (let i = 0; i < pixels.length; i += 4) found += test(pixels[i], pixels[i + 1], pixels[i + 2]);
  return found;
}
const drawn = (r, g, b) => Math.abs(r - 20) + Math.abs(g - 23) + Math.abs(b - 28) > 24;
const orange = (r, g, b) => r > 240 && Math.abs(g - 176) < 12 && b < 60;
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Photographed:
    return make_photographed(tmp_path_factory.mktemp("page"), names=(*NAMES, EVIL), num_points=400)


@pytest.fixture(scope="module")
def page(world: Photographed) -> Path:
    write_poses(world.root / "poses.txt", {"query.jpg": pose_to_array(look_at([0.4, -1.5, 0], [0, 0, 8]))})
    view.main(
        world.model,
        images=world.images,
        queries=world.root / "poses.txt",
        trajectory=True,
        html=world.root / "page.html",
    )
    return world.root / "page.html"


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="scene">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def array_of(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def chromium(*arguments: str) -> str:
    assert CHROMIUM
    flags = (
        "--headless",
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--disable-gpu-vsync",
    )
    command = [CHROMIUM, *flags, "--window-size=1000,700", "--virtual-time-budget=3000", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def ask(page: Path, tmp_path: Path, script: str, *flags: str) -> dict[str, Any]:
    """Run a script in the page and return what it puts into `answer`."""
    copy = tmp_path / "asked.html"
    runner = f"<script>{COUNT}const answer={{}};\n{script}\n"
    runner += "setTimeout(() => { document.body.dataset.answer = JSON.stringify(answer); }, 1500);</script></body>"
    copy.write_text(page.read_text().replace("</body>", runner))
    found = re.search(r'data-answer="([^"]*)"', chromium("--dump-dom", *flags, copy.as_uri()))
    assert found, "the script did not come to its end"
    return json.loads(html.unescape(found[1]))


def test_the_page_holds_the_model(world: Photographed, page: Path) -> None:
    data = data_of(page)
    scene = scene_from_model(world.reconstruction)
    assert data["database"]["names"] == list(scene.database.names)
    xyz = array_of(data["points"]["xyz"], "<f4").reshape(-1, 3)
    origin = (scene.points.xyz - xyz).mean(axis=0)
    np.testing.assert_allclose(xyz + origin, scene.points.xyz, atol=1e-5)
    centres = array_of(data["database"]["centres"], "<f4").reshape(-1, 3)
    np.testing.assert_allclose(centres + origin, scene.database.centres, atol=1e-5)
    np.testing.assert_array_equal(array_of(data["database"]["observed"], "<u4"), scene.database.observed)
    assert len(data["queries"]["names"]) == 1 and len(data["paths"]) == 2
    assert base64.b64decode(data["database"]["thumbnails"][0]).startswith(b"\xff\xd8\xff")  # JPEG
    assert data["queries"]["thumbnails"] == [""]
    assert "1 of 6 photographs are not in this page" in data["facts"]


def test_the_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    shell = text.replace(re.search(r'id="scene">(.*?)</script>', text, re.DOTALL)[1], "")  # type: ignore[index]
    assert not re.search(r"https?://|<link|\bsrc=|@import|\bfetch\(|XMLHttpRequest|\bimport\(", shell)
    assert "default-src 'none'" in shell


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>window.hacked=1</script>%SCRIPT%"
    cameras = Cameras.make([evil], [np.eye(3)], [[0, 0, 0]], [DEFAULT_CORNERS])
    write_page(tmp_path / "a.html", Scene(evil, Points(), cameras))
    assert "<script>window.hacked" not in (tmp_path / "a.html").read_text()
    assert data_of(tmp_path / "a.html")["database"]["names"] == [evil]


@pytest.mark.timeout(120)
def test_a_large_map_stays_within_the_limit_and_says_what_was_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, images, each = 500_000, 1000, 2500
    xyz = rng.normal(size=(points, 3)) * 30
    rgb = rng.integers(0, 255, (points, 3)).astype(np.uint8)
    observed = [np.sort(rng.integers(0, points, each)) for _ in range(images)]
    names = [f"street/{i:05d}.jpg" for i in range(images)]
    (tmp_path / "street").mkdir()
    noise = Image.fromarray(rng.integers(0, 255, (480, 640, 3)).astype(np.uint8))  # the worst that a JPEG can meet
    noise.save(tmp_path / names[0])
    for name in names[1:]:
        (tmp_path / name).hardlink_to(tmp_path / names[0])
    corners = np.tile(DEFAULT_CORNERS, (images, 1, 1))
    cameras = Cameras.make(names, np.tile(np.eye(3), (images, 1, 1)), rng.normal(size=(images, 3)), corners, observed)
    cloud = Points(np.repeat(xyz, 2, axis=0), np.repeat(rgb, 2, axis=0))
    scene = Scene("large", Points(xyz, rgb), cameras, cloud=cloud)
    write_page(tmp_path / "large.html", scene, None)
    without = (tmp_path / "large.html").stat().st_size
    limits = Limits()
    assert without + limits.photograph_bytes * 4 / 3 + 300 * limits.cameras < MAX_PAGE_BYTES
    data = data_of(tmp_path / "large.html")
    kept = array_of(data["points"]["xyz"], "<f4").reshape(-1, 3)
    assert 150_000 < len(kept) <= limits.points
    assert len(array_of(data["database"]["observed"], "<u4")) <= limits.observations
    assert any(
        re.fullmatch(r"[\d,]+ of 500,000 points are in this page, drawn at random", fact) for fact in data["facts"]
    )
    assert "500,000 of 1,000,000 points of the dense cloud are in this page" in data["facts"]
    offsets, seen = array_of(data["database"]["offsets"], "<u4"), array_of(data["database"]["observed"], "<u4")
    back = kept[seen[offsets[3] : offsets[4]]] + default_view(scene, cameras=True).target
    of_camera_3 = xyz[observed[3]]
    assert len(back) > 500
    assert max(np.abs(of_camera_3 - row).max(axis=1).min() for row in back[:20]) < 1e-4  # still that camera's points
    few = Limits(photograph_bytes=400_000, smallest_photograph_bytes=20_000)
    blind = Cameras.make(cameras.names, cameras.rotations, cameras.centres, cameras.corners)
    small = Scene("large", Points(xyz[:1000], rgb[:1000]), blind)
    write_page(tmp_path / "few.html", small, tmp_path, few)
    assert sum(map(bool, data_of(tmp_path / "few.html")["database"]["thumbnails"])) == 20
    assert "980 of 1,000 photographs are not in this page" in data_of(tmp_path / "few.html")["facts"]
    assert (tmp_path / "few.html").stat().st_size < 1_000_000


@needs_browser
def test_the_browser_shows_points_and_a_click_shows_a_photograph(page: Path, tmp_path: Path) -> None:
    answer = ask(
        page,
        tmp_path,
        """
const press = (type, x, y, more) => document.getElementById("view").dispatchEvent(new PointerEvent(type,
  { clientX: x, clientY: y, pointerId: 1, button: 0, bubbles: true, ...more }));
const box = document.getElementById("view").getBoundingClientRect();
answer.renderer = viewer.renderer;
for (const kind of ["cameras", "queries", "paths"]) viewer.state.show[kind] = false;
viewer.draw();
answer.points = count(drawn);
viewer.state.show.points = false;
viewer.draw();
answer.nothing = count(drawn);
viewer.state.show.cameras = true;
viewer.draw();
answer.cameras = count(drawn);
viewer.state.show.points = true;
viewer.draw();
answer.marked_before = count(orange);
const camera = viewer.cameras[1], at = viewer.onScreen(camera.centre);
press("pointerdown", box.left + at.x, box.top + at.y);
press("pointerup", box.left + at.x, box.top + at.y);
viewer.draw();
answer.marked = count(orange);
answer.caption = document.getElementById("caption").textContent;
answer.wanted = camera.name;
answer.visible = !document.getElementById("photo").hidden;
const eye = viewer.orbit.eye, distance = viewer.orbit.distance, target = viewer.orbit.target;
press("pointerdown", 500, 300); press("pointermove", 560, 330); press("pointerup", 560, 330);
answer.turned = Math.hypot(...viewer.orbit.eye.map((v, k) => v - eye[k])) / distance;
answer.same_distance = Math.abs(viewer.orbit.distance / distance - 1) < 1e-9;
press("pointerdown", 500, 300, { shiftKey: true }); press("pointermove", 560, 330); press("pointerup", 560, 330);
answer.panned = Math.hypot(...viewer.orbit.target.map((v, k) => v - target[k])) / distance;
document.getElementById("view").dispatchEvent(new WheelEvent("wheel", { deltaY: -200 }));
answer.zoomed = viewer.orbit.distance / distance;
const two = (type, id, x) => press(type, x, 300, { pointerId: id, pointerType: "touch" });
const before = viewer.orbit.distance;
two("pointerdown", 7, 400); two("pointerdown", 8, 500); two("pointermove", 8, 600); two("pointerup", 7, 400);
two("pointerup", 8, 600);
answer.pinched = viewer.orbit.distance / before;
window.dispatchEvent(new KeyboardEvent("keydown", { key: "c" }));
answer.cameras_off = !viewer.state.show.cameras;
answer.keys = document.getElementById("keys").textContent;
setTimeout(() => {
  answer.width = document.getElementById("picture").naturalWidth;
  answer.hacked = window.hacked;
}, 900);
""",
    )
    assert answer["renderer"] == "WebGL"
    assert answer["points"] > 400 and answer["nothing"] == 0 and answer["cameras"] > 200
    assert answer["marked_before"] < 20 and answer["marked"] > answer["marked_before"] + 200
    assert answer["visible"] and answer["caption"] == answer["wanted"] == sorted((*NAMES, EVIL))[1]
    assert answer["width"] == 320  # the photograph's own: it was decoded
    assert answer["turned"] > 0.2 and answer["same_distance"] and answer["panned"] > 0.02
    assert answer["zoomed"] == pytest.approx(np.exp(-0.3), rel=1e-6) and answer["pinched"] == pytest.approx(0.5)
    assert answer["cameras_off"] and "drag" in answer["keys"] and "trajectory" in answer["keys"]
    assert answer.get("hacked") is None


@needs_browser
def test_a_model_of_cameras_alone_is_drawn_too(world: Photographed, tmp_path: Path) -> None:
    cameras = scene_from_model(world.reconstruction).database
    write_page(tmp_path / "cameras.html", Scene("cameras", Points(), cameras), world.images)
    script = "answer.cameras = count(drawn); viewer.select(viewer.cameras[0]); viewer.draw();"
    script += "answer.keys = document.getElementById('keys').textContent;"
    script += "answer.failed = !document.getElementById('failure').hidden;"
    answer = ask(tmp_path / "cameras.html", tmp_path, script)
    assert answer["cameras"] > 200 and not answer["failed"]
    assert "dense cloud" not in answer["keys"] and "queries" not in answer["keys"]  # keys of what is not there


@needs_browser
def test_without_webgl_a_plain_canvas_shows_the_same(page: Path, tmp_path: Path) -> None:
    script = "answer.renderer = viewer.renderer; viewer.draw(); answer.points = count(drawn);"
    script += "viewer.select(viewer.cameras[0]); viewer.draw(); answer.marked = count(orange);"
    answer = ask(page, tmp_path, script, "--disable-3d-apis")
    assert answer["renderer"] == "canvas"
    assert answer["points"] > 800 and answer["marked"] > 200


@needs_browser
def test_the_page_looks_like_something(page: Path, tmp_path: Path) -> None:
    chromium(f"--screenshot={tmp_path / 'shot.png'}", page.as_uri())
    with Image.open(tmp_path / "shot.png") as shot:
        pixels = np.asarray(shot.convert("RGB")).astype(int)
    centre = pixels[100:600, 380:900]  # beside the panels
    assert (np.abs(centre - [20, 23, 28]).sum(axis=2) > 24).sum() > 500
    assert len(np.unique(centre.reshape(-1, 3), axis=0)) > 50


def test_the_command_line(world: Photographed, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samfeat_hloc.view", str(world.model), "--html", str(tmp_path / "a.html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.html").is_file() and "MB" in done.stderr
    done = subprocess.run(
        [*command, "--images", str(tmp_path / "no")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and done.stderr.startswith("error: the image folder") and done.stderr.count("\n") == 1


def test_a_page_is_not_written_when_no_photograph_is_there(world: Photographed, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "other.jpg")
    with pytest.raises(InputError, match="none of the model's 5 photographs is in"):
        view.main(world.model, images=tmp_path / "images", html=tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_all_files_of_the_page_are_used() -> None:
    folder = ROOT / "samfeat_hloc" / "viewing" / "page"
    assert {path.name for path in folder.iterdir()} == {"page.html", "style.css", *SCRIPTS}
