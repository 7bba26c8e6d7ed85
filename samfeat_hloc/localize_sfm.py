"""Camera poses of queries in a COLMAP model, from retrieved pairs and their matches.

    python -m samfeat_hloc.localize_sfm --reference_sfm sfm --queries 'queries/*_with_intrinsics.txt' \\
        --retrieval pairs.txt --features features.h5 --matches matches.h5 --results poses.txt

hloc's stage of the same name, and files. Differences: a query that cannot be localized gets a status and no pose, never
the pose of a retrieved image; every query is in the report; finished queries survive a kill.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import make_camera, pycolmap, read_model, to_colmap
from samfeat_hloc.absolute_pose import PoseEstimate, PoseOptions, localize_from_matches
from samfeat_hloc.colmap_database import check_made_from
from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.names import check_names
from samfeat_hloc.formats.pairs import read_pairs, retrieved
from samfeat_hloc.formats.poses import write_poses
from samfeat_hloc.formats.queries import Query, read_queries
from samfeat_hloc.localization import Localization, QueryResult, write_csv, write_json
from samfeat_hloc.localization_inputs import (
    check_matches,
    digest,
    matched_images,
    model_signature,
    open_journal,
    unreadable_queries,
    written_names,
)
from samfeat_hloc.progress import progress
from samfeat_hloc.scene import Scene
from samfeat_hloc.triangulation import match_signature

logger = logging.getLogger(__name__)


def main(
    reference_sfm: Path | str | pycolmap.Reconstruction,
    queries: Path | str | Sequence[Query],
    retrieval: Path | str,
    features: Path | str,
    matches: Path | str,
    results: Path | str,
    ransac_thresh: float = 12.0,
    covisibility_clustering: bool = False,
    prepend_camera_name: bool = False,
    config: Mapping[str, Any] | PoseOptions | None = None,
    overwrite: bool = False,
    num_threads: int | None = None,
) -> Localization:
    """Localize queries.

    Args:
        reference_sfm: COLMAP model with points, or its folder.
        queries: query list(s) with intrinsics, `*` allowed; or queries.
        retrieval: pairs QUERY DATABASE.
        features: features of the queries.
        matches: matches of all pairs in `retrieval` whose database image is in the model.
        results: the poses file. Beside it: STEM_report.csv, STEM_report.json, and STEM_queries.journal, which holds
            the finished queries with their inliers.
        ransac_thresh: largest reprojection error of an inlier, in pixels.
        covisibility_clustering: split the retrieved images into groups that see common points, localize against each
            and keep the pose that chance explains least.
        prepend_camera_name: write `camera/name.jpg` rather than `name.jpg` into the poses file.
        config: fields of `PoseOptions`; goes before `ransac_thresh`.
        overwrite: drop results that were made from other inputs.
        num_threads: queries at once; default: one a core. It does not change the results.

    Returns:
        one result a query, in the order of the list. Queries that an earlier run with the same inputs finished are
        read.

    Raises:
        InputError: a file is missing or does not fit the others, a query without features that was not reported as
            unreadable, or results of other inputs.
        ConfigError: an unknown key of `config`.
    """
    results = Path(results)
    options = _options(config, ransac_thresh)
    query_list = list(queries) if not isinstance(queries, (str, Path)) else read_queries(queries)
    if not query_list:
        raise InputError("there is no query to localize; expected at least one")
    names = [query.name for query in query_list]
    check_names(names, "queries")
    written = written_names(names, prepend_camera_name)
    pairs = retrieved(read_pairs(retrieval))
    model = reference_sfm if isinstance(reference_sfm, pycolmap.Reconstruction) else read_model(reference_sfm)
    scene = Scene(model)
    if model.num_points3D() == 0:
        raise InputError("the reference model has no 3D points; triangulate it first")
    with FeatureReader(features) as feature_reader, MatchReader(matches) as match_reader:
        check_made_from(match_reader, feature_reader)
        unreadable = unreadable_queries(feature_reader, names)
        check_matches(match_reader, pairs, [name for name in names if name not in unreadable], scene)
        settings = {
            "stage": "localize_sfm",
            "reference_sfm": model_signature(reference_sfm),
            "queries": digest([[query.name, to_dict(query.camera)] for query in query_list]),
            "retrieval": digest([pairs.get(name, []) for name in names]),
            "features": feature_reader.signature,
            "keypoints": digest([feature_reader.num_keypoints(n) if n not in unreadable else -1 for n in names]),
            "matches": match_signature(match_reader),
            "covisibility_clustering": covisibility_clustering,
            "options": to_dict(options),
        }
        journal = open_journal(results.with_name(f"{results.stem}_queries.journal"), settings, overwrite)

        def localize(query: Query) -> QueryResult:
            start = time.perf_counter()
            given = pairs.get(query.name, [])
            used = [name for name in given if name in scene]
            left_out = tuple(name for name in given if name not in scene)
            if query.name in unreadable:
                estimate = PoseEstimate("unreadable")
            elif not used:
                estimate = PoseEstimate("no retrieval")
            else:
                keypoints = to_colmap(feature_reader.read_keypoints(query.name))
                camera = make_camera(query.camera)
                groups = scene.clusters(used) if covisibility_clustering else [used]
                matched = (matched_images(match_reader, query.name, group, scene) for group in groups)
                estimates = [localize_from_matches(keypoints, images, scene, camera, options) for images in matched]
                estimate = min(estimates, key=lambda found: (found.pose is None, found.log10_nfa))
            spent = time.perf_counter() - start
            return QueryResult(query.name, estimate.status, tuple(used), left_out, estimate, spent)

        try:
            finished = set(journal.names)
            todo = [query for query in query_list if query.name not in finished]
            pool = ThreadPoolExecutor(max_workers=num_threads or os.cpu_count() or 1)
            try:
                futures = [pool.submit(localize, query) for query in todo]
                for future in progress(as_completed(futures), total=len(futures), desc="localize", unit="query"):
                    journal.append(future.result().to_record())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
            found = {name: QueryResult.from_record(journal.read(name)) for name in names}
        finally:
            journal.close()
    return _write(results, found, written, settings)


def _write(
    results: Path, found: dict[str, QueryResult], written: Mapping[str, str], settings: Mapping[str, Any]
) -> Localization:
    """Write poses and reports, and say how it went."""
    outcome = Localization(
        found,
        results,
        results.with_name(f"{results.stem}_report.csv"),
        results.with_name(f"{results.stem}_report.json"),
    )
    write_csv(outcome.csv_path, list(found.values()))
    write_json(outcome.json_path, list(found.values()), settings)
    write_poses(results, {written[name]: pose for name, pose in outcome.poses.items()})
    left_out = {name for result in found.values() for name in result.not_in_model}
    if left_out:
        logger.warning(
            "warning: %d retrieved images are not in the model, for example %s", len(left_out), min(left_out)
        )
    counts = ", ".join(f"{number} {status}" for status, number in outcome.counts().items() if number)
    logger.info("%d queries: %s; report in %s", len(found), counts, outcome.csv_path)
    return outcome


def _options(config: Mapping[str, Any] | PoseOptions | None, ransac_thresh: float) -> PoseOptions:
    if isinstance(config, PoseOptions):
        return config
    given = {"ransac_thresh": float(ransac_thresh), **(config or {})}
    options = from_dict(PoseOptions, given)
    # what is refined are inliers
    return replace(options, refine_thresh=min(options.refine_thresh, options.ransac_thresh))


def _cli() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m samfeat_hloc.localize_sfm", description="Camera poses of queries in a COLMAP model."
    )
    parser.add_argument("--reference_sfm", type=Path, required=True, help="folder of the model")
    parser.add_argument("--queries", type=Path, required=True, help="query list(s) with intrinsics; * allowed")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--matches", type=Path, required=True)
    parser.add_argument("--retrieval", type=Path, required=True, help="pairs QUERY DATABASE")
    parser.add_argument("--results", type=Path, required=True, help="poses file")
    parser.add_argument("--ransac_thresh", type=float, default=12.0, help="pixels (default: %(default)s)")
    parser.add_argument("--covisibility_clustering", action="store_true")
    parser.add_argument("--prepend_camera_name", action="store_true")
    parser.add_argument("--num_threads", type=int, help="default: one a core")
    parser.add_argument("--overwrite", action="store_true", help="drop results made from other inputs")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(**arguments)


if __name__ == "__main__":
    run_cli(_cli)
