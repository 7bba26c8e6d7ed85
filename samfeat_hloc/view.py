"""``python -m samfeat_hloc.view MODEL``: look at a model in a window, as pictures, or as one page for any browser.

MODEL is the folder of a COLMAP model or of a map. With none of --screenshot, --turntable and --html a window opens.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from samfeat_hloc.errors import ConfigError, InputError, run_cli

GENERIC = ("map", "sfm", "model", "sparse", "0")
RENDERERS = ("auto", "open3d", "numpy")


def main(
    model: Path | str,
    *,
    images: Path | str | None = None,
    cameras: bool = False,
    queries: Path | str | None = None,
    trajectory: bool = False,
    cloud: Path | str | None = None,
    screenshot: Path | str | None = None,
    turntable: Path | str | None = None,
    html: Path | str | None = None,
    renderer: str = "auto",
    size: tuple[int, int] = (1280, 960),
    frames: int = 48,
) -> None:
    """Show a model.

    Args:
        model: folder of a COLMAP model or of a map.
        images: folder of the photographs.
        cameras: draw the model's cameras in pictures; window and page have them anyway.
        queries: pose file of localized photographs.
        trajectory: connect the photographs of one folder in the order of their names.
        cloud: PLY file of a dense cloud in the model's coordinates.
        screenshot: write a picture (.png or .jpg).
        turntable: write an animated GIF that goes round the model.
        html: write a page.
        renderer: what draws pictures: ``open3d``, ``numpy`` (our own), or ``auto``: Open3D where it works.
        size: width and height of pictures in pixels; a turntable has half of each.
        frames: of the turntable.

    Raises:
        InputError: a bad file.
        ConfigError: a bad option.
        MissingDependencyError: Open3D is needed, and does not work here; says what to install.
    """
    from samfeat_hloc._pycolmap import read_model
    from samfeat_hloc.viewing.model_scene import model_folder, scene_from_model

    if renderer not in RENDERERS:
        raise ConfigError(f"the renderer '{renderer}' is unknown; expected one of {', '.join(RENDERERS)}")
    if min(size) < 16 or max(size) > 8192 or not 2 <= frames <= 720:
        raise ConfigError(
            f"size {size} or {frames} frames is out of range; expected 16 to 8192 pixels, 2 to 720 frames"
        )
    if images is not None and not Path(images).is_dir():
        raise InputError(f"the image folder {images} does not exist; check --images")
    folder = model_folder(model)
    scene = scene_from_model(
        read_model(folder),
        title=_title(Path(model)),
        images=images,
        queries=queries,
        trajectory=trajectory,
        cloud=cloud,
    )
    if html is not None:
        from samfeat_hloc.viewing.html import write_page

        write_page(html, scene, images)
        print(f"{html}: {Path(html).stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    if screenshot is not None or turntable is not None:
        from samfeat_hloc.viewing.render import render

        used = render(scene, screenshot, turntable, cameras=cameras, size=size, frames=frames, renderer=renderer)
        drawn = ", ".join(str(path) for path in (screenshot, turntable) if path is not None)
        print(f"{drawn}: drawn with {used}", file=sys.stderr)
    if html is None and screenshot is None and turntable is None:
        from samfeat_hloc.viewing.window import open_window

        open_window(scene, images)


def _title(path: Path) -> str:
    """The folder's name, after that of the folder above where it alone says little."""
    path = path.resolve()
    return f"{path.parent.name}/{path.name}" if path.name in GENERIC else path.name


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT")
    return int(match[1]), int(match[2])


def _cli() -> None:
    parser = argparse.ArgumentParser(prog="python -m samfeat_hloc.view", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a COLMAP model or of a map")
    parser.add_argument("--images", type=Path, help="folder of the photographs")
    parser.add_argument("--cameras", action="store_true", help="draw the cameras in pictures (window, page: always)")
    parser.add_argument("--queries", type=Path, metavar="POSES", help="poses of localized photographs")
    parser.add_argument("--trajectory", action="store_true", help="connect photographs in the order of their names")
    parser.add_argument("--cloud", type=Path, metavar="PLY", help="dense cloud in the model's coordinates")
    parser.add_argument("--screenshot", type=Path, metavar="PNG", help="write a picture")
    parser.add_argument("--turntable", type=Path, metavar="GIF", help="write an animation that goes round the model")
    parser.add_argument("--html", type=Path, metavar="HTML", help="write one page that opens in any browser")
    parser.add_argument("--renderer", choices=RENDERERS, default="auto", help="what draws the pictures")
    parser.add_argument("--size", type=_size, default=(1280, 960), metavar="WxH", help="of pictures, in pixels")
    parser.add_argument("--frames", type=int, default=48, help="of the turntable")
    main(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_cli(_cli)
