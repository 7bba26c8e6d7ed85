"""How good are models made from photographs alone? Counts, and camera positions against the truth where there is one.

    python -m benchmarks.reconstruction sacre_coeur fountain herz_jesus --data ../shared/data

Runs `pipelines.photos` with SAMFeat and SIFT and with COLMAP's incremental and global mapper, all in one go, and writes
benchmarks/results/reconstruction-SET.json with the commands. Strecha's scenes are mapped with intrinsics unknown (the
photographs have no EXIF and one size, so that they share a camera, whose focal length starts from COLMAP's guess) and
with the known ones, which stay fixed. SAMFeat is matched as the pipeline does by default, by mutual neighbours or, with
known intrinsics, with the ratio test that SIFT has, and once more the other way. Positions are compared after the
similarity transform that fits the true ones best (least squares over all registered cameras).
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.photos import parse
from pipelines.photos_options import Options
from pipelines.photos_run import matcher_of, run
from samfeat_hloc._pycolmap import FloatArray, pycolmap, read_model
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError, run_cli

STATISTICS = ("images", "points", "mean_track_length", "mean_reprojection_error_px", "pairs", "verified", "inliers")


@dataclass(frozen=True)
class Variant:
    """One way to run a set.

    Attributes:
        name: of the variant.
        arguments: further ones of pipelines.photos; {truth} is the file of true cameras.
        features: kinds it is run with; None: all that were asked for.
    """

    name: str = "unknown"
    arguments: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PhotoSet:
    """One set of photographs.

    Attributes:
        photographs: their folder below the data.
        truth: file of true cameras below the data: Strecha's cameras.json, or a COLMAP model's folder.
        variants: how it is run.
        note: what a reader of the figures must know.
    """

    photographs: str
    truth: str = ""
    variants: tuple[Variant, ...] = (Variant(),)
    note: str = ""


CAMERAS = ("--cameras", "{truth}")
KNOWN = (
    Variant(),
    Variant("known", CAMERAS),
    Variant("known, mutual neighbours", (*CAMERAS, "--matcher", "nn-mutual"), ("samfeat",)),
)
SETS = {
    "sacre_coeur": PhotoSet(
        "sacre_coeur",
        variants=(Variant(), Variant("unknown, ratio test", ("--matcher", "nn-ratio"), ("samfeat",))),
    ),
    "fountain": PhotoSet("strecha/fountain-P11/images", "strecha/fountain-P11/cameras.json", KNOWN),
    "herz_jesus": PhotoSet("strecha/Herz-Jesus-P8/images", "strecha/Herz-Jesus-P8/cameras.json", KNOWN),
    "south_building": PhotoSet(
        "south_building/images_upright/db",
        "south_building/3D-models/aachen_v_1_1",
        variants=(Variant(arguments=("--max-keypoints", "2048", "--num-retrieved", "15", "--num-neighbours", "5")),),
        note="The truth is a SIFT model by COLMAP at full resolution; its metre is nominal. Shares are of the longest "
        "extent of the camera path, which is shorter than the path.",
    ),
}


def true_centres(path: Path, photographs: str) -> dict[str, FloatArray]:
    """Photograph -> true camera centre in metres.

    Raises:
        InputError: no such file.
    """
    if path.is_dir():
        folder = photographs.rpartition("/")[2]
        images = read_model(path).images.values()
        return {image.name.removeprefix(f"{folder}/"): image.projection_center() for image in images if image.has_pose}
    if not path.is_file():
        raise InputError(f"the true cameras {path} do not exist; check --data")
    return {name: np.array(entry["camera_center_m"]) for name, entry in json.loads(path.read_text()).items()}


def position_errors(model: pycolmap.Reconstruction, truth: Mapping[str, FloatArray]) -> dict[str, float]:
    """Photograph -> distance of its camera to the true place, after alignment by the best similarity.

    Raises:
        InputError: fewer than three photographs of the model have a true place.
    """
    found = {image.name: image.projection_center() for image in model.images.values() if image.has_pose}
    names = sorted(found.keys() & truth.keys())
    if len(names) < 3:
        raise InputError(f"{len(names)} photographs of the model have a true place; an alignment needs 3")
    source, target = (np.stack([table[name] for name in names]) for table in (found, truth))
    aligned = pycolmap.estimate_sim3d(source, target)
    if aligned is None:
        raise InputError(
            f"the places of {len(names)} cameras cannot be aligned with the true ones: they are on one line"
        )
    errors = np.linalg.norm([aligned * centre for centre in source] - target, axis=1)
    return dict(zip(names, map(float, errors), strict=True))


def measure(
    name: str, data: Path, outputs: Path, features: Sequence[str], mappers: Sequence[str], extra: Sequence[str]
) -> dict[str, Any]:
    """Run one set with all its variants; the rows of its table."""
    chosen = SETS[name]
    rows, commands = [], []
    first: tuple[Path, Options] | None = None
    for variant in chosen.variants:
        out = outputs / name / re.sub(r"\W+", "-", variant.name)
        kinds = [kind for kind in features if variant.features is None or kind in variant.features]
        if not kinds:
            continue
        words = [str(data / chosen.photographs), "--outputs", str(out), "--features", *kinds, "--mapper", *mappers]
        words += [word.format(truth=data / chosen.truth) for word in variant.arguments] + list(extra)
        commands.append(shlex.join(["python", "-m", "pipelines.photos", *words]))
        given = parse(words)
        first = first or (out, given)
        for kind in kinds:
            _share_features(first[0] / kind, out / kind, matcher_of(first[1], kind) == matcher_of(given, kind))
        report = run(given)
        for found in report["runs"]:
            row = {"intrinsics": variant.name, **{key: found[key] for key in ("features", "matcher", "mapper")}}
            row |= {key: found["statistics"].get(key) for key in STATISTICS}
            row |= {"models": [model["images"] for model in found["models"]], "stages": found["stages"]}
            if chosen.truth and found["models"]:
                truth = true_centres(data / chosen.truth, chosen.photographs)
                row |= _accuracy(read_model(out / found["model"]), truth)
            rows.append(row)
    return {
        "set": name,
        "photographs": report["photographs"]["found"],
        "note": chosen.note,
        "commands": commands,
        "rows": rows,
    }


def _accuracy(model: pycolmap.Reconstruction, truth: Mapping[str, FloatArray]) -> dict[str, Any]:
    errors = position_errors(model, truth)
    values = np.array(list(errors.values()))
    places = np.stack(list(truth.values()))
    extent = float(np.linalg.norm(places[:, None] - places[None], axis=2).max())
    return {
        "median_m": round(float(np.median(values)), 5),
        "max_m": round(float(values.max()), 5),
        "median_share_of_extent": round(float(np.median(values)) / extent, 7),
        "errors_m": {name: round(error, 5) for name, error in errors.items()},
    }


def _share_features(source: Path, target: Path, with_matches: bool) -> None:
    """Features do not depend on the cameras, nor matches by the same matcher: a variant takes the first one's."""
    for name in ("features.h5", "matches.h5") if with_matches else ("features.h5",):
        if (source / name).is_file() and not (target / name).exists():
            with replace_file(target / name) as temporary:
                shutil.copyfile(source / name, temporary)


