"""The interactive window: Open3D in a child process, and one line where it cannot open."""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from pathlib import Path

from samfeat_hloc.errors import InputError, MissingDependencyError
from samfeat_hloc.viewing.child import run_child
from samfeat_hloc.viewing.photographs import photographs_of
from samfeat_hloc.viewing.scene import Scene, save_scene

CHOSEN = "photograph "
"""How the child's line about a click begins."""
START_S = 60.0
"""A window that has not opened by then never will: with a display that does not answer Open3D tries for ever."""
OTHERWISE = "or write a page for a browser: --html page.html"


def open_window(scene: Scene, images: Path | str | None = None) -> None:
    """Show a scene until its window is closed. Names of the photographs that are clicked go to stdout.

    Args:
        scene: what is to be seen.
        images: folder of the photographs.

    Raises:
        InputError: none of the photographs is in `images`.
        MissingDependencyError: no display or one that does not answer, no Open3D, or Open3D does not work here; says
            what to install.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise MissingDependencyError(
            "a window needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set; work on a desktop, or with "
            f"ssh -X, {OTHERWISE}"
        )
    display = os.environ.get("DISPLAY", "")
    if sys.platform.startswith("linux") and not os.environ.get("WAYLAND_DISPLAY") and not _answers(display):
        raise MissingDependencyError(  # Open3D would run for ever without a window
            f"the display {display} does not answer; start it or set DISPLAY to one that runs, {OTHERWISE}"
        )
    names = (*scene.database.names, *scene.queries.names)
    paths = photographs_of(images, names) if images is not None else {}
    if any("\n" in name for name in names):
        raise InputError("a photograph's name has a line break; rename the file")

    def show(line: str) -> None:
        if line.startswith(CHOSEN):
            print(line.removeprefix(CHOSEN), flush=True)

    with tempfile.TemporaryDirectory(prefix="samfeat-view-") as folder:
        save_scene(Path(folder) / "scene.npz", scene)
        lines = [str(paths[name].resolve()) if name in paths else "" for name in names]
        (Path(folder) / "photographs.txt").write_text("\n".join(lines), encoding="utf-8")
        try:
            run_child("samfeat_hloc.viewing.open3d_window", [folder], on_line=show, timeout_s=START_S, ready="ready")
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{error}; {OTHERWISE}") from None


def _answers(display: str) -> bool:
    """Whether an X server takes connections at ``[unix]:N``, ``[HOST]:N``; names of another form are left to Open3D."""
    found = re.fullmatch(r"([\w.-]*):(\d+)(\.\d+)?", display)
    if not found:
        return True
    host, number = found[1], int(found[2])
    path = f"/tmp/.X11-unix/X{number}"
    local = [(socket.AF_UNIX, path), (socket.AF_UNIX, f"\0{path}")]
    places: list[tuple[int, object]] = [*local] if host in ("", "unix") else [(socket.AF_INET, (host, 6000 + number))]
    for family, address in places:
        with socket.socket(family, socket.SOCK_STREAM) as link:
            link.settimeout(5)
            try:
                link.connect(address)  # type: ignore[arg-type]
            except OSError:
                continue
            return True
    return False
