"""How good are camera poses: errors against ground truth, recall at thresholds, and the table that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.formats.poses import Pose7

THRESHOLDS: tuple[tuple[float, float], ...] = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""(metres, degrees) of visuallocalization.net."""


@dataclass(frozen=True)
class Summary:
    """Accuracy over a set of queries.

    Attributes:
        queries: number of queries with ground truth.
        localized: how many of them have a pose.
        recall: share in [0, 1] of all queries within each of `thresholds`; one without a pose is within none.
        median_t_m: median position error over the localized queries, NaN when there are none.
        median_r_deg: median rotation error over the localized queries, NaN when there are none.
    """

    queries: int
    localized: int
    recall: tuple[float, ...]
    median_t_m: float
    median_r_deg: float

    def to_json(self) -> dict[str, object]:
        """Plain values for `summary.json`; a median of nothing is null."""
        t, r = self.median_t_m, self.median_r_deg
        return {
            "queries": self.queries,
            "localized": self.localized,
            "recall": [round(value, 6) for value in self.recall],
            "median_t_m": None if np.isnan(t) else t,
            "median_r_deg": None if np.isnan(r) else r,
        }


def rotation_matrix(quaternion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(3, 3) rotation of a quaternion qw qx qy qz of any length but zero."""
    q = np.asarray(quaternion, np.float64)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def camera_center(pose: Pose7) -> npt.NDArray[np.float64]:
    """(3,) position in the world of a camera with this cam_from_world."""
    return -rotation_matrix(pose[:4]).T @ np.asarray(pose[4:], np.float64)


def pose_errors(estimated: Pose7, truth: Pose7) -> tuple[float, float]:
    """Position error in metres (distance of the camera centres) and rotation error in degrees, in [0, 180].

    Args:
        estimated: (7,) qw qx qy qz tx ty tz of cam_from_world.
        truth: the same.
    """
    t_m = float(np.linalg.norm(camera_center(estimated) - camera_center(truth)))
    a, b = np.asarray(estimated[:4], np.float64), np.asarray(truth[:4], np.float64)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    # the chord of the half angle: arccos of the dot product has no precision below 1e-6 degrees
    half_chord = min(np.linalg.norm(a - b), np.linalg.norm(a + b)) / 2
    return t_m, float(np.degrees(4 * np.arcsin(np.clip(half_chord, 0, 1))))


def recall(
    errors: Sequence[tuple[float, float]],
    num_queries: int,
    thresholds: Sequence[tuple[float, float]] = THRESHOLDS,
) -> tuple[float, ...]:
    """Share of all queries within each (metres, degrees) threshold.

    Args:
        errors: (t_m, r_deg) of the localized queries.
        num_queries: all queries; those without an error count as infinitely wrong.
        thresholds: pairs of metres and degrees, both inclusive.
    """
    if num_queries == 0:
        return tuple(float("nan") for _ in thresholds)
    return tuple(sum(t <= t_m and r <= r_deg for t, r in errors) / num_queries for t_m, r_deg in thresholds)


def summarize(
    estimated: Mapping[str, Pose7],
    truth: Mapping[str, Pose7],
    names: Iterable[str],
    thresholds: Sequence[tuple[float, float]] = THRESHOLDS,
) -> Summary:
    """Accuracy of the poses of `names`.

    Raises:
        InputError: a name has no ground truth.
    """
    wanted = list(names)
    check_known(wanted, truth, "queries", "the ground truth")
    errors = [pose_errors(estimated[name], truth[name]) for name in wanted if name in estimated]
    medians = np.median(np.array(errors), axis=0) if errors else (np.nan, np.nan)
    return Summary(
        len(wanted),
        len(errors),
        recall(errors, len(wanted), thresholds),
        float(medians[0]),
        float(medians[1]),
    )


def format_table(
    rows: Mapping[str, Mapping[str, Summary]], thresholds: Sequence[tuple[float, float]] = THRESHOLDS
) -> str:
    """A plain-text table, one line for each method and condition.

    Args:
        rows: method -> condition ("day", "night") -> summary.
        thresholds: those of the summaries, for the heading.

    Raises:
        InputError: a summary has another number of thresholds.
    """
    heads = [f"({t:g} m, {r:g}°)" for t, r in thresholds]
    table = [["features", "queries", "localized", *heads, "median t", "median R"]]
    for method, conditions in rows.items():
        for condition, summary in conditions.items():
            if len(summary.recall) != len(heads):
                raise InputError(f"{method} {condition} has {len(summary.recall)} recalls; expected {len(heads)}")
            table.append(
                [
                    method,
                    f"{condition} {summary.queries}",
                    str(summary.localized),
                    *(f"{100 * value:.1f} %" for value in summary.recall),
                    f"{summary.median_t_m:.3f} m",
                    f"{summary.median_r_deg:.3f}°",
                ]
            )
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )
