"""hloc's poses and logs as our results, so that both runtimes get the same reports, tables and pictures."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.aachen_stages import Files
from samfeat_hloc._pycolmap import FloatArray, make_camera, pose_from_array, read_model
from samfeat_hloc.absolute_pose import ERROR_STEPS, PoseEstimate, PoseOptions
from samfeat_hloc.formats.pairs import read_pairs, retrieved
from samfeat_hloc.formats.poses import read_poses
from samfeat_hloc.formats.queries import Query
from samfeat_hloc.localization import Localization, QueryResult, write_csv, write_json
from samfeat_hloc.pose_evidence import log10_false_alarms, reprojection_errors
from samfeat_hloc.scene import Scene

logger = logging.getLogger(__name__)


def read_results(queries: Sequence[Query], files: Files, settings: Mapping[str, Any]) -> Localization:
    """Read hloc's answer and write our reports of it.

    A pose counts as hloc wrote it. Where its solver found none it wrote that of the first retrieved image: such a query
    has the status "not verified" and this pose, and a line in the log says how many there are.
    """
    logs = _read_logs(files.poses)
    poses = read_poses(files.poses)
    pairs = retrieved(read_pairs(files.pairs_query))
    scene = Scene(read_model(files.model))
    found = {
        query.name: _result(query, poses.get(query.name.rsplit("/", 1)[-1]), logs.get(query.name), pairs, scene)
        for query in queries
    }
    borrowed = [name for name, result in found.items() if result.status == "not verified"]
    if borrowed:
        logger.warning(
            "warning: hloc's solver failed for %d of %d queries, for example %s, and hloc wrote the pose of their "
            "first retrieved image; the tables count it as hloc does",
            len(borrowed), len(found), borrowed[0],
        )  # fmt: skip
    stem = files.poses.stem
    outcome = Localization(
        found,
        files.poses,
        files.poses.with_name(f"{stem}_report.csv"),
        files.poses.with_name(f"{stem}_report.json"),
    )
    write_csv(outcome.csv_path, list(found.values()))
    write_json(outcome.json_path, list(found.values()), settings)
    return outcome


def _result(
    query: Query, pose: FloatArray | None, log: Mapping[str, Any] | None, pairs: Mapping[str, list[str]], scene: Scene
) -> QueryResult:
    given = pairs.get(query.name, [])
    used = tuple(name for name in given if name in scene)
    left_out = tuple(name for name in given if name not in scene)
    if log is None or pose is None:
        return QueryResult(query.name, "no retrieval", used, left_out, PoseEstimate("no retrieval"), 0.0)
    solved = log["PnP_ret"]
    if solved is None:
        estimate = PoseEstimate("not verified", pose, num_matches=log["num_matches"])
        return QueryResult(query.name, "not verified", used, left_out, estimate, 0.0)
    inliers = np.asarray(solved["inlier_mask"], bool)
    points3D = np.asarray(log["points3D_ids"], np.int64)
    points2D = np.asarray(log["keypoints_query"], np.float64).reshape(-1, 2)
    camera = make_camera(query.camera)
    errors = reprojection_errors(pose_from_array(pose), points2D, scene.xyz(points3D), camera)
    steps = [PoseOptions().ransac_thresh * step for step in ERROR_STEPS]
    log10_nfa, _ = log10_false_alarms(points2D, errors, steps, (camera.width, camera.height))
    keypoints = np.asarray(log["keypoint_index_to_db"][0], np.int64)
    estimate = PoseEstimate(
        "localized", pose, None, log["num_matches"], keypoints[inliers], points3D[inliers], log10_nfa
    )
    return QueryResult(query.name, "localized", used, left_out, estimate, 0.0)


def _read_logs(poses: Path) -> dict[str, Any]:
    """By query, from the pickle that hloc wrote a moment ago beside its poses."""
    with Path(f"{poses}_logs.pkl").open("rb") as stream:
        logs: dict[str, Any] = pickle.load(stream)["loc"]
    return logs
