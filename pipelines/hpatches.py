"""HPatches, or any folder in its layout: how many matches are right, and how good a homography they give.

    python -m pipelines.hpatches --dataset DIR [DIR ...] --features samfeat sift peer.h5 --outputs OUT

D2-Net's protocol: the eight sequences it leaves out are left out when present, photographs at full size, mutual nearest
neighbours, mean matching accuracy (MMA) at 1 to 10 px over all pairs, AUC@5 = mean of MMA@1..5; the measurement is in
pipelines/hpatches_protocol.py, means and intervals in pipelines/hpatches_summary.py. D2-Net takes all keypoints of an
image; here it is the best 2,048 by score, the same for all features, unless --max-keypoints says otherwise.

--features takes extractor confs, CONF:WEIGHTS for other weights, and any features file in hloc's layout whose image
names are SEQUENCE/FILE. For each data set OUT gets NAME.json, NAME.md, NAME.png and NAME.pdf; OUT/features keeps what
was extracted, so that the command goes on where it was interrupted.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from datasets.hpatches import Sequence as ImageSequence
from pipelines.cached_features import FeatureFile, labels_of, open_features
from pipelines.common_options import pipeline_parser
from pipelines.hpatches_protocol import (
    CORNER_THRESHOLDS,
    CORRECT_AT,
    RANSAC,
    THRESHOLDS,
    SequenceResult,
    best_features,
    find_sequences,
    measure_sequence,
)
from pipelines.hpatches_report import draw_curves, markdown
from pipelines.hpatches_summary import RESAMPLES, SEED, pair_counts_differ, sequence_rows, summarize
from pipelines.results import write_text
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.matchers import Matcher, get_matcher, matcher_signature
from samfeat_hloc.progress import progress

logger = logging.getLogger(__name__)
MAX_KEYPOINTS = 2048


def run(
    dataset: Path | str,
    features: Sequence[str] = ("samfeat",),
    outputs: Path | str = "outputs/hpatches",
    max_keypoints: int = MAX_KEYPOINTS,
    matcher: str = "nn-mutual",
    name: str | None = None,
    device: str | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Measure several features on one data set and write its report.

    Args:
        dataset: folder of sequences, or one sequence.
        features: confs, CONF:WEIGHTS, or h5 files.
        outputs: folder of the report and of the extracted features.
        max_keypoints: best keypoints used of each image.
        matcher: conf by name; the protocol's is "nn-mutual".
        name: of the report's files; the folder's own when None.
        device: of extractors with a network.
        command: recorded in the report.

    Returns:
        what NAME.json has.

    Raises:
        InputError: no sequence, a damaged one, an image that cannot be read, or a features file without an image.
        ConfigError: an unknown conf or matcher, or max_keypoints below 1.
    """
    if max_keypoints < 1:
        raise ConfigError(f"max_keypoints is {max_keypoints}; expected at least 1")
    labels = labels_of(features)
    chosen = get_matcher(matcher)
    root, sequences = find_sequences(dataset)
    sizes = [_image_size(sequence.images[0]) for sequence in sequences]
    names = [_name(path) for sequence in sequences for path in sequence.images]
    name, output = name or Path(dataset).resolve().name, Path(outputs)
    files = [
        open_features(specification, label, root, names, output / "features", max_keypoints, device)
        for specification, label in zip(features, labels, strict=True)
    ]  # all inputs are checked before anything is measured
    summaries, rows, results = {}, {}, []
    for file in files:
        results = _measure(file, sequences, sizes, chosen, max_keypoints)
        summaries[file.label], rows[file.label] = summarize(results), sequence_rows(results)
    report = {
        "dataset": name,
        "command": command,
        "settings": {
            "max_keypoints": max_keypoints,
            "matcher": matcher_signature(chosen),
            "thresholds_px": list(THRESHOLDS),
            "correct_at_px": CORRECT_AT,
            "corner_thresholds_px": list(CORNER_THRESHOLDS),
            "homography_ransac": RANSAC,
            "bootstrap": {"over": "sequences", "resamples": RESAMPLES, "seed": SEED, "interval": 0.95},
        },
        "features": {
            file.label: {"made_with": file.signature, "sets": summaries[file.label], "sequences": rows[file.label]}
            for file in files
        },
    }
    table = markdown(name, summaries, pair_counts_differ(results))
    write_text(output / f"{name}.json", json.dumps(report, indent=1) + "\n")
    write_text(output / f"{name}.md", table)
    print(f"\n{table}")
    try:
        draw_curves(output / name, name, summaries)
    except MissingDependencyError as error:
        logger.warning("warning: %s", error)
    return report


def _measure(
    file: FeatureFile,
    sequences: Sequence[ImageSequence],
    sizes: Sequence[tuple[int, int]],
    matcher: Matcher,
    max_keypoints: int,
) -> list[SequenceResult]:
    results = []
    with FeatureReader(file.path) as reader:
        items = list(zip(sequences, sizes, strict=True))
        for sequence, size in progress(items, total=len(items), desc=file.label, unit="seq"):
            found = [best_features(reader.read(_name(path)), max_keypoints) for path in sequence.images]
            results.append(measure_sequence(sequence.name, found, sequence.homographies, matcher, size=size))
    return results


def _name(path: Path) -> str:
    """SEQUENCE/FILE."""
    return f"{path.parent.name}/{path.name}"


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height of the stored image, without decoding it."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # Pillow raises half a dozen types on damaged files
        raise InputError(f"{path} cannot be read as an image ({error}); replace the file") from None


def report_names(datasets: Sequence[Path]) -> list[str]:
    """A name for each data set's files: its folder's, with the parent's before it when two have one name."""
    folders = [folder.resolve() for folder in datasets]
    names = [folder.name for folder in folders]
    return [
        name if names.count(name) == 1 else f"{folder.parent.name}-{name}"
        for folder, name in zip(folders, names, strict=True)
    ]


def main() -> None:
    """Command line."""
    parser = pipeline_parser("pipelines.hpatches", __doc__)
    parser.add_argument("--dataset", type=Path, nargs="+", required=True, help="folders in HPatches layout")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/hpatches"), help="folder of the report")
    parser.add_argument("--features", nargs="+", default=["samfeat"], help="confs, CONF:WEIGHTS, or features h5 files")
    parser.add_argument("--max-keypoints", type=int, default=MAX_KEYPOINTS, help="best keypoints used of each image")
    parser.add_argument("--matcher", default="nn-mutual", help="matcher conf by name")
    parser.add_argument("--device", help="of extractors with a network; default: CUDA where there is one")
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "pipelines.hpatches", *sys.argv[1:]])
    for dataset, name in zip(args.dataset, report_names(args.dataset), strict=True):
        run(dataset, args.features, args.outputs, args.max_keypoints, args.matcher, name, args.device, command)


if __name__ == "__main__":
    run_cli(main)
