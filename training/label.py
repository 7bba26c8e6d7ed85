"""Keypoint targets for a folder of photographs: points that are found again when the photograph is warped.

    python -m training.label --images DIR --output labels.h5                     repeatable corners
    python -m training.label --images DIR --output labels.h5 --weights FILE      self-labelling with these weights

labels.h5 is in hloc's layout, one group per image name relative to DIR: `keypoints` (K, 2) float32 x, y in the file's
stored pixels, best first; `scores` (K,) float32, the share of the views showing a point that found it; `image_size`.
Resumable: every finished photograph is safe at once; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.formats.h5store import ResumableH5, open_h5
from samfeat_hloc.formats.journal import Record
from samfeat_hloc.images import RGBImage, read_ahead, stored_size, to_stored_pixels
from samfeat_hloc.precision import Precision, Runtime, choose_runtime
from samfeat_hloc.progress import progress
from training.adaptation import AdaptationConfig, Finder, repeatable_points
from training.corners import find_corners
from training.detector import THRESHOLD, Detector
from training.sources.photos import SUFFIXES, list_photos
from training.sources.views import MIN_SIDE, reduce_image, rescale

logger = logging.getLogger(__name__)
METHODS = ("corners", "detector")
READERS = 2


def label(
    image_dir: Path | str,
    output: Path | str,
    method: str | None = None,
    weights: str | None = None,
    config: AdaptationConfig | None = None,
    threshold: float = THRESHOLD,
    max_side: int = 512,
    device: str | None = None,
    precision: Precision = "auto",
    overwrite: bool = False,
) -> Path:
    """Write keypoint targets of every photograph below a folder.

    An unreadable photograph, or one with a side below `training.sources.views.MIN_SIDE`, is left out, counted, and
    listed with the reason in `OUTPUT.skipped.json`; the rest completes.

    Args:
        image_dir: searched recursively, for the files that training takes for photographs.
        output: the h5 file.
        method: "corners" (of `training.corners`) or "detector" (self-labelling); None: detector when there are weights.
        weights: of the detector; None with method "detector": the shipped default.
        config: of the homographic adaptation.
        threshold: of the detector, see `Detector`.
        max_side: larger photographs are reduced to this long side, as in training; keypoints are in the file's pixels.
        device: cpu, cuda, cuda:N; None: CUDA where there is one.
        precision: of the network.
        overwrite: replace the output; it stays as it is until the new one is complete.

    Returns:
        the output file.

    Raises:
        InputError: no photograph, none readable, one that changed since it was labelled, bad weights, or an output that
            was made with other settings.
        ConfigError: an unknown method, a precision that is not for labels, or a value out of range.
    """
    root, path, config = Path(image_dir), Path(output), config or AdaptationConfig()
    method = method or ("corners" if weights is None else "detector")
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if method == "corners" and weights is not None:
        raise ConfigError("method 'corners' uses no weights; leave them out, or ask for method 'detector'")
    if max_side < MIN_SIDE or not 0 < threshold < 1:
        raise ConfigError(f"max_side is {max_side}, threshold {threshold}; expected >= {MIN_SIDE} and within (0, 1)")
    if precision == "int8":
        raise ConfigError("labels are not made in 8 bits; choose float32, bfloat16, float16 or auto")
    names = photo_names(root)
    runtime = choose_runtime(device, precision)
    conf: dict[str, Any] = {"name": method, "max_side": max_side, **asdict(config)}
    del conf["at_once"]
    find: Finder = find_corners
    sha256 = ""
    if method == "detector":
        find = detector = Detector(weights, runtime, threshold)
        sha256 = detector.sha256
        conf |= {"threshold": threshold, "precision": precision}
    signature = {"kind": "keypoint_labels", "conf": conf, "weights_sha256": sha256}
    skipped: dict[str, str] = {}
    with ResumableH5(path, signature, overwrite=overwrite) as writer:
        if not overwrite:
            _check_unchanged(path, root, names)
        todo = [name for name in names if name not in writer.done]
        if len(todo) < len(names):
            logger.info("%s has %d of %d photographs already", path, len(names) - len(todo), len(names))
        items = read_ahead(root, todo, workers=READERS, ahead=2 * READERS)
        for name, image, orientation, reason in progress(items, total=len(todo), desc="labels", unit="photo"):
            if image is None or min(image.shape[:2]) < MIN_SIDE:
                skipped[name] = reason or f"{root / name} has a side below {MIN_SIDE} px"
                continue
            keypoints, scores = label_image(image, find, config, runtime, max_side)
            width, height = stored_size((image.shape[1], image.shape[0]), orientation)
            arrays: dict[str, npt.NDArray[Any]] = {
                "keypoints": to_stored_pixels(keypoints, orientation, width, height),
                "scores": scores,
                "image_size": np.array([width, height], np.int32),
            }
            attrs = {"exif_orientation": orientation, "source_bytes": (root / name).stat().st_size}
            writer.add(Record(name, arrays, {"": attrs}))
        _report_skipped(path, len(names), skipped)
    return path


def label_image(
    image: RGBImage, find: Finder, config: AdaptationConfig, runtime: Runtime, max_side: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Repeatable points (K, 2) of one (H, W, 3) uint8 RGB image, in its pixels, and their scores (K,)."""
    reduced = reduce_image(image, max_side)  # what training sees, to the pixel
    photo = torch.from_numpy(reduced.copy()).to(runtime.device).permute(2, 0, 1).float() / 255
    points, scores = repeatable_points(photo, find, config)
    sizes = [(picture.shape[1], picture.shape[0]) for picture in (reduced, image)]
    return rescale(points.cpu().numpy(), *sizes).astype(np.float32), scores.cpu().numpy().astype(np.float32)


