"""The report of a run: report.json, and report.html with all its pictures inside."""

from __future__ import annotations

import base64
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2

import samfeat_hloc
from pipelines.photos_cameras import Cameras
from pipelines.photos_options import Options
from pipelines.photos_scan import Scan
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.images import read_image

MAX_THUMBNAILS = 60
"""Photographs that failed and are shown; all are named."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd;
text-align: left; vertical-align: top } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; height: auto } img.small { height: 64px; width: auto } .bad { color: #b00 }
code { background: #f3f3f3; padding: .1em .3em }
"""

HEADS = (
    "features", "mapper", "registered", "points", "mean track", "error (px)", "models", "verified pairs", "mapping (s)",
)  # fmt: skip


def write_report(
    options: Options,
    scan: Scan,
    cameras: Cameras,
    runs: Sequence[Mapping[str, Any]],
    common: Mapping[str, Mapping[str, float]],
    source: Path,
) -> dict[str, Any]:
    """Write OUT/report.json and OUT/report.html.

    Args:
        options: of the run.
        scan: the folder's photographs.
        cameras: of the photographs.
        runs: one row for each kind of features and mapper.
        common: what the stages before took.
        source: the folder that was asked for; `options.folder` may be one of links to it.

    Returns:
        what report.json holds.
    """
    report = {
        "folder": str(source),
        "command": shlex.join(["python", "-m", "pipelines.photos", *sys.argv[1:]]),
        "versions": {"samfeat_hloc": samfeat_hloc.__version__, "pycolmap": pycolmap.__version__},
        "photographs": {
            "found": len(scan.kept) + len(scan.left_out),
            "used": len(scan.kept),
            "turned_by_exif": sum(photograph.orientation != 1 for photograph in scan.kept.values()),
            "sizes": len({photograph.size for photograph in scan.kept.values()}),
            "left_out": scan.left_out,
        },
        "cameras": {
            "mode": options.camera_mode,
            "count": len(cameras.unique),
            **{source: cameras.count(source) for source in ("exif", "guess", "given")},
            "fixed": len(cameras.fixed),
        },
        "stages": dict(common),
        "runs": list(runs),
    }
    with replace_file(options.out / "report.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n")
    with replace_file(options.out / "report.html") as path:
        path.write_text(html_page(report, options.folder, options.out), encoding="utf-8")
    return report


def print_table(report: Mapping[str, Any]) -> None:
    """The runs side by side, as text."""
    rows = [list(HEADS), *(_cells(run) for run in report["runs"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def html_page(report: Mapping[str, Any], root: Path, out: Path) -> str:
    """The report as one HTML page without any other file."""
    photographs, cameras = report["photographs"], report["cameras"]
    title = f"Reconstruction of {escape(Path(report['folder']).resolve().name)}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>",
        f"<p>{photographs['found']} photographs, {photographs['used']} used, {len(photographs['left_out'])} left out; "
        f"{photographs['sizes']} sizes, {photographs['turned_by_exif']} turned by their EXIF orientation. "
        f"{cameras['count']} cameras ({escape(cameras['mode'])}): focal length of {cameras['exif']} from EXIF, "
        f"{cameras['given']} given, {cameras['guess']} guessed; {cameras['fixed']} kept fixed.</p>",
        f"<p><code>{escape(report['command'])}</code></p>",
        _table(HEADS, [_cells(run) for run in report["runs"]], numbers_from=2),
        *(_run_section(run, root, out, cameras["guess"]) for run in report["runs"]),
        "<h2>Before</h2>",
        _stages(report["stages"]),
        f"<p>samfeat_hloc {report['versions']['samfeat_hloc']}, pycolmap {report['versions']['pycolmap']}</p></html>\n",
    ]
    return "\n".join(parts)


def _run_section(run: Mapping[str, Any], root: Path, out: Path, guessed: int) -> str:
    failed = run["not_registered"]
    parts = [f"<h2>{escape(run['features'])}, {escape(run['mapper'])} mapper</h2>"]
    if run["error"]:
        parts.append(f"<p class=bad>{escape(run['error'])}</p>")
    parts.append(f"<p>Pairs: {escape(run['pair_choice'])}; matched by {escape(run['matcher'])}.</p>")
    if run["mapper"] == "global" and guessed:
        parts.append(
            f"<p class=bad>{guessed} cameras have no known focal length. The global mapper needs one and took it from "
            "the pairs: compare with the incremental mapper before you trust this model.</p>"
        )
    if len(run["models"]) > 1:
        rows = [[model["folder"], str(model["images"]), str(model["points"])] for model in run["models"]]
        parts.append(_table(("model", "photographs", "points"), rows, numbers_from=1))
    parts += [f"<p><img alt='{escape(name)}' src='{_embedded(out / name)}'></p>" for name in run.get("pictures", [])]
    if failed:
        parts.append(f"<h3>Not in the model: {len(failed)} photographs</h3>")
        lines = []
        for number, (name, why) in enumerate(failed.items()):
            shown = _thumbnail(root / name) if number < MAX_THUMBNAILS else ""
            lines.append(f"<tr><td>{shown}</td><td>{escape(name)}</td><td>{escape(why)}</td></tr>")
        parts.append("<table>" + "".join(lines) + "</table>")
    parts += ["<h3>Time and memory</h3>", _stages(run["stages"])]
    return "\n".join(parts)


def _cells(run: Mapping[str, Any]) -> list[str]:
    found = run["statistics"]
    mapping = run["stages"].get(f"mapping ({run['mapper']})", {}).get("seconds", 0.0)
    if not found:
        return [run["features"], run["mapper"], "0", *["-"] * 4, "0", f"{mapping:.1f}"]
    photographs = found["images"] + len(run["not_registered"])
    return [
        run["features"], run["mapper"], f"{found['images']} of {photographs}", str(found["points"]),
        f"{found['mean_track_length']:.2f}", f"{found['mean_reprojection_error_px']:.2f}", str(len(run["models"])),
        f"{found['verified']} of {found['pairs']}", f"{mapping:.1f}",
    ]  # fmt: skip


def _stages(stages: Mapping[str, Mapping[str, float]]) -> str:
    rows = [[name, f"{took['seconds']:.1f}", f"{took['peak_memory_mb']:.0f}"] for name, took in stages.items()]
    return _table(("stage", "seconds", "peak memory (MB)"), rows, numbers_from=1)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        shown = (
            f"<{tag}{' class=n' if column >= numbers_from else ''}>{escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return "<tr>" + "".join(shown) + "</tr>"

    return "<table>" + line(heads, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _embedded(path: Path) -> str:
    """A picture as a JPEG in a data URL."""
    picture = cv2.imread(str(path))
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _thumbnail(path: Path) -> str:
    """A small picture of a photograph; nothing for one that cannot be read."""
    try:
        picture = read_image(path)[0]
    except InputError:
        return ""
    scale = 96 / picture.shape[0]
    small = cv2.resize(picture, (max(1, min(480, round(picture.shape[1] * scale))), 96), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return f"<img class=small alt='' src='data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}'>"
