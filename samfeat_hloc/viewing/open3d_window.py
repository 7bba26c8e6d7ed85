"""``python -m samfeat_hloc.viewing.open3d_window FOLDER``: the window itself, for `viewing.window` to run in a child.

FOLDER has ``scene.npz`` and ``photographs.txt``, a line a camera: the path of its photograph, or nothing. A chosen
photograph's name is printed after ``photograph``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samfeat_hloc.viewing.child import NO_OPEN3D, end_with_parent
from samfeat_hloc.viewing.framing import FIELD_OF_VIEW_DEG, default_view, frustum_depth
from samfeat_hloc.viewing.picking import pick
from samfeat_hloc.viewing.scene import BACKGROUND, EDGES, IntArray, Points, Scene, load_scene
from samfeat_hloc.viewing.splat import point_size_px
from samfeat_hloc.viewing.window import CHOSEN

SIZE = (1280, 860)
PANEL_EM = 25
MARKED_COLOUR = (255, 176, 32)
DIMMED = 0.72
"""How much of the background is mixed into points that the chosen camera does not observe."""
CLICK_PX = 4
MARKED, CHOSEN_CAMERA = "marked", "chosen"


class Window:
    """One scene in one window of Open3D's.

    Args:
        scene: what is to be seen.
        photographs: a path a camera, database and then queries; None for photographs that are not there.
    """

    def __init__(self, scene: Scene, photographs: list[Path | None]) -> None:
        import open3d as o3d

        from samfeat_hloc.viewing import open3d_scene
        from samfeat_hloc.viewing.open3d_panel import Panel

        self.o3d, self.geometry, self.gui = o3d, open3d_scene, o3d.visualization.gui
        self.scene, self.photographs = scene, photographs
        self.view = default_view(scene, cameras=True)
        self.depth = frustum_depth(scene)
        count = len(scene.points) + len(scene.cloud)
        self.point_size = point_size_px(count, SIZE[1])
        self.chosen: int | None = None
        self.pressed: tuple[float, float] | None = None
        frusta = [cameras.frusta(self.depth) for cameras in (scene.database, scene.queries)]
        self.frusta = np.concatenate(frusta) - self.view.target
        self.window = self.gui.Application.instance.create_window(f"{scene.title} - samfeat_hloc", *SIZE)
        self.widget = self.gui.SceneWidget()
        self.widget.scene = o3d.visualization.rendering.Open3DScene(self.window.renderer)
        self.names = open3d_scene.fill(self.widget.scene, scene, self.view.target, self.depth, self.point_size, 1.5)
        self.shown = dict.fromkeys(self.names, True)
        self.panel = Panel(self.window, [scene.title, *scene.facts])
        self.window.add_child(self.widget)
        self.window.add_child(self.panel.widget)
        self.window.set_on_layout(self._layout)
        self.widget.set_on_mouse(self._mouse)
        self.window.set_on_key(self._key)
        self.first_view()
        self.window.post_redraw()

    def first_view(self) -> None:
        """Look at the whole scene."""
        radius = np.full(3, self.view.radius)
        bounds = self.o3d.geometry.AxisAlignedBoundingBox(-radius, radius)
        self.widget.setup_camera(FIELD_OF_VIEW_DEG, bounds, np.zeros(3, np.float32))
        self._look(self.view.eye - self.view.target, np.zeros(3))

    def stand_at_chosen(self) -> None:
        """Look from a little behind the chosen camera where it looks."""
        if self.chosen is not None:
            apex, image = self.frusta[self.chosen, 0], self.frusta[self.chosen, 1:].mean(axis=0)
            self._look(apex - 1.5 * (image - apex), image)

    def choose(self, index: int | None) -> None:
        """Show one camera's photograph and mark its points; nothing for None."""
        scene3d, rendering = self.widget.scene, self.geometry
        for name in (MARKED, CHOSEN_CAMERA):
            if scene3d.has_geometry(name):
                scene3d.remove_geometry(name)
        again, self.chosen = index == self.chosen, index
        seen = np.zeros(0, np.int64)
        if index is not None:
            database = len(self.scene.database)
            names = (*self.scene.database.names, *self.scene.queries.names)
            if not again:
                print(f"{CHOSEN}{names[index]}", flush=True)
            if index < database:
                seen = self.scene.database.points_of(index)
            told = f"{len(seen)} points" if index < database else "a localized query"
            self.panel.show(f"{names[index]}\n{told}", self.photographs[index])
            lines = rendering.line_set(self.frusta[index][EDGES], np.zeros(3), (255, 255, 255))
            scene3d.add_geometry(CHOSEN_CAMERA, lines, rendering.material(line_width=3.0))
            if len(seen):
                colours = np.tile(np.array(MARKED_COLOUR, np.uint8), (len(seen), 1))
                cloud = rendering.point_cloud(Points(self.scene.points.xyz[seen], colours), self.view.target)
                scene3d.add_geometry(MARKED, cloud, rendering.material(point_size=self.point_size + 3))
        else:
            self.panel.clear()
        self._dress_points(seen)
        self.window.set_needs_layout()
        self.widget.force_redraw()

    def step(self, by: int) -> None:
        """Choose the next camera, or the one before."""
        if len(self.frusta):
            self.choose(0 if self.chosen is None else (self.chosen + by) % len(self.frusta))

    def toggle(self, name: str) -> None:
        """Show or hide one kind of geometry."""
        if name in self.names:
            self.shown[name] = not self.shown[name]
            self.widget.scene.show_geometry(name, self.shown[name])
            self.widget.force_redraw()

    def resize_points(self, factor: float) -> None:
        """Draw points larger or smaller."""
        self.point_size = float(np.clip(self.point_size * factor, 1, 20))
        self.choose(self.chosen)

    def _dress_points(self, marked: IntArray) -> None:
        """Colour the marked points and dim all others; all as they are when there are none."""
        for name, points in ((self.geometry.POINTS, self.scene.points), (self.geometry.CLOUD, self.scene.cloud)):
            if name not in self.names:
                continue
            rgb = points.rgb
            if len(marked):
                rgb = np.round(rgb + DIMMED * (np.array(BACKGROUND) - rgb.astype(float))).astype(np.uint8)
                if name == self.geometry.POINTS:
                    rgb[marked] = MARKED_COLOUR
            cloud = self.geometry.point_cloud(Points(points.xyz, rgb), self.view.target)
            self.widget.scene.remove_geometry(name)
            self.widget.scene.add_geometry(name, cloud, self.geometry.material(point_size=self.point_size))
            self.widget.scene.show_geometry(name, self.shown[name])

    def _look(self, eye: Any, target: Any) -> None:
        self.widget.center_of_rotation = np.asarray(target, np.float32)
        self.widget.look_at(*(np.asarray(part, np.float32) for part in (target, eye, self.view.up)))
        self.widget.force_redraw()

    def _layout(self, context: Any) -> None:
        del context
        area, width = self.window.content_rect, int(PANEL_EM * self.window.theme.font_size)
        self.widget.frame = self.gui.Rect(area.x, area.y, area.width - width, area.height)
        self.panel.widget.frame = self.gui.Rect(area.get_right() - width, area.y, width, area.height)

    def _mouse(self, event: Any) -> Any:
        kind = type(event).Type
        if event.type == kind.BUTTON_DOWN:
            left = event.is_button_down(self.gui.MouseButton.LEFT)
            self.pressed = (event.x, event.y) if left else None
        elif event.type == kind.BUTTON_UP and self.pressed is not None:
            x, y = self.pressed
            self.pressed = None
            if abs(event.x - x) + abs(event.y - y) <= CLICK_PX:
                self._click(event.x, event.y)
        return self.widget.IGNORED  # turning and zooming go on as they are

    def _click(self, x: float, y: float) -> None:
        frame, camera = self.widget.frame, self.widget.scene.camera
        matrix = np.asarray(camera.get_projection_matrix()) @ np.asarray(camera.get_view_matrix())
        visible = np.ones(len(self.frusta), bool)
        count = len(self.scene.database)
        visible[:count] = self.shown.get(self.geometry.CAMERAS, False)
        visible[count:] = self.shown.get(self.geometry.QUERIES, False)
        there = np.flatnonzero(visible)
        found = pick(matrix, self.frusta[there], (frame.width, frame.height), (x - frame.x, y - frame.y))
        if found is not None:
            self.choose(int(there[found]))

    def _key(self, event: Any) -> bool:
        if event.type != type(event).Type.DOWN:
            return False
        key, geometry = self.gui.KeyName, self.geometry
        acts: dict[Any, Callable[[], None]] = {
            key.LEFT: lambda: self.step(-1),
            key.RIGHT: lambda: self.step(1),
            key.C: lambda: self.toggle(geometry.CAMERAS),
            key.Q: lambda: self.toggle(geometry.QUERIES),
            key.T: lambda: self.toggle(geometry.PATHS),
            key.P: lambda: self.toggle(geometry.POINTS),
            key.D: lambda: self.toggle(geometry.CLOUD),
            key.F: self.stand_at_chosen,
            key.R: self.first_view,
            key.PLUS: lambda: self.resize_points(1.25),
            key.EQUALS: lambda: self.resize_points(1.25),
            key.MINUS: lambda: self.resize_points(0.8),
            key.ESCAPE: lambda: self.choose(None),
        }
        act = acts.get(event.key)
        if act is not None:
            act()
        return act is not None


def main(folder: str) -> None:
    """Open the window of a request and stay until it is closed."""
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(NO_OPEN3D)
    end_with_parent()
    scene = load_scene(Path(folder) / "scene.npz")
    lines = (Path(folder) / "photographs.txt").read_text(encoding="utf-8").split("\n")
    application = o3d.visualization.gui.Application.instance
    application.initialize()
    Window(scene, [Path(line) if line else None for line in lines])
    print("ready", flush=True)
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