def table(result: Mapping[str, Any]) -> str:
    """The rows of a set as text."""
    heads = (
        "intrinsics",
        "features",
        "mapper",
        "images",
        "points",
        "track",
        "error px",
        "map s",
        "median cm",
        "max cm",
    )
    rows = [heads]
    for row in result["rows"]:
        seconds = row["stages"].get(f"mapping ({row['mapper']})", {}).get("seconds", float("nan"))
        counts = [row["intrinsics"], row["features"], row["mapper"], f"{row['images'] or 0} of {result['photographs']}"]
        sizes = [str(row["points"]), str(row["mean_track_length"]), str(row["mean_reprojection_error_px"])]
        places = [f"{100 * row[key]:.2f}" if key in row else "-" for key in ("median_m", "max_m")]
        rows.append((*counts, *sizes, f"{seconds:.1f}", *places))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconstruction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", nargs="+", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/reconstruction"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of the JSON files")
    parser.add_argument("--features", nargs="+", default=["samfeat", "sift"])
    parser.add_argument("--mapper", nargs="+", default=["incremental", "global"])
    parser.add_argument("--extra", default="", help="further arguments of pipelines.photos, in one string")
    options = parser.parse_args()
    for name in options.sets:
        extra = shlex.split(options.extra)
        result = measure(name, options.data, options.outputs, options.features, options.mapper, extra)
        with replace_file(options.results / f"reconstruction-{name}.json") as path:
            path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"\n{name}\n{table(result)}")


if __name__ == "__main__":
    run_cli(main)
