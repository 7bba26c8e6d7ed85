"""Intrinsics that a user gives: COLMAP's cameras.txt, or a JSON by name."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipelines.photos_scan import Photograph
from samfeat_hloc._pycolmap import make_camera, pycolmap
from samfeat_hloc.errors import InputError


def read_given(path: Path, photographs: Mapping[str, Photograph]) -> dict[str, pycolmap.Camera]:
    """Given intrinsics of photographs.

    A JSON file names its photographs. COLMAP's `cameras.txt` does not: an `images.txt` beside it does, else its only
    camera is that of all photographs, else each photograph has the only camera of its size.

    Raises:
        InputError: no such file, a damaged one, a camera of another size than its photograph, or no way to tell which
            camera a photograph has.
    """
    if not path.is_file():
        raise InputError(
            f"the cameras {path} do not exist; expected COLMAP's cameras.txt, or a JSON of intrinsics by name"
        )
    found = _read_json(path, photographs) if path.suffix.lower() == ".json" else _read_text(path, photographs)
    if not found:
        raise InputError(f"{path} has no camera of these photographs; the first is '{next(iter(photographs))}'")
    for name, camera in found.items():
        size = photographs[name].size
        if size != (camera.width, camera.height):
            raise InputError(
                f"{path}: the camera of {name} is {camera.width}x{camera.height}, the photograph {size[0]}x{size[1]} "
                "as stored; give intrinsics of these pixels"
            )
    return found


def _read_json(path: Path, photographs: Mapping[str, Photograph]) -> dict[str, pycolmap.Camera]:
    try:
        entries = json.loads(path.read_text())
        return {
            name: make_camera(
                {
                    "model": "PINHOLE",
                    "width": entry["width"],
                    "height": entry["height"],
                    "params": [entry[key] for key in ("fx", "fy", "cx", "cy")],
                }
            )
            for name, entry in entries.items()
            if name in photographs
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read ({error!r}); expected {{name: {{width, height, fx, fy, cx, cy}}}}"
        ) from None


def _read_text(path: Path, photographs: Mapping[str, Photograph]) -> dict[str, pycolmap.Camera]:
    listed: dict[int, pycolmap.Camera] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            listed[int(words[0])] = make_camera(
                {"model": words[1], "width": words[2], "height": words[3], "params": words[4:]}
            )
        except (IndexError, ValueError, InputError):
            raise InputError(f"{path}:{number}: '{line}' is no camera; expected ID MODEL WIDTH HEIGHT PARAMS") from None
    if not listed:
        raise InputError(f"{path} has no camera; expected lines of ID MODEL WIDTH HEIGHT PARAMS")
    images = path.with_name("images.txt")
    if images.is_file():
        return _by_images_file(images, listed, photographs)
    if len(listed) == 1:
        only = next(iter(listed.values()))
        return dict.fromkeys(photographs, only)
    by_size: dict[tuple[int, int], list[pycolmap.Camera]] = defaultdict(list)
    for camera in listed.values():
        by_size[camera.width, camera.height].append(camera)
    for name, photograph in photographs.items():
        if len(by_size[photograph.size]) != 1:
            raise InputError(
                f"{path} has {len(listed)} cameras, {len(by_size[photograph.size])} of them of the size of {name} "
                f"({photograph.width}x{photograph.height}); put COLMAP's images.txt beside it, or give a JSON by name"
            )
    return {name: by_size[photograph.size][0] for name, photograph in photographs.items()}


def _by_images_file(
    path: Path, listed: Mapping[int, pycolmap.Camera], photographs: Mapping[str, Photograph]
) -> dict[str, pycolmap.Camera]:
    """Every other line of images.txt is `IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME`, the next one its points."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = {}
    for line in lines[::2]:
        words = line.split()
        if len(words) >= 10 and words[9] in photographs:
            if not words[8].isdigit() or int(words[8]) not in listed:
                raise InputError(f"{path}: {words[9]} has camera {words[8]}, which cameras.txt has not")
            found[words[9]] = listed[int(words[8])]
    return found
