"""The column beside the window's view: facts, keys, the chosen photograph. Loaded in child processes only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d

from samfeat_hloc.errors import InputError
from samfeat_hloc.images import _turn
from samfeat_hloc.viewing.photographs import read_small

PHOTOGRAPH_PX = 480
KEYS = {
    "drag": "turn",
    "Ctrl drag": "move",
    "wheel": "zoom",
    "click": "a camera: its photograph, points",
    "left right": "photograph before, after",
    "C Q T": "cameras, queries, trajectory",
    "P D": "points, dense cloud",
    "F": "stand at the chosen camera",
    "+ -": "size of points",
    "R": "first view",
    "Esc": "choose nothing",
}


class Panel:
    """The column's widgets.

    Args:
        window: Open3D's.
        facts: lines for its top.
    """

    def __init__(self, window: Any, facts: list[str]) -> None:
        gui, em = o3d.visualization.gui, window.theme.font_size
        self.widget = gui.Vert(0.5 * em, gui.Margins(0.7 * em, 0.7 * em, 0.7 * em, 0.7 * em))
        self.widget.add_child(gui.Label("\n".join(facts)))
        keys = gui.Horiz(em)
        for column in (KEYS.keys(), KEYS.values()):
            keys.add_child(gui.Label("\n".join(column)))
        self.widget.add_child(keys)
        self.picture = gui.ImageWidget()
        self.caption = gui.Label("")
        self.widget.add_child(self.picture)
        self.widget.add_child(self.caption)
        self.clear()

    def clear(self) -> None:
        """Show no photograph."""
        self.picture.visible, self.caption.text = False, ""

    def show(self, caption: str, path: Path | None) -> None:
        """Show a photograph, upright; without one its caption alone, and why."""
        self.picture.visible = False
        if path is None:
            caption += "\n(no photograph: give --images)"
        else:
            try:
                pixels, orientation = read_small(path, PHOTOGRAPH_PX)
            except InputError as error:
                caption += f"\n({error})"
            else:
                self.picture.update_image(o3d.geometry.Image(np.ascontiguousarray(_turn(pixels, orientation))))
                self.picture.visible = True
        self.caption.text = caption
