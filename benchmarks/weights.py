"""Do new weights do better, and worse nowhere? Matching and localization with each of several weights, side by side.

    python -m benchmarks.weights samfeat-photos-1 samfeat-photos-2 --data ../shared/data --json OUT.json

Matching: D2-Net's protocol on ``homography`` and ``webcam`` with 2048 keypoints and mutual nearest neighbours
(benchmarks/matching_accuracy.py). Localization: `pipelines.aachen` as it is by default, on the embedded town's seeds 0,
1 and 2 (3072 keypoints), South Building and Strecha's two scenes (4096). Resumable: what was measured of the same
weights, by their sha256, is read from OUTPUTS.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.matching_accuracy import matching_accuracy
from datasets.strecha import write_scene
from datasets.town import write_town
from pipelines.aachen_run import Options, run
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.checkpoints import find_weights
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.extractors import get_extractor

KEYPOINTS = 2048
TOWN_KEYPOINTS = 3072
MATCHING = ("homography", "webcam")
STRECHA = {"fountain": "strecha/fountain-P11", "herz_jesus": "strecha/Herz-Jesus-P8"}
TOWNS = {f"town-{seed}": seed for seed in (0, 1, 2)}
SETS = (*MATCHING, *TOWNS, "south_building", *STRECHA)


def measure_matching(weights: str, folder: Path) -> dict[str, Any]:
    """MMA at 1, 3 and 5 px, and the mean number of matches and of those within 3 px, of a folder in HPatches layout."""
    extractor = get_extractor("samfeat", weights=weights, max_keypoints=KEYPOINTS)
    found = matching_accuracy(extractor, folder, KEYPOINTS, (1.0, 3.0, 5.0), show_progress=True)
    mma = dict(zip(("mma@1", "mma@3", "mma@5"), found["mma"], strict=True))
    return {**mma, "correct": found["correct"], "matches": found["matches"]}


def measure_localization(weights: str, name: str, data: Path, outputs: Path) -> dict[str, Any]:
    """What `pipelines.aachen` reports for each condition: queries, localized, recall at its thresholds, median errors.

    Args:
        weights: shipped name or a file.
        name: one of `SETS` that is not for matching.
        data: folder that has the sets.
        outputs: of the benchmark; worlds are written here once, and each weights' files beside them.
    """
    dataset, keypoints = data / name, None
    if name in TOWNS:
        dataset, keypoints = outputs / "worlds" / name, TOWN_KEYPOINTS
        write_town(dataset, seed=TOWNS[name])
    elif name in STRECHA:
        dataset = outputs / "worlds" / name
        if not dataset.is_dir():
            write_scene(data / STRECHA[name], dataset)
    where = outputs / Path(weights).stem / name
    report = run(Options(dataset=dataset, outputs=where, weights=weights, max_keypoints=keypoints, num_pictures=1))
    found: dict[str, Any] = report["features"]["samfeat"]
    return {key: value for key, value in found.items() if key in ("day", "night")}


def compare(weights: Sequence[str], sets: Sequence[str], data: Path, outputs: Path) -> dict[str, dict[str, Any]]:
    """Every set with every weights: set -> weights -> figures.

    Raises:
        InputError: unknown weights or set.
    """
    unknown = [name for name in sets if name not in SETS]
    if unknown:
        raise InputError(f"there is no set '{unknown[0]}'; expected some of {', '.join(SETS)}")
    digests = {name: file_sha256(find_weights(name)) for name in weights}
    found: dict[str, dict[str, Any]] = {}
    for name in sets:
        for one in weights:
            measure = (
                partial(measure_matching, one, data / name)
                if name in MATCHING
                else partial(measure_localization, one, name, data, outputs)
            )
            cached = outputs / "measured" / f"{name}-{digests[one][:16]}.json"
            found.setdefault(name, {})[one] = _cached(cached, measure)
    return found


def _cached(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if path.is_file():
        stored: dict[str, Any] = json.loads(path.read_text())
        return stored
    figures = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: one row a set and condition, one column a weights."""
    names = list(next(iter(found.values())))
    lines = ["| | | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for name, rows in found.items():
        if name in MATCHING:
            cells = (_matching_cell(rows[one]) for one in names)
            lines.append(f"| {name} | MMA@1 / @3 / @5, correct | " + " | ".join(cells) + " |")
            continue
        for condition in ("day", "night"):
            if all(condition in rows[one] for one in names):
                cells = (_localization_cell(rows[one][condition]) for one in names)
                queries = rows[names[0]][condition]["queries"]
                lines.append(f"| {name} | {condition} {queries} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _matching_cell(row: dict[str, Any]) -> str:
    return f"{row['mma@1']:.3f} / {row['mma@3']:.3f} / {row['mma@5']:.3f}, {row['correct']:.0f}"


def _localization_cell(row: dict[str, Any]) -> str:
    recall = " / ".join(f"{100 * value:.0f}" for value in row["recall"])
    if row["median_t_m"] is None:
        return recall
    return f"{recall}, median {1000 * row['median_t_m']:.0f} mm, {row['median_r_deg']:.3f}°"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="shipped names or files")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the sets of photographs")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/weights"))
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    found = compare(options.weights, options.sets, options.data, options.outputs)
    print(table(found))
    if options.json:
        command = f"python -m benchmarks.weights {shlex.join(sys.argv[1:])}"
        with replace_file(options.json) as path:
            path.write_text(json.dumps({"command": command, "sets": found}, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
