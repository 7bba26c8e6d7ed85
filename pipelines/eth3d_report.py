"""The tables of a scene: sparse models, camera poses, point clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.eth3d_poses import THRESHOLDS
from pipelines.sparse_statistics import HEADS, cells, markdown_table
from samfeat_hloc.cloud_evaluation import CELL_DEG, TOLERANCES_M, VOXEL_M

RULES = f"""\
Poses: the similarity with the smallest sum of distances between camera centres is taken out; a camera that is not
registered counts as infinitely wrong. R: share of all cameras within the threshold; AUC: area under the curve of that
share up to the threshold, divided by it.

Clouds: accuracy is the share of reconstructed points within the tolerance of a scan, completeness the share of scan
points within the tolerance of the reconstruction, each averaged over voxels of {100 * VOXEL_M:g} cm; F1 is their
harmonic mean. A reconstructed point that is near no scan is wrong where a scanner saw past it (it lies farther than
the tolerance before the nearest return of its cell of {CELL_DEG:g} degrees and the eight around) and otherwise left
out (unobserved). ETH3D's own program follows each laser beam as a thin cone instead, and calls a point accurate inside
such a cone alone: its accuracy differs by points beside edges and between beams. Completeness is the same measure. A
sparse cloud is not meant to be complete: its accuracy alone is shown.
"""
SPARSE_STAGES = ("triangulation", "reconstruction")


def scene_markdown(name: str, row: Mapping[str, Any]) -> str:
    """All tables of one scene."""
    lines = [f"# {name}", "", f"{row['images']} photographs, {row['variant']}.", ""]
    sparse = [["features", "model", *HEADS]]
    poses = [
        ["features", "mapper", "registered"]
        + [f"{measure}@{t:g}{unit}" for unit in (" cm", "°") for measure in ("R", "AUC") for t in THRESHOLDS]
        + ["median", "largest"]
    ]
    failures = []
    for label, entry in row["features"].items():
        for stage, found in entry.items():
            sparse.append([label, stage, *cells(found["sparse"])])
            if "poses" in found:
                poses.append([label, stage.partition("-")[2], *_pose_cells(found["poses"])])
            if found.get("error"):
                failures.append(f"{label}, {stage}: {found['error']}")
    lines += ["Sparse models:", "", *markdown_table(sparse), ""]
    if len(poses) > 1:
        lines += ["Camera poses of the reconstruction:", "", *markdown_table(poses), ""]
    if row["clouds"]:
        lines += ["Point clouds against the laser scans:", "", *markdown_table(_cloud_rows(row["clouds"])), ""]
    lines += failures + ([""] if failures else [])
    lines += ["Seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in row["seconds"].items()) + ".", ""]
    return "\n".join([*lines, RULES])


def _pose_cells(scores: Mapping[str, Any]) -> list[str]:
    shares = [*scores["recall_cm"], *scores["auc_cm"], *scores["recall_deg"], *scores["auc_deg"]]
    centre, largest = "-", "-"
    if scores["median_cm"] is not None:
        centre = f"{scores['median_cm']:.2f} cm, {scores['median_deg']:.3f}°"
        largest = f"{scores['max_cm']:.1f} cm"
    return [f"{scores['registered']} of {scores['images']}", *(f"{100 * x:.1f}" for x in shares), centre, largest]


def _cloud_rows(clouds: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = [["cloud", "points", "measure (%)", *(f"{100 * t:g} cm" for t in TOLERANCES_M)]]
    for name, scores in clouds.items():
        if not scores:
            rows.append([name, "0", "accuracy", *("-" for _ in TOLERANCES_M)])
            continue
        sparse = any(stage in name for stage in SPARSE_STAGES)
        for measure in ("accuracy", "unobserved") if sparse else ("accuracy", "completeness", "f1", "unobserved"):
            shown = "F1" if measure == "f1" else measure
            rows.append([name, f"{scores['points']}", shown, *_percent(scores[measure])])
    return rows


def _percent(shares: Sequence[float | None]) -> list[str]:
    return ["-" if share is None else f"{100 * share:.1f}" for share in shares]
