"""The tables of `benchmarks.vs_hloc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Measured = Mapping[str, Sequence[Mapping[str, Any]]]
"""Runs by "SIDE JOB"."""


def rows(measured: Measured, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a stage: medians of both sides, ratios of hloc's to ours (above 1: ours is faster, or smaller).

    Args:
        measured: the runs; hloc's may be missing.
        plan: numbers of images, pairs and queries.
    """
    images, pairs = len(plan["extract"]), plan["pairs_db"] + plan["pairs_query"]
    queries, pairs_db = len(plan["queries"]), plan["pairs_db"]
    table = [
        ("extract SAMFeat", "image", images, "hloc extract", "ours extract"),
        ("extract SIFT", "image", images, "hloc sift", "ours sift"),
        ("match", "pair", pairs, "hloc match", "ours match"),
        ("match, by dot product as hloc", "pair", pairs, "hloc match", "ours match-dot"),
        ("triangulate", "pair", pairs_db, "hloc triangulate", "ours triangulate"),
        ("triangulate, both estimated", "pair", pairs_db, "hloc triangulate-estimated", "ours triangulate-estimated"),
        ("localize", "query", queries, "hloc localize", "ours localize"),
        ("localize, all at once as hloc", "query", queries, "hloc localize", "ours localize-plain"),
        ("COLMAP's SIFT", "image", images, "", "colmap sift"),
        ("COLMAP's ALIKED", "image", images, "", "colmap aliked"),
    ]
    found = [
        _row(stage, unit, count, measured.get(theirs, ()), measured[ours])
        for stage, unit, count, theirs, ours in table
        if ours in measured
    ]
    for kind in ("sift", "aliked"):
        runs = measured.get(f"colmap {kind}", ())
        if runs:
            pairs_s = [{**run, "seconds": run["match_s"]} for run in runs]
            found.append(_row(f"COLMAP matches its {kind}", "pair", runs[0]["match_pairs"], (), pairs_s))
    return found


def format_report(report: Mapping[str, Any]) -> str:
    """The report in plain text."""
    heads = [
        "stage",
        "unit",
        "hloc s",
        "ours s",
        "times faster",
        "hloc /s",
        "ours /s",
        "hloc MB",
        "ours MB",
        "of hloc's",
    ]
    table = [heads]
    for row in report["rows"]:
        hloc, ours = row["hloc"], row["ours"]
        table.append(
            [
                row["stage"],
                f"{row['count']} x {row['unit']}",
                _number(hloc.get("seconds")),
                _number(ours["seconds"]),
                _number(row.get("times_faster")),
                _number(hloc.get("per_second")),
                _number(ours["per_second"]),
                _memory(hloc),
                _memory(ours),
                _number(row.get("memory_ratio")),
            ]
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    loads = [
        f"{row['stage']} {row['hloc'].get('load_s', 0):.1f} s in hloc and {row['ours']['load_s']:.1f} s in ours"
        for row in report["rows"]
        if row["ours"]["load_s"] > 0.05 or row["hloc"].get("load_s", 0) > 0.05
    ]
    lines += [
        "",
        f"median of {report['runs']} on {report['cores']} cores; MB: peak of the stage's process (before it began)",
    ]
    if loads:
        lines.append(f"loading the network, not counted: {', '.join(loads)}")
    return "\n".join([*lines, *_comparison(report["comparison"])])


def _comparison(found: Mapping[str, Any]) -> list[str]:
    if not found:
        return ["hloc was not given (--hloc): ours alone"]
    correspondences = found["correspondences"]
    lines = [
        "",
        *(
            f"matches {name}: {entry['equal_pairs']} of {entry['pairs']} pairs equal; {entry['only_one_side']} of "
            f"{entry['matches']} matches on one side only"
            for name, entry in found["matches"].items()
        ),
        f"correspondences: equal for {correspondences['equal_correspondences']} of {correspondences['queries']} "
        f"queries; COLMAP's solver on both differs by at most {correspondences['largest_difference_mm']:.2g} mm "
        f"and {correspondences['largest_difference_deg']:.2g}°",
    ]
    lines += [
        f"model of {name}: {model['points']} points, {model['mean_track_length']} observations each, "
        f"{model['mean_reprojection_error_px']} px"
        for name, model in found["models"].items()
    ]
    for name, entry in found["poses"].items():
        text = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in entry.items())
        lines.append(f"poses of {name}: {text}")
    return lines


def _row(
    stage: str, unit: str, count: int, theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"stage": stage, "unit": unit, "count": count, "hloc": {}, "ours": _side(ours, count)}
    if theirs:
        row["hloc"] = _side(theirs, count)
        row["times_faster"] = row["hloc"]["seconds"] / row["ours"]["seconds"]
        row["memory_ratio"] = row["ours"]["peak_mb"] / row["hloc"]["peak_mb"]
    return row


def _side(runs: Sequence[Mapping[str, Any]], count: int) -> dict[str, float]:
    keys = ("seconds", "cpu_s", "load_s", "peak_mb", "imports_mb", "helpers_mb")
    figures = {key: median(run[key] for run in runs) for key in keys}
    return {**figures, "per_second": count / figures["seconds"], "seconds_each": figures["seconds"] / count}


def _memory(side: Mapping[str, float]) -> str:
    return f"{side['peak_mb']:.0f} ({side['imports_mb']:.0f})" if side else "-"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
