"""The camera of each photograph: from EXIF, from COLMAP's table of sensors, guessed, or given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.photos_intrinsics import read_given
from pipelines.photos_scan import Photograph
from samfeat_hloc._pycolmap import pycolmap, quiet
from samfeat_hloc.errors import ConfigError, InputError

CAMERA_MODES = ("auto", "single", "per-folder", "per-image")
CAMERA_MODELS = tuple(sorted(set(pycolmap.CameraModelId.__members__) - {"INVALID"}))
DEFAULT_MODEL = "SIMPLE_RADIAL"
FOCAL_RATIOS = (0.1, 10.0)
"""Least and largest focal length over the longer side; COLMAP's mapper throws out what is beyond."""


@dataclass
class Cameras:
    """The cameras of a folder's photographs.

    Attributes:
        of_image: photograph -> camera; those with one `camera_id` share it.
        source: camera id -> where its focal length is from: `exif`, `guess` or `given`.
        fixed: ids of given cameras, whose intrinsics stay as they are.
    """

    of_image: dict[str, pycolmap.Camera] = field(default_factory=dict)
    source: dict[int, str] = field(default_factory=dict)
    fixed: frozenset[int] = frozenset()

    @property
    def unique(self) -> list[pycolmap.Camera]:
        """Each camera once, by id."""
        return [camera for _, camera in sorted({c.camera_id: c for c in self.of_image.values()}.items())]

    def count(self, source: str) -> int:
        """Number of cameras with a focal length from this source."""
        return sum(found == source for found in self.source.values())


def choose_cameras(
    root: Path,
    photographs: Mapping[str, Photograph],
    mode: str = "auto",
    model: str = DEFAULT_MODEL,
    given: Path | None = None,
    refine_given: bool = False,
) -> Cameras:
    """One camera for each group of photographs.

    Args:
        root: folder of the photographs.
        photographs: by name.
        mode: `auto`: photographs of one size with the same EXIF (make, model, lens, focal length) share a camera; those
            without EXIF share one when all such photographs of their folder have one size (frames of a video), and
            have one each when sizes are mixed (collected from many people). `single`, `per-folder`, `per-image`.
        model: COLMAP's camera model.
        given: intrinsics: `cameras.txt` of COLMAP, or a JSON of `{name: {"width", "height", "fx", "fy", "cx", "cy"}}`.
            Photographs it does not have get theirs as above.
        refine_given: let the mapper change given intrinsics.

    Raises:
        InputError: photographs of different size were to share a camera, or given cameras that do not fit.
        ConfigError: no such mode or model.
    """
    if mode not in CAMERA_MODES:
        raise ConfigError(f"there is no camera mode '{mode}'; expected one of {', '.join(CAMERA_MODES)}")
    if model not in CAMERA_MODELS:
        raise ConfigError(f"there is no camera model '{model}'; expected one of {', '.join(CAMERA_MODELS)}")
    known = {} if given is None else read_given(given, photographs)
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, key in _group_keys(photographs, mode).items():
        if name in known:
            camera = known[name]
            key = ("given", camera.model_name, camera.width, camera.height, *camera.params)
        groups[key].append(name)
    cameras = Cameras()
    fixed = set()
    for number, (key, names) in enumerate(groups.items(), 1):
        first = photographs[names[0]]
        odd = next((name for name in names if photographs[name].size != first.size), None)
        if odd is not None:
            raise InputError(
                f"{odd} is {photographs[odd].width}x{photographs[odd].height} and {first.name} {first.width}x"
                f"{first.height}: they cannot share a camera; use --camera-mode auto"
            )
        if key[0] == "given":
            camera, source = known[names[0]], "given"
            camera.has_prior_focal_length = True
            fixed.add(number)
        else:
            camera, source = _from_exif(root, first, model)
        camera.camera_id = number
        cameras.source[number] = source
        cameras.of_image |= dict.fromkeys(names, camera)
    cameras.fixed = frozenset() if refine_given else frozenset(fixed)
    cameras.of_image = {name: cameras.of_image[name] for name in photographs}
    return cameras


def _group_keys(photographs: Mapping[str, Photograph], mode: str) -> dict[str, tuple[Any, ...]]:
    """Photographs with one key share a camera."""
    sizes: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for name, photograph in photographs.items():
        if photograph.device is None:
            sizes[_folder(name)].add(photograph.size)
    keys: dict[str, tuple[Any, ...]] = {}
    for name, photograph in photographs.items():
        if mode == "single":
            keys[name] = ("single",)
        elif mode == "per-folder":
            keys[name] = ("folder", _folder(name))
        elif mode == "per-image":
            keys[name] = ("image", name)
        elif photograph.device is not None:
            keys[name] = ("exif", photograph.size, photograph.device)
        elif len(sizes[_folder(name)]) == 1:
            keys[name] = ("folder", _folder(name))
        else:
            keys[name] = ("image", name)
    return keys


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _from_exif(root: Path, photograph: Photograph, model: str) -> tuple[pycolmap.Camera, str]:
    """COLMAP's camera: focal length in 35 mm, or in mm with the sensor's width from its table, or a guess."""
    options = pycolmap.ImageReaderOptions()
    options.camera_model = model
    focal, known = options.default_focal_length_factor * max(photograph.size), False
    try:
        with quiet():
            inferred = pycolmap.infer_camera_from_image(root / photograph.name, options)
        low, high = (ratio * max(photograph.size) for ratio in FOCAL_RATIOS)
        if inferred.has_prior_focal_length and low <= inferred.mean_focal_length() <= high:
            focal, known = inferred.mean_focal_length(), True
    except (RuntimeError, ValueError):
        pass  # COLMAP reads fewer formats than Pillow; and extraction tells what is damaged
    camera = pycolmap.Camera.create_from_model_name(0, model, focal, photograph.width, photograph.height)
    camera.has_prior_focal_length = known
    return camera, "exif" if known else "guess"
