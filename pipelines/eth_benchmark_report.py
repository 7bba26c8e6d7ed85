"""A collection's table: our rows under those of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.eth_benchmark_paper import paper_rows
from pipelines.sparse_statistics import HEADS, cells, markdown_table


def collection_markdown(name: str, row: Mapping[str, Any]) -> str:
    """The table of one collection in Markdown.

    Args:
        name: of its folder, by which the paper's rows are found.
        row: as of `summary.json`.
    """
    table = [["features", "pairs", *HEADS, "dense"]]
    printed = paper_rows(name)
    if printed:
        table += [
            [
                f"{paper.method} (paper)", "exhaustive", f"{paper.registered} of {printed[0]}",
                f"{paper.sparse_thousands}K", "-", f"{paper.track:.2f}", f"{paper.reprojection_px:.2f} px",
                f"{paper.dense_millions:.2f}M",
            ]
            for paper in printed[1]
        ]  # fmt: skip
    for label, found in row["features"].items():
        dense = found["dense_points"]
        shown = "-" if dense is None else f"{dense / 1e6:.2f}M" if dense >= 1e5 else f"{dense}"
        table.append([f"{label} (ours)", row["pairs"], *cells(found["sparse"]), shown])
    protocol = f"Ours: {row['protocol']}. Registered: images of the largest model."
    source = "Paper: SAMFeat, arXiv 2309.16992, Table III (all pairs, ratio test 0.8, COLMAP)."
    lines = [f"# {name}", "", *markdown_table(table), ""]
    lines += [f"{source} {protocol}" if printed else f"{protocol} The paper has no figures of this collection."]
    for label, found in row["features"].items():
        seconds = ", ".join(f"{stage} {spent:.0f}" for stage, spent in found["seconds"].items())
        reasons = [reason for reason in (found["error"], found["dense_missing"]) if reason]
        lines += ["", ". ".join([f"{label}, seconds: {seconds}", *reasons])]
    return "\n".join(lines) + "\n"