def photo_names(root: Path) -> list[str]:
    """Names, relative to `root`, of the files that training takes for photographs, sorted.

    Raises:
        InputError: no such folder, or no photograph in it.
    """
    if not root.is_dir():
        raise InputError(f"the image folder {root} does not exist; check the path")
    names = [path.relative_to(root).as_posix() for path in list_photos(root) if path.is_file()]
    if not names:
        raise InputError(f"{root} has no photograph ({', '.join(sorted(SUFFIXES))}); check the folder")
    return names


def _check_unchanged(path: Path, root: Path, names: Sequence[str]) -> None:
    """Labels of a photograph that was replaced since are not silently kept."""
    if not path.exists():
        return
    with open_h5(path) as file:
        for name in names:
            if name in file and file[name].attrs.get("source_bytes") != (root / name).stat().st_size:
                raise InputError(
                    f"{root / name} is another file than the one whose labels are in {path}; give another output path, "
                    "or --overwrite to replace it"
                )


def _report_skipped(path: Path, total: int, skipped: dict[str, str]) -> None:
    """Write OUTPUT.skipped.json and warn; refuse a run in which nothing could be read."""
    report = path.with_suffix(".skipped.json")
    report.unlink(missing_ok=True)
    if not skipped:
        return
    rows = [{"name": name, "reason": reason} for name, reason in skipped.items()]
    with replace_file(report) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")
    first = rows[0]["reason"]
    if len(skipped) == total:
        raise InputError(f"none of the {total} photographs could be labelled; the first: {first}")
    logger.warning("warning: left out %d photographs, listed in %s; first: %s", len(skipped), report, first)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = AdaptationConfig()
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs, searched recursively")
    parser.add_argument("--output", type=Path, required=True, help="the h5 file")
    parser.add_argument("--method", choices=METHODS, help="default: detector when --weights is given, else corners")
    parser.add_argument("--weights", help="name of shipped weights, or a checkpoint")
    parser.add_argument("--views", type=int, default=default.views, help="warped views of a photograph")
    parser.add_argument("--min-agreement", type=float, default=default.min_agreement, help="share of the views")
    parser.add_argument("--max-keypoints", type=int, default=default.max_keypoints)
    parser.add_argument("--seed", type=int, default=default.seed, help="of the homographies")
    parser.add_argument("--at-once", type=int, default=default.at_once, help="views on the device at a time")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="least keypoint probability (detector)")
    parser.add_argument("--max-side", type=int, default=512, help="photographs are reduced to it, as in training")
    parser.add_argument("--device", help="cpu, cuda, cuda:N; default: CUDA where there is one")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--overwrite", action="store_true", help="replace the output file")
    args = parser.parse_args()
    settings = {f.name: getattr(args, f.name) for f in fields(AdaptationConfig) if hasattr(args, f.name)}
    print(
        label(
            args.images, args.output, args.method, args.weights, AdaptationConfig(**settings), args.threshold,
            args.max_side, args.device, args.precision, args.overwrite,
        )
    )  # fmt: skip


if __name__ == "__main__":
    run_cli(main)
