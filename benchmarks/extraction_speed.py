"""How long does one 640x480 photograph take, in which setting, and what accuracy does that setting keep?

    python -m benchmarks.extraction_speed --data HOMOGRAPHY --json OUT.json
    python -m benchmarks.extraction_speed --data HOMOGRAPHY --weights W.safetensors --settings "inference bfloat16"

Seconds are wall time from a decoded image in memory to its features (network, suppression, best points, sub-pixel fit,
descriptors), the median over rounds in which all settings take turns. Accuracy is benchmarks/matching_accuracy.py's
on the same folder. Whole loops, from files on the disk to a features file, ours and hloc's (where hloc can be imported:
put it on PYTHONPATH), run in processes of their own.

The file is written after every figure. Accuracy that it has by the same weights is not measured again; seconds are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.extraction_loops import LOOPS
from benchmarks.extraction_settings import BASELINE, MAIN, SETTINGS, Place
from benchmarks.matching_accuracy import matching_accuracy
from pipelines.hpatches_protocol import find_sequences
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError, SamfeatError, run_cli
from samfeat_hloc.images import read_image
from samfeat_hloc.progress import progress

SIZE = (640, 480)
SLOWER_LOOP = "hloc plain"
SAME_FEATURES = {
    "hloc plain": "plain float32 NCHW", "hloc float32": "inference float32", "hloc": "inference bfloat16",
    "ours": "inference bfloat16", "ours int8": "inference int8",
}  # fmt: skip
"""The setting whose accuracy a loop's features have."""

Image = npt.NDArray[np.uint8]


def small_images(data: Path) -> list[Image]:
    """The photographs of a folder of homography sequences, as 640x480."""
    paths = [path for sequence in find_sequences(data)[1] for path in sequence.images]
    return [cv2.resize(read_image(path)[0], SIZE, interpolation=cv2.INTER_AREA) for path in paths]


def take_turns(extractors: dict[str, Any], images: Sequence[Image], rounds: int) -> dict[str, dict[str, float]]:
    """`summary` of each extractor over the rounds, one image a round, the same for all; the first call is not counted.

    "processor_s" is the median time of all threads together, which other programs on the machine hardly disturb.
    """
    seconds: dict[str, list[float]] = {name: [] for name in extractors}
    processor: dict[str, list[float]] = {name: [] for name in extractors}
    for extractor in progress(extractors.values(), total=len(extractors), desc="warm-up", unit="setting"):
        extractor(images[0])
    for number in progress(range(rounds), total=rounds, desc="seconds", unit="round"):
        for name, extractor in extractors.items():
            start, busy = time.perf_counter(), time.process_time()
            extractor(images[number % len(images)])
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - busy)
    return {
        name: {**summary(seconds[name]), "processor_s": round(float(np.median(processor[name])), 4)}
        for name in extractors
    }


