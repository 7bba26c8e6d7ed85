"""``python -m samfeat_hloc.viewing.open3d_render REQUEST FOLDER``: pictures drawn by Open3D, off screen.

A program for `viewing.render` to run in a child process: REQUEST is its JSON file with the scene, views and size;
pictures go to FOLDER as 00000.png and so on, and each is announced by a line ``frame``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from samfeat_hloc.viewing.child import NO_OPEN3D, end_with_parent
from samfeat_hloc.viewing.framing import FIELD_OF_VIEW_DEG, frustum_depth
from samfeat_hloc.viewing.scene import load_scene
from samfeat_hloc.viewing.splat import point_size_px


def main(request_file: str, folder: str) -> None:
    """Draw all views of a request."""
    try:
        import open3d as o3d

        from samfeat_hloc.viewing.open3d_scene import CAMERAS, fill
    except (ImportError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(NO_OPEN3D)
    end_with_parent()
    request = json.loads(Path(request_file).read_text())
    scene = load_scene(Path(request["scene"]))
    width, height = request["size"]
    renderer = o3d.visualization.rendering.OffscreenRenderer(width, height)
    origin = np.array(request["views"][0]["target"])
    size = point_size_px(len(scene.points) + len(scene.cloud), height)
    names = fill(renderer.scene, scene, origin, frustum_depth(scene), size, max(2.0, 2.0 * height / 960))
    if CAMERAS in names:
        renderer.scene.show_geometry(CAMERAS, request["cameras"])
    camera = renderer.scene.camera
    kind = type(camera).FovType.Vertical if width >= height else type(camera).FovType.Horizontal
    for index, view in enumerate(request["views"]):
        eye, target = np.array(view["eye"]) - origin, np.array(view["target"]) - origin
        distance = float(np.linalg.norm(eye - target))
        near, far = distance / 1000, distance + 20 * view["radius"]
        camera.set_projection(FIELD_OF_VIEW_DEG, width / height, near, far, kind)
        camera.look_at(target, eye, np.array(view["up"]))
        picture = renderer.render_to_image()
        if not o3d.io.write_image(str(Path(folder) / f"{index:05d}.png"), picture):
            print(f"cannot write to {folder}", file=sys.stderr)
            sys.exit(1)
        print("frame", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
