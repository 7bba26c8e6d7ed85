"""Write a town as a dataset in the layout of Aachen Day-Night, as it is downloaded."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.progress import progress

from .camera import Camera
from .placement import Shot, place_shots
from .reference import build_model, write_colmap, write_nvm
from .render import Town, View, build_town, photograph, render_view

VERSIONS = ("v1.1", "v1.0")
JPEG_QUALITY = 93
DONE = "town.json"
"""Says which town a folder holds; written last."""
RENDERING = ".rendering"
"""What an unfinished folder keeps of finished views, so that a killed run goes on."""


def write_town(
    output: Path | str,
    seed: int = 0,
    version: str = "v1.1",
    database: int = 64,
    day: int = 20,
    night: int = 20,
    threads: int = 2,
    detail: float = 1.0,
) -> Path:
    """Render the town of a seed into output and return it.

    Images go to images_upright, query lists to queries, the reference model to 3D-models, poses to ground_truth.txt
    (name qw qx qy qz tx ty tz, cam_from_world, metres). The same arguments give the same bytes. A folder that holds
    this town already is left as it is, and a run that was killed goes on where it was.

    Raises:
        ConfigError: a version other than "v1.1" and "v1.0".
        InputError: the folder holds another town, or (`placement.NoPlaceError`) there is no room for so many cameras.
    """
    check_version(version)
    signature = _signature(seed, detail, version, database, day, night)
    done = Path(output) / DONE
    if done.is_file():
        if json.loads(done.read_text()) != signature:
            raise InputError(f"{output} holds another town ({done}); give another folder, or remove it")
        return Path(output)
    with _single_threaded_opencv():
        return write(build_town(seed, detail), output, version, database, day, night, threads, detail)


def _signature(seed: int, detail: float, version: str, database: int, day: int, night: int) -> dict[str, object]:
    counts = {"database": database, "day": day, "night": night}
    return {"seed": seed, "detail": detail, "version": version, **counts}


def check_version(version: str) -> None:
    """Raise ConfigError for a layout that is not one of VERSIONS."""
    if version not in VERSIONS:
        raise ConfigError(f"version is {version!r}; the town is written as one of {', '.join(VERSIONS)}")


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """The threads here are enough: OpenCV's own would only wait for each other."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def write(
    town: Town,
    output: Path | str,
    version: str,
    database: int,
    day: int,
    night: int,
    threads: int = 2,
    detail: float = 1.0,
) -> Path:
    """Photograph a town that is already built; arguments and errors as for write_town."""
    check_version(version)
    output = Path(output)
    signature = _signature(town.seed, detail, version, database, day, night)
    rendering = _open_rendering(output / RENDERING, signature)
    database_shots, day_shots, night_shots = place_shots(town, database, day, night)
    views = list(_take(town, database_shots, output / "images_upright", threads, rendering))
    list(_take(town, day_shots + night_shots, output / "images_upright", threads, None))
    queries = output / "queries"
    queries.mkdir(parents=True, exist_ok=True)
    _write_intrinsics(queries / "day_time_queries_with_intrinsics.txt", day_shots)
    _write_intrinsics(queries / "night_time_queries_with_intrinsics.txt", night_shots)
    _write_poses(output / "ground_truth.txt", day_shots + night_shots)
    model = build_model(database_shots, [v for v in views if v is not None])
    if version == "v1.1":
        write_colmap(model, database_shots, output / "3D-models" / "aachen_v_1_1")
    else:
        (output / "3D-models").mkdir(parents=True, exist_ok=True)
        write_nvm(model, database_shots, output / "3D-models" / "aachen_cvpr2018_db.nvm")
        _write_intrinsics(output / "3D-models" / "database_intrinsics.txt", database_shots)
    with replace_file(output / DONE) as path:
        path.write_text(json.dumps(signature))
    shutil.rmtree(rendering)
    return output


def _open_rendering(folder: Path, signature: dict[str, object]) -> Path:
    """The folder of finished views; emptied, with the photographs, when it belongs to another town."""
    listing = folder / DONE
    if not listing.is_file() or json.loads(listing.read_text()) != signature:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.parent / "images_upright", ignore_errors=True)
        folder.mkdir(parents=True)
        with replace_file(listing) as path:
            path.write_text(json.dumps(signature))
    return folder


def _take(town: Town, shots: list[Shot], folder: Path, threads: int, rendering: Path | None) -> Iterator[View | None]:
    """Render and write shots in order; with `rendering`, where views are kept, give the views back."""
    for name in sorted({str((folder / s.name).parent) for s in shots}):
        Path(name).mkdir(parents=True, exist_ok=True)

    def one(shot: Shot) -> View | None:
        target = folder / shot.name
        kept = None if rendering is None else rendering / f"{target.stem}.npz"
        if target.is_file() and (kept is None or kept.is_file()):
            return None if kept is None else _load_view(kept)
        arguments = (town, shot.camera, shot.cam_from_world, shot.night, shot.seed, shot.sunshine)
        view = None if kept is None else render_view(*arguments)
        if view is not None and kept is not None:
            with replace_file(kept) as path, path.open("wb") as stream:
                np.savez(stream, **vars(view))
        with replace_file(target) as path:
            path.write_bytes(_jpeg(shot, photograph(*arguments) if view is None else view.image))
        return view

    with ThreadPoolExecutor(threads) as pool:
        yield from progress(pool.map(one, shots), total=len(shots), desc="town", unit="photograph")


def _load_view(path: Path) -> View:
    with np.load(path) as arrays:
        return View(**arrays)


def _jpeg(shot: Shot, image: NDArray[np.uint8]) -> bytes:
    quality = JPEG_QUALITY - 3 if shot.night else JPEG_QUALITY
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError(f"{shot.name}: OpenCV could not encode the image as JPEG")
    return bytes(data.tobytes())


def _write_intrinsics(path: Path, shots: list[Shot]) -> None:
    path.write_text("".join(f"{s.name} {_intrinsics(s.camera)}\n" for s in shots), encoding="utf-8")


def _intrinsics(camera: Camera) -> str:
    cx, cy = camera.centre
    return f"SIMPLE_RADIAL {camera.width} {camera.height} {camera.focal:g} {cx:g} {cy:g} 0"


def _write_poses(path: Path, shots: list[Shot]) -> None:
    lines = ["# name qw qx qy qz tx ty tz (cam_from_world, metres)"]
    for shot in shots:
        numbers = [*shot.cam_from_world.quaternion, *shot.cam_from_world.translation]
        lines.append(f"{shot.name} " + " ".join(f"{x:.12g}" for x in numbers))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
