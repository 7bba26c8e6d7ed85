"""The figures that a sparse model is told by."""

from __future__ import annotations

from typing import Any

from samfeat_hloc._pycolmap import pycolmap

HEADS = ("registered", "points", "observations", "track", "reprojection")
"""Column heads of `cells`."""


def sparse_statistics(model: pycolmap.Reconstruction | None, images: int) -> dict[str, Any]:
    """Registered images, points, observations, mean track length, mean reprojection error in px.

    Args:
        model: None when nothing could be reconstructed.
        images: that were to be reconstructed.
    """
    if model is None or model.num_points3D() == 0:
        registered = 0 if model is None else model.num_reg_images()
        empty = {"points": 0, "observations": 0, "mean_track_length": None, "mean_reprojection_error_px": None}
        return {"images": images, "registered": registered, **empty}
    model.update_point_3d_errors()
    return {
        "images": images,
        "registered": model.num_reg_images(),
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "mean_track_length": round(model.compute_mean_track_length(), 3),
        "mean_reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
    }


def cells(statistics: dict[str, Any]) -> list[str]:
    """The same as a table's cells, in the order of `HEADS`."""
    track, error = statistics["mean_track_length"], statistics["mean_reprojection_error_px"]
    return [
        f"{statistics['registered']} of {statistics['images']}",
        f"{statistics['points']}",
        f"{statistics['observations']}",
        "-" if track is None else f"{track:.2f}",
        "-" if error is None else f"{error:.2f} px",
    ]


def markdown_table(rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, the first row its head, columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
