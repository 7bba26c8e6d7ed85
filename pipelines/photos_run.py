"""One run of the photographs' pipeline: a folder to models, for each kind of features and each mapper."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.common_options import extractor_of
from pipelines.photos_cameras import Cameras, choose_cameras
from pipelines.photos_failures import read_connections, reasons
from pipelines.photos_links import readable_folder
from pipelines.photos_options import Options
from pipelines.photos_pairs import write_photo_pairs
from pipelines.photos_pictures import draw
from pipelines.photos_report import print_table, write_report
from pipelines.photos_scan import Scan, scan_folder
from pipelines.photos_stages import StageLog
from samfeat_hloc import extract_features, match_features, reconstruction
from samfeat_hloc._pycolmap import read_model
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.names import check_pair_keys
from samfeat_hloc.stage_folder import DATABASE_NAME, RECORD_NAME

logger = logging.getLogger(__name__)

MATCHERS = {"sift": "nn-ratio"}
"""Matchers of `--matcher auto`, see `matcher_of`."""

MAPPER_OPTIONS: dict[str, Any] = {"min_model_size": 3}
"""COLMAP leaves out second and further models of fewer than 10 photographs; here all are kept and reported."""


def run(options: Options) -> dict[str, Any]:
    """Run the pipeline; prints the table and returns what ``report.json`` holds.

    Raises:
        InputError: no photographs, or none that fit together; the outputs belong to another run.
    """
    log = StageLog(options.out / "stages.json")
    source = options.folder
    options = replace(options, folder=readable_folder(options.folder, options.out), outputs=options.out)
    with log("photographs"):
        scan = scan_folder(options.folder, options.max_aspect, options.out)
        check_pair_keys(zip(scan.kept, list(scan.kept)[1:], strict=False))
        cameras = choose_cameras(
            options.folder,
            scan.kept,
            options.camera_mode,
            options.camera_model,
            options.cameras,
            options.refine_cameras,
        )
    _announce(options, scan, cameras)
    runs = []
    for name in options.features:
        runs += _reconstruct(options, scan, cameras, name, options.out / name)
    with log("report"):
        report = write_report(options, scan, cameras, runs, log.rows, source)
    print_table(report)
    if all(row["error"] for row in runs):
        raise InputError(f"{runs[0]['error']}; {options.out / 'report.html'} says what became of each photograph")
    return report


def matcher_of(options: Options, kind: str) -> str:
    """The matcher of one kind of features.

    `--matcher auto` is `nn-mutual`, SAMFeat's protocol, which connects photographs that overlap little. With known
    intrinsics, so where accuracy is wanted, it is `nn-ratio`: fewer and cleaner matches. SIFT always has the latter.
    """
    if options.matcher != "auto":
        return options.matcher
    return MATCHERS.get(kind, "nn-mutual" if options.cameras is None else "nn-ratio")


def _reconstruct(options: Options, scan: Scan, cameras: Cameras, kind: str, folder: Path) -> list[dict[str, Any]]:
    """All mappers on one kind of features."""
    log = StageLog(folder / "stages.json")
    extractor = extractor_of(
        kind, options.weights, max_keypoints=options.max_keypoints, resize_max=options.resize_max or None
    )
    features, pairs, matches = folder / "features.h5", folder / "pairs.txt", folder / "matches.h5"
    with log("features", [features]):
        _replace_if(
            options.overwrite,
            lambda again: extract_features.main(
                extractor.name,
                options.folder,
                feature_path=features,
                image_list=list(scan.kept),
                extractor=extractor,
                overwrite=again,
            ),
        )
    names, left_out = _with_features(scan, features)
    with log("pairs", [pairs]):
        words, count = write_photo_pairs(
            features, names, pairs, options.exhaustive_images, options.num_retrieved, options.num_neighbours,
            options.overwrite,
        )  # fmt: skip
    logger.info("%d pairs: %s", count, words)
    matcher = matcher_of(options, kind)
    with log("matching", [matches]):
        _replace_if(
            options.overwrite,
            lambda again: match_features.main(matcher, pairs, features, matches=matches, overwrite=again),
        )
    runs = []
    for mapper in options.mapper:
        row: dict[str, Any] = {"features": kind, "matcher": matcher, "mapper": mapper, "pair_choice": words}
        row |= _map(options, mapper, cameras, names, folder, log)
        images = [model.pop("names") for model in row["models"]]
        asked = [*scan.kept, *scan.left_out]
        connections = read_connections(folder / mapper / DATABASE_NAME)
        row["not_registered"] = reasons(asked, left_out, connections, images, row["largest"])
        if images:
            with log(f"pictures ({mapper})"):
                row["pictures"] = draw(options.folder, folder / mapper, options.out, options.num_pictures)
        of_others = tuple(f"({other})" for other in options.mapper if other != mapper)
        row["stages"] = {stage: took for stage, took in log.rows.items() if not stage.endswith(of_others or "\0")}
        runs.append(row)
    return runs


def _map(
    options: Options, mapper: str, cameras: Cameras, names: list[str], folder: Path, log: StageLog
) -> dict[str, Any]:
    """Verify the pairs and run one mapper; figures of its models, or why there is none."""
    sfm = folder / mapper
    stages = {
        "verify": (f"verification ({mapper})", [sfm / DATABASE_NAME]),
        "map": (f"mapping ({mapper})", [sfm / "models"]),
        "finish": (f"last adjustment ({mapper})", []),
    }
    others = [folder / other for other in options.mapper if other != mapper]
    row: dict[str, Any] = {"model": str(sfm.relative_to(options.out)), "error": "", "largest": 0, "models": []}
    try:
        reconstruction.main(
            sfm,
            options.folder,
            folder / "pairs.txt",
            folder / "features.h5",
            folder / "matches.h5",
            mapper=mapper,
            mapper_options={**MAPPER_OPTIONS, **options.mapper_options},
            cameras={name: cameras.of_image[name] for name in names},
            fixed_cameras=cameras.fixed,
            verified_by=next((other for other in others if (other / DATABASE_NAME).exists()), None),
            overwrite=options.overwrite,
            clock=lambda stage: log(*stages[stage]),
        )
    except reconstruction.NothingReconstructed as error:
        logger.warning("warning: %s with %s: %s", folder.name, mapper, error)
        return {**row, "error": str(error), "statistics": {}}
    for path in sorted((sfm / "models").iterdir(), key=lambda path: int(path.name)):
        model = read_model(path)
        images = sorted(image.name for image in model.images.values() if image.has_pose)
        row["models"].append(
            {
                "folder": str(path.relative_to(options.out)),
                "images": len(images),
                "points": model.num_points3D(),
                "names": images,
            }
        )
    sizes = [(model["images"], model["points"]) for model in row["models"]]
    row["largest"] = sizes.index(max(sizes))
    row["statistics"] = json.loads((sfm / RECORD_NAME).read_text())["statistics"]
    return row


def _with_features(scan: Scan, features: Path) -> tuple[list[str], dict[str, str]]:
    """Photographs that have features, and why the others are left out."""
    skipped = features.with_suffix(".skipped.json")
    left_out = dict(scan.left_out)
    if skipped.exists():
        left_out |= {row["name"]: row["reason"] for row in json.loads(skipped.read_text()) if row["name"] in scan.kept}
    with FeatureReader(features) as reader:
        for name in scan.kept:
            if name not in left_out and reader.num_keypoints(name) == 0:
                left_out[name] = "no feature was found in it: it is blank, blurred or black"
    names = [name for name in scan.kept if name not in left_out]
    if len(names) < 2:
        first = next(iter(left_out.items()))
        raise InputError(f"{len(names)} photographs have features; expected at least 2; {first[0]}: {first[1]}")
    return names, left_out


def _replace_if(overwrite: bool, stage: Callable[[bool], object]) -> None:
    """Go on with what the stage has; replace it only when it is of other inputs and `overwrite` allows that."""
    try:
        stage(False)
    except InputError:
        if not overwrite:
            raise
        stage(True)


def _announce(options: Options, scan: Scan, cameras: Cameras) -> None:
    sources = ", ".join(
        f"{count} {source}" for source in ("exif", "guess", "given") if (count := cameras.count(source))
    )
    logger.info(
        "%s: %d photographs, %d left out; %d cameras (focal length: %s); results in %s",
        options.folder, len(scan.kept), len(scan.left_out), len(cameras.unique), sources, options.out,
    )  # fmt: skip
    for name, reason in list(scan.left_out.items())[:10]:
        logger.info("left out: %s: %s", name, reason)