def whole_loops(names: Sequence[str], images: Sequence[Image], place: Place, rounds: int) -> dict[str, Any]:
    """Seconds per image of each loop, or why it did not run; the loops take turns."""
    folder = place.folder / "images"
    folder.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:03d}.png"), image[:, :, ::-1])
    results: dict[str, Any] = {name: [] for name in names}
    for _ in progress(range(rounds), total=rounds, desc="loops", unit="round"):
        for name in names:
            if isinstance(results[name], str):
                continue
            command = [sys.executable, "-m", "benchmarks.extraction_loops", name, str(folder), str(place.max_keypoints)]
            done = subprocess.run(
                [*command, *([place.weights] if place.weights else [])], capture_output=True, text=True, check=False
            )
            if done.returncode:
                results[name] = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            else:
                results[name].append(json.loads(done.stdout.splitlines()[-1])["seconds"])
    return results


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and extremes."""
    return {
        "seconds": round(float(np.median(seconds)), 4), "fastest": round(min(seconds), 4),
        "slowest": round(max(seconds), 4), "runs": len(seconds),
    }  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """The table."""
    settings, loops = report["settings"], report["loops"]
    lines = [
        "| setting | s per image | processor s | faster than plain float32 | MMA@1 | MMA@3 | correct | keypoints |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, row, settings.get(BASELINE), row.get("accuracy")) for name, row in settings.items()]
    if loops:
        lines += [
            "",
            f"| loop, files to file | s per image | | faster than {SLOWER_LOOP} | MMA@1 | MMA@3 | correct | |",
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for name, row in loops.items():
            accuracy = settings.get(SAME_FEATURES[name], {}).get("accuracy")
            lines.append(_row(name, row, loops.get(SLOWER_LOOP), accuracy))
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any], slower: dict[str, Any] | None, accuracy: dict[str, Any] | None) -> str:
    if "reason" in row:
        return f"| {name} | not run: {row['reason']} | | | | | | |"
    ratio = f"{slower['seconds'] / row['seconds']:.2f}" if slower and "seconds" in slower else "-"
    processor = f"{row['processor_s']:.3f}" if "processor_s" in row else ""
    cells = [name, f"{row['seconds']:.3f}", processor, ratio]
    if accuracy:
        mma = dict(zip(accuracy["thresholds"], accuracy["mma"], strict=True))
        cells += [f"{mma[1.0]:.3f}", f"{mma[3.0]:.3f}", f"{accuracy['correct']:.1f}", f"{accuracy['keypoints']:.0f}"]
    else:
        cells += ["-"] * 4
    return "| " + " | ".join(cells) + " |"


def main(
    data: Path,
    output: Path | None = None,
    weights: str | None = None,
    settings: Sequence[str] = tuple(MAIN),
    loops: Sequence[str] = LOOPS,
    max_keypoints: int = 2048,
    rounds: int = 15,
    accuracy: bool = True,
) -> dict[str, Any]:
    """Measure everything; a setting that cannot run has a "reason" in place of figures.

    Raises:
        ConfigError: an unknown setting or loop, or no rounds.
        InputError: no sequences in `data`, or no such weights.
    """
    unknown = [name for name in (*settings, *loops) if name not in SETTINGS and name not in LOOPS]
    if unknown:
        raise ConfigError(f"there is no setting '{unknown[0]}'; known: {', '.join((*SETTINGS, *LOOPS))}")
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; expected at least 1")
    images = small_images(data)
    known = {"weights_sha256": load_weights(weights).sha256, "data": str(data), "max_keypoints": max_keypoints}
    before = json.loads(output.read_text()) if output and output.is_file() else {}
    measured = before.get("settings", {}) if {key: before.get(key) for key in known} == known else {}
    report: dict[str, Any] = {**known, "machine": _machine(), "size": list(SIZE), "settings": {}, "loops": {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(weights, max_keypoints, Path(folder))
        extractors: dict[str, Any] = {}
        for name in settings:
            report["settings"][name] = {}
            try:
                extractors[name] = SETTINGS[name](place)
            except SamfeatError as error:
                report["settings"][name] = {"reason": str(error)}
        for name, taken in take_turns(extractors, images, rounds).items():
            report["settings"][name] = taken
        _save(report, output)
        for name, taken in whole_loops(loops, images, place, max(1, rounds // 5)).items():
            report["loops"][name] = {"reason": taken} if isinstance(taken, str) else summary(taken)
            _save(report, output)
        for name, extractor in extractors.items() if accuracy else ():
            found = measured.get(name, {}).get("accuracy")
            report["settings"][name]["accuracy"] = found or matching_accuracy(
                extractor, data, max_keypoints, show_progress=True
            )
            _save(report, output)
    return report


def _save(report: dict[str, Any], output: Path | None) -> None:
    if output:
        with replace_file(output) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else "unknown", "threads": torch.get_num_threads(), "torch": torch.__version__}


def _cli() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="homography sequences in HPatches layout")
    parser.add_argument("--json", type=Path, help="write all figures here, and go on from it")
    parser.add_argument("--weights", help="name of shipped weights or a checkpoint; the shipped default")
    known = ", ".join(SETTINGS)
    parser.add_argument("--settings", nargs="*", default=list(MAIN), help=f"of {known}; none: only the loops")
    parser.add_argument("--loops", nargs="*", default=list(LOOPS))
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-accuracy", action="store_true")
    args = parser.parse_args()
    report = main(
        args.data, args.json, args.weights, args.settings, args.loops, args.max_keypoints,
        args.rounds, not args.no_accuracy,
    )  # fmt: skip
    print(markdown(report))


if __name__ == "__main__":
    run_cli(_cli)
