"""A town as training data: RGB-D frames of places by day and by night, in the layout of datasets/rgbd.py.

python -m datasets.town.frames OUT --seed 1000 --places 64

    frame-000000.color.jpg        place 0 by day
    frame-000001.color.jpg        place 0 by night: the same camera, its own frame with the same depth and pose
    frame-NNNNNN.depth.png        16-bit mm along the optical axis; 0 for sky and beyond 65 m
    frame-NNNNNN.instances.png    16-bit number of the object at each pixel, 0 for sky
    frame-NNNNNN.pose.txt         4x4 world_from_cam in metres
    camera-intrinsics.txt         one camera for all frames; the centre of the top-left pixel is (0, 0)
    town-frames.json              which town this is, and whether all frames are there
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.progress import progress

from .camera import Camera, Pose
from .placement import Shot, place_shots
from .render import Town, build_town, photograph, render_view

EVALUATED_SEEDS = (0, 1, 2)
"""Towns that figures are published of."""
CAMERA = Camera(640, 480, 525.0)
FARTHEST_M = 65.0
"""Depth is kept up to here: 16 bits hold 65.5 m."""
JPEG_QUALITY = 92
PLACES = 64
MANIFEST = "town-frames.json"


def write_frames(output: Path | str, seed: int, places: int = PLACES, detail: float = 1.0, threads: int = 2) -> Path:
    """Render the town of a seed; a folder that holds it is left as it is, and a killed run goes on where it was.

    Args:
        output: folder to fill.
        seed: of the town; not one of EVALUATED_SEEDS.
        places: each is photographed by day and by night.
        detail: scales the resolution of the textures.
        threads: frames rendered at a time.

    Returns:
        the folder.

    Raises:
        ConfigError: a town that is evaluated, or no place.
        InputError: the folder holds another town, or the town has no room for so many places.
    """
    output = Path(output)
    check_seed(seed)
    if places < 1:
        raise ConfigError(f"places is {places}; expected at least 1")
    wanted = {"seed": seed, "places": places, "detail": detail}
    found = read_manifest(output)
    if found is not None and {key: found[key] for key in wanted} != wanted:
        raise InputError(f"{output} holds another town ({found}); give another folder, or remove it")
    if found is not None and found["finished"]:
        return output
    _write_manifest(output, {**wanted, "finished": False})
    _write_text(output / "camera-intrinsics.txt", _lines(intrinsics(CAMERA)))
    town = build_town(seed, detail)
    shots, _, _ = place_shots(town, places, 0, 0)
    with ThreadPoolExecutor(threads) as pool:
        jobs = pool.map(lambda index: _write_place(town, shots[index], index, output), range(places))
        for _ in progress(jobs, total=places, desc=f"town {seed}", unit="place"):
            pass
    _write_manifest(output, {**wanted, "finished": True})
    return output


def check_seed(seed: int) -> None:
    """Raise ConfigError for a town that is evaluated: figures on what was trained on say nothing."""
    if seed in EVALUATED_SEEDS or seed < 0:
        evaluated = ", ".join(str(number) for number in EVALUATED_SEEDS)
        raise ConfigError(f"seed is {seed}; the towns {evaluated} are for evaluation, train on a larger seed")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Seed, places and detail of a folder's town and whether it is finished; None when it holds none.

    Raises:
        InputError: a damaged manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        if not {"seed", "places", "detail", "finished"} <= manifest.keys():
            raise ValueError("a key is missing")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove the folder and render the town again") from None
    return manifest


def intrinsics(camera: Camera) -> npt.NDArray[np.float64]:
    """(3, 3) for pixels whose top-left centre is (0, 0); the renderer has it at (0.5, 0.5)."""
    matrix = camera.matrix.copy()
    matrix[:2, 2] -= 0.5
    return matrix


def _write_place(town: Town, shot: Shot, index: int, output: Path) -> None:
    """The day and the night frame of a place; the pose is written last and says that a frame is whole."""
    day, night = (output / f"frame-{2 * index + offset:06d}" for offset in (0, 1))
    if all(_named(frame, ".pose.txt").is_file() for frame in (day, night)):
        return
    rng = np.random.default_rng([town.seed, 7011, index])
    sunshine = float(rng.choice([1.0, 0.85, 0.4, 0.1], p=[0.5, 0.2, 0.15, 0.15]))
    view = render_view(town, CAMERA, shot.cam_from_world, False, 2 * index, sunshine)
    dark = photograph(town, CAMERA, shot.cam_from_world, True, 2 * index + 1)
    millimetres = np.where(view.depth_m <= FARTHEST_M, np.round(view.depth_m * 1000), 0).astype(np.uint16)
    for frame, image in ((day, view.image), (night, dark)):
        colour = np.ascontiguousarray(image[:, :, ::-1])
        _write_image(_named(frame, ".color.jpg"), colour, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        _write_image(_named(frame, ".depth.png"), millimetres)
        _write_image(_named(frame, ".instances.png"), view.instances.astype(np.uint16))
        _write_text(_named(frame, ".pose.txt"), _lines(_world_from_cam(shot.cam_from_world)))


def _named(frame: Path, suffix: str) -> Path:
    return frame.with_name(frame.name + suffix)


def _world_from_cam(pose: Pose) -> npt.NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation.T, pose.centre
    return matrix


def _lines(matrix: npt.NDArray[np.float64]) -> str:
    return "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in matrix)


def _write_image(path: Path, image: npt.NDArray[Any], options: list[int] | None = None) -> None:
    done, data = cv2.imencode(path.suffix, image, options or [])
    if not done:
        raise OSError(f"{path}: OpenCV could not encode the image")
    with replace_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _write_text(path: Path, text: str) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(text)


def _write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    _write_text(output / MANIFEST, json.dumps(manifest) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.town.frames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, help="folder to fill")
    parser.add_argument("--seed", type=int, default=1000, help="another seed is another town (default: %(default)s)")
    parser.add_argument("--places", type=int, default=PLACES, help="two frames each (default: %(default)s)")
    parser.add_argument("--detail", type=float, default=1.0, help="of the textures (default: %(default)s)")
    given = parser.parse_args()
    print(write_frames(given.output, given.seed, given.places, given.detail))


if __name__ == "__main__":
    run_cli(main)
