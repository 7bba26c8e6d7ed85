"""Results of localization: one record a query, kept in an append-only file, and the reports made from it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samfeat_hloc._pycolmap import FloatArray, IntArray
from samfeat_hloc.absolute_pose import STATUSES, PoseEstimate, Status
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.formats.journal import Record
from samfeat_hloc.formats.poses import Poses

COVARIANCE_KEY = "covariance_rotation_rad_translation_m"


@dataclass(frozen=True)
class QueryResult:
    """What became of one query.

    Attributes:
        name: of the query.
        status: "localized", "too few matches", "not verified", "no retrieval" or "unreadable".
        retrieved: database images that were used, in the order of the pair list.
        not_in_model: retrieved images that the model does not have; they were left out.
        estimate: pose, covariance, matches and inliers.
        time_s: time spent on this query.
    """

    name: str
    status: Status
    retrieved: tuple[str, ...]
    not_in_model: tuple[str, ...]
    estimate: PoseEstimate
    time_s: float

    @property
    def pose(self) -> FloatArray | None:
        """(7,) qw qx qy qz tx ty tz of cam_from_world; None unless localized."""
        return self.estimate.pose

    @property
    def covariance(self) -> FloatArray | None:
        """(6, 6) rotation (rad), translation (m) of cam_from_world; None unless localized."""
        return self.estimate.covariance

    @property
    def inlier_keypoints(self) -> IntArray:
        """(I,) indices of the query's keypoints that agree with the pose."""
        return self.estimate.inlier_keypoints

    @property
    def inlier_points3D(self) -> IntArray:
        """(I,) ids of their 3D points."""
        return self.estimate.inlier_points3D

    def to_record(self) -> Record:
        """As a record of the journal."""
        estimate = self.estimate
        arrays: dict[str, Any] = {
            "inlier_keypoints": estimate.inlier_keypoints,
            "inlier_points3D": estimate.inlier_points3D,
        }
        if estimate.pose is not None and estimate.covariance is not None:
            arrays |= {"pose": estimate.pose, "covariance": estimate.covariance}
        attrs = {
            "status": self.status,
            "retrieved": list(self.retrieved),
            "not_in_model": list(self.not_in_model),
            "num_matches": estimate.num_matches,
            "log10_nfa": estimate.log10_nfa,
            "time_s": self.time_s,
        }
        return Record(self.name, arrays, {"": attrs})

    @classmethod
    def from_record(cls, record: Record) -> QueryResult:
        """From a record of the journal."""
        attrs = record.attrs[""]
        estimate = PoseEstimate(
            attrs["status"],
            record.arrays.get("pose"),
            record.arrays.get("covariance"),
            attrs["num_matches"],
            record.arrays["inlier_keypoints"],
            record.arrays["inlier_points3D"],
            attrs["log10_nfa"],
        )
        return cls(
            record.name,
            attrs["status"],
            tuple(attrs["retrieved"]),
            tuple(attrs["not_in_model"]),
            estimate,
            attrs["time_s"],
        )


@dataclass(frozen=True)
class Localization:
    """What became of all queries.

    Attributes:
        results: by name, in the order of the query list.
        poses_path: poses of the localized queries, base names only.
        csv_path: a row a query.
        json_path: the same with pose and covariance.
    """

    results: dict[str, QueryResult]
    poses_path: Path
    csv_path: Path
    json_path: Path

    @property
    def poses(self) -> Poses:
        """(7,) cam_from_world of the localized queries, by full name."""
        return {name: result.pose for name, result in self.results.items() if result.pose is not None}

    def counts(self) -> dict[str, int]:
        """Number of queries of each status."""
        found = Counter(result.status for result in self.results.values())
        return {status: found[status] for status in STATUSES}


def write_csv(path: Path, results: Sequence[QueryResult]) -> None:
    """One row a query; standard deviations are the square roots of the covariance's diagonal blocks' traces."""
    with replace_file(path) as temporary, temporary.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(
            [
                "name",
                "status",
                "retrieved",
                "not_in_model",
                "matches",
                "inliers",
                "log10_nfa",
                "std_rotation_deg",
                "std_translation_m",
                "time_s",
                "qw",
                "qx",
                "qy",
                "qz",
                "tx",
                "ty",
                "tz",
            ]
        )
        for result in results:
            estimate = result.estimate
            std = (
                ["", ""]
                if estimate.covariance is None
                else [f"{value:.6g}" for value in deviations(estimate.covariance)]
            )
            pose = [""] * 7 if estimate.pose is None else [repr(float(value)) for value in estimate.pose]
            counts = [len(result.retrieved), len(result.not_in_model), estimate.num_matches, estimate.num_inliers]
            rows.writerow(
                [result.name, result.status, *counts, f"{estimate.log10_nfa:.1f}", *std, f"{result.time_s:.4f}", *pose]
            )


def write_json(path: Path, results: Sequence[QueryResult], settings: Mapping[str, Any]) -> None:
    """All queries with pose and covariance, and the settings they were made with."""
    entries = []
    for result in results:
        estimate = result.estimate
        entries.append(
            {
                "name": result.name,
                "status": result.status,
                "retrieved": list(result.retrieved),
                "not_in_model": list(result.not_in_model),
                "matches": estimate.num_matches,
                "inliers": estimate.num_inliers,
                "log10_nfa": estimate.log10_nfa,
                "pose_cam_from_world": None if estimate.pose is None else estimate.pose.tolist(),
                COVARIANCE_KEY: None if estimate.covariance is None else estimate.covariance.tolist(),
                "time_s": result.time_s,
            }
        )
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps({"format_version": 1, "settings": settings, "queries": entries}, indent=1))


def deviations(covariance: FloatArray) -> tuple[float, float]:
    """Standard deviations of the rotation in degrees and of the translation in metres."""
    rotation, translation = np.trace(covariance[:3, :3]), np.trace(covariance[3:, 3:])
    return float(np.degrees(np.sqrt(rotation))), float(np.sqrt(translation))
