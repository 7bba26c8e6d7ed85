"""Which extractor finds the same points again, and how exactly? D2-Net's protocol on folders in HPatches layout.

Mutual nearest neighbours among the 2048 best keypoints of each image, measured as pipelines/hpatches_protocol.py says;
a sequence has the mean over its pairs, the summary the mean over sequences. `correct` is the mean number of matches
within 3 px. Features are held in memory; `python -m pipelines.hpatches` is the whole protocol, resumable.

    python -m benchmarks.matching_accuracy --data DIR... --features samfeat sift --json OUT.json

Expected of RootSIFT on this project's test folders: `homography` MMA@1/3/5 0.391/0.545/0.565 with 537 correct
matches a pair, `webcam` MMA@3 0.093 with 64.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np

from datasets.hpatches import Sequence
from pipelines.hpatches_protocol import THRESHOLDS, best_features, find_sequences, measure_sequence
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import run_cli
from samfeat_hloc.extractors import Extractor, get_extractor
from samfeat_hloc.images import read_image
from samfeat_hloc.matchers import Matcher, get_matcher
from samfeat_hloc.progress import progress


def sequence_accuracy(
    extractor: Extractor,
    sequence: Sequence,
    max_keypoints: int = 2048,
    thresholds: Seq[float] = THRESHOLDS,
    matcher: Matcher | None = None,
) -> dict[str, Any]:
    """Accuracy on one sequence.

    Returns:
        "mma": list over thresholds, "keypoints", "matches", "correct" (at 3 px): means over images or pairs.
    """
    matcher = matcher or get_matcher("nn-mutual")
    features = [best_features(extractor(read_image(path)[0]), max_keypoints) for path in sequence.images]
    result = measure_sequence(sequence.name, features, sequence.homographies, matcher, thresholds)
    return {
        "name": sequence.name,
        "mma": np.mean([pair.accuracy for pair in result.pairs], axis=0).tolist(),
        "keypoints": float(np.mean(result.keypoints)),
        "matches": float(np.mean([pair.matches for pair in result.pairs])),
        "correct": float(np.mean([pair.correct for pair in result.pairs])),
    }


def matching_accuracy(
    extractor: Extractor,
    folder: Path | str,
    max_keypoints: int = 2048,
    thresholds: Seq[float] = THRESHOLDS,
    matcher: Matcher | None = None,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Accuracy on all sequences of a folder in HPatches layout, or on the one sequence that `folder` is.

    Args:
        extractor: anything that maps (H, W, 3) uint8 RGB to `Features`, best score first.
        folder: of sequences.
        max_keypoints: best keypoints used of each image.
        thresholds: in pixels.
        matcher: mutual nearest neighbour when None.
        show_progress: on stderr.

    Returns:
        "thresholds", "mma" (list), "keypoints", "matches", "correct": means over sequences; and "sequences", the same
        for each.

    Raises:
        InputError: no sequence in the folder, or a damaged one.
    """
    _, sequences = find_sequences(folder)
    items = progress(sequences, total=len(sequences), desc=extractor.name, unit="seq") if show_progress else sequences
    rows = [sequence_accuracy(extractor, s, max_keypoints, thresholds, matcher) for s in items]
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("keypoints", "matches", "correct")}
    mma = np.mean([row["mma"] for row in rows], axis=0).tolist()
    return {"thresholds": list(thresholds), "mma": mma, **means, "sequences": rows}


def _print_table(folder: Path, results: dict[str, dict[str, Any]]) -> None:
    print(f"\n{folder}")
    print(f"{'':24s}{'':12s}{'MMA@1':>8s}{'@3':>8s}{'@5':>8s}{'@10':>8s}{'keypts':>8s}{'matches':>9s}{'correct':>9s}")
    for name, result in results.items():
        for row in [*result["sequences"], {**result, "name": "mean"}]:
            mma = dict(zip(result["thresholds"], row["mma"], strict=True))
            cells = "".join(f"{mma[t]:8.3f}" for t in (1.0, 3.0, 5.0, 10.0))
            counts = f"{row['keypoints']:8.0f}{row['matches']:9.1f}{row['correct']:9.1f}"
            print(f"{row['name'][:23]:24s}{name[:11]:12s}{cells}{counts}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders in HPatches layout")
    parser.add_argument("--features", nargs="+", default=["sift"], help="extractor confs by name")
    parser.add_argument("--matcher", default="nn-mutual", help="matcher conf by name")
    parser.add_argument("--max-keypoints", type=int, default=2048)
    parser.add_argument("--json", type=Path, help="also write all figures here")
    args = parser.parse_args()
    matcher = get_matcher(args.matcher)
    report: dict[str, Any] = {}
    for folder in args.data:
        results = {}
        for name in args.features:
            extractor = get_extractor(name, max_keypoints=args.max_keypoints)
            results[name] = matching_accuracy(
                extractor, folder, args.max_keypoints, matcher=matcher, show_progress=True
            )
        _print_table(folder, results)
        report[str(folder)] = results
    if args.json:
        with replace_file(args.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
