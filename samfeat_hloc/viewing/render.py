"""Screenshots and turntables, off screen: Open3D in a child process, or our own splatter where that does not work."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.progress import progress
from samfeat_hloc.viewing import splat
from samfeat_hloc.viewing.child import run_child
from samfeat_hloc.viewing.framing import View, default_view
from samfeat_hloc.viewing.scene import ColourArray, Scene, save_scene

OPEN3D, NUMPY = "Open3D", "samfeat_hloc's own renderer (numpy)"
SILENCE_S = 120.0
"""Open3D is given up after so long without a picture."""
FRAME_MS = 80
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def render(
    scene: Scene,
    screenshot: Path | str | None = None,
    turntable: Path | str | None = None,
    *,
    cameras: bool = False,
    size: tuple[int, int] = (1280, 960),
    frames: int = 48,
    renderer: str = "auto",
) -> str:
    """Write pictures of a scene; each file is whole or absent.

    Args:
        scene: what is to be seen.
        screenshot: .png or .jpg file.
        turntable: .gif file: once round the scene.
        cameras: draw the model's cameras; queries and paths are drawn when the scene has them.
        size: width and height of the screenshot in pixels; the turntable has half of each.
        frames: of the turntable.
        renderer: ``open3d``, ``numpy``, or ``auto``: Open3D, and numpy where it does not work; why goes to stderr.

    Returns:
        what drew the pictures, for people.

    Raises:
        InputError: a file name of another kind.
        MissingDependencyError: Open3D alone was asked for, and does not work here; says what to install.
    """
    if screenshot is not None and Path(screenshot).suffix.lower() not in PICTURES:
        raise InputError(f"the screenshot {screenshot} is neither .png nor .jpg; give such a name")
    if turntable is not None and Path(turntable).suffix.lower() != ".gif":
        raise InputError(f"the turntable {turntable} is no .gif; give such a name")
    aspect = size[0] / size[1]
    jobs: list[tuple[Path, list[View], tuple[int, int]]] = []
    if screenshot is not None:
        jobs.append((Path(screenshot), [default_view(scene, aspect=aspect, cameras=cameras)], size))
    if turntable is not None:
        first = default_view(scene, aspect=aspect, cameras=cameras, tight=False)
        views = [first.turned(360 * index / frames) for index in range(frames)]
        jobs.append((Path(turntable), views, (max(8, size[0] // 2), max(8, size[1] // 2))))
    used = NUMPY if renderer == "numpy" else OPEN3D
    for path, views, pixels in jobs:
        with ExitStack() as stack:
            if used == OPEN3D:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samfeat-view-")))
                try:
                    _draw_with_open3d(scene, views, pixels, cameras, folder)
                except MissingDependencyError as error:
                    if renderer == "open3d":
                        raise
                    print(f"{error}; drawing with {NUMPY} instead", file=sys.stderr)
                    used = NUMPY
            if used == OPEN3D:
                _write(path, _read(folder, len(views)))
            else:
                pictures = splat.draw_all(scene, views, pixels, cameras=cameras)
                _write(path, progress(pictures, total=len(views), desc=path.name, unit="picture"))
    return used


def _draw_with_open3d(scene: Scene, views: list[View], size: tuple[int, int], cameras: bool, folder: Path) -> None:
    save_scene(folder / "scene.npz", scene)
    described = [{key: np.asarray(value).tolist() for key, value in asdict(view).items()} for view in views]
    request = {"scene": str(folder / "scene.npz"), "size": size, "cameras": cameras, "views": described}
    (folder / "request.json").write_text(json.dumps(request))
    done = 0

    def count(line: str) -> None:  # Filament prints lines of its own
        nonlocal done
        done += line == "frame"

    arguments = [str(folder / "request.json"), str(folder)]
    run_child("samfeat_hloc.viewing.open3d_render", arguments, on_line=count, timeout_s=SILENCE_S)
    if done < len(views):
        raise MissingDependencyError(f"Open3D drew {done} of {len(views)} pictures and stopped")


def _read(folder: Path, count: int) -> Iterator[ColourArray]:
    from PIL import Image

    for index in range(count):
        with Image.open(folder / f"{index:05d}.png") as image:
            yield np.asarray(image.convert("RGB"))


def _write(path: Path, pictures: Iterator[ColourArray]) -> None:
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    with replace_file(path) as temporary, temporary.open("wb") as file:
        if path.suffix.lower() == ".gif":
            # one palette for all frames, from the first: of its own, each frame would flicker
            palette = images[0].quantize(256, dither=Image.Dither.NONE)
            still = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
            still[0].save(
                file, "GIF", save_all=True, append_images=still[1:], duration=FRAME_MS, loop=0, optimize=False
            )
        else:
            images[0].save(file, PICTURES[path.suffix.lower()], quality=92, optimize=True)
