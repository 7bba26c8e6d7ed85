"""The figures of several features on one data set as a Markdown table and as the protocol's curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.hpatches_protocol import THRESHOLDS
from pipelines.hpatches_summary import SETS
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import MissingDependencyError

HEADS = (
    "features", "set", "sequences", "pairs", "MMA@1", "MMA@3", "MMA@5", "MMA@10", "AUC@5", "homography @1", "@3", "@5",
    "keypoints", "matches", "correct",
)  # fmt: skip
WEIGHTINGS = {
    "over_pairs": "Means over pairs (D2-Net's protocol)",
    "over_sequences": "Means over sequences",
}
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")


def markdown(title: str, results: Mapping[str, Mapping[str, Any]], both: bool) -> str:
    """Tables in Markdown.

    Args:
        title: of the data set.
        results: features' label -> `pipelines.hpatches_summary.summarize`.
        both: also the means over sequences, which differ when sequences have different numbers of pairs.
    """
    lines = [f"# {title}", ""]
    for weighting, heading in WEIGHTINGS.items():
        if weighting == "over_sequences" and not both:
            continue
        rows = [list(HEADS)]
        for label, sets in results.items():
            rows += [_row(label, name, sets[name], sets[name][weighting]) for name in SETS if name in sets]
        lines += [f"{heading}; in brackets the 95 % interval over sequences.", "", *_aligned(rows), ""]
    lines.append("Correct: matches within 3 px. Homography: share of pairs whose corner error is at most 1, 3, 5 px.")
    return "\n".join(lines) + "\n"


def draw_curves(stem: Path, title: str, results: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Write STEM.png and STEM.pdf: matching accuracy over pairs against the threshold, one panel a set.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "no curve was drawn because matplotlib is not installed; install it with: pip install 'samfeat-hloc[plots]'"
        ) from None
    first = next(iter(results.values()))
    names = [name for name in SETS if name in first]
    figure = Figure(figsize=(1.2 + 3.6 * len(names), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        count = first[name]
        panel.set_title(
            f"{name}, {_number(count['sequences'], 'sequence')}, {_number(count['pairs'], 'pair')}", fontsize=9
        )
        for number, (label, sets) in enumerate(results.items()):
            figures = sets[name]["over_pairs"]
            text = f"{label} (AUC@5 {figures['auc5']:.3f})"
            colour = COLOURS[number % len(COLOURS)]
            panel.plot(THRESHOLDS, figures["mma"], color=colour, marker=".", label=text)
            if figures["interval95"]:
                low, high = zip(*figures["interval95"]["mma"], strict=True)
                panel.fill_between(THRESHOLDS, low, high, color=colour, alpha=0.12, linewidth=0)
        panel.set_xlim(THRESHOLDS[0], THRESHOLDS[-1])
        panel.set_ylim(0, 1)
        panel.set_xticks(THRESHOLDS)
        panel.grid(alpha=0.3)
        panel.set_xlabel("threshold (px)")
        panel.legend(fontsize=7, loc="best")
    panels[0].set_ylabel("mean matching accuracy")
    figure.suptitle(f"{title}; shaded: 95 % over sequences", fontsize=9)
    written = []
    for suffix in (".png", ".pdf"):
        path = stem.with_name(stem.name + suffix)
        with replace_file(path) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=150)
        written.append(path)
    return written


def _row(label: str, name: str, counts: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    interval = figures["interval95"]

    def share(key: str, index: int | None = None) -> str:
        value = figures[key] if index is None else figures[key][index]
        if interval is None:
            return f"{value:.3f}"
        low, high = interval[key] if index is None else interval[key][index]
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    return [
        label, name, str(counts["sequences"]), str(counts["pairs"]),
        *(share("mma", index) for index in (0, 2, 4, 9)), share("auc5"),
        *(share("homography", index) for index in range(3)),
        *(f"{figures[key]:.0f}" for key in ("keypoints", "matches", "correct")),
    ]  # fmt: skip


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
