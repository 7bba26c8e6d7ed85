"""How well do matches tell where two cameras stand to each other? AUC of the relative pose error at 5, 10, 20 degrees.

    python -m benchmarks.relative_pose --dataset SCENE|RGBD_FOLDER|PAIRS.txt [...] --features samfeat sift peer.h5

The two cameras are calibrated. COLMAP's LO-RANSAC (pycolmap) estimates the essential matrix from the matches with the
settings of `RANSAC`, and its decomposition with most points before both cameras is the pose. A pair's error is the
larger of two angles: of the rotation, and between the directions of translation, where opposite directions count as
equal, as SuperGlue's evaluation has it; a pair without a pose has an infinite error. AUC@t is the area under the share
of pairs within an error, up to t, by trapezoids, over t (Sarlin et al., CVPR 2020).

See datasets/pose_pairs.py for what a data set is. Features are extracted once for each conf and weights, into OUTPUTS.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.pose_pairs import Matrix, PosePair, image_names, read_pose_pairs
from pipelines.cached_features import FeatureFile, labels_of, open_features
from pipelines.hpatches_protocol import best_features
from samfeat_hloc._pycolmap import HALF_PIXEL, FloatArray, pycolmap, to_colmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.matchers import Matcher, get_matcher, matcher_signature
from samfeat_hloc.progress import progress

THRESHOLDS_DEG = (5.0, 10.0, 20.0)
MAX_KEYPOINTS = 2048
RANSAC: dict[str, Any] = {
    "max_error": 1.0,  # pixels, Sampson distance
    "confidence": 0.9999,
    "min_num_trials": 1000,
    "max_num_trials": 10000,
    "random_seed": 0,
}


def pose_error(estimated: Matrix, true: Matrix) -> float:
    """The larger of the rotation's and the translation direction's error in degrees.

    Args:
        estimated: (3, 4) or (4, 4) cam1_from_cam0.
        true: the same.
    """
    turn = estimated[:3, :3] @ true[:3, :3].T
    sine = np.linalg.norm([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    rotation = np.degrees(np.arctan2(sine, np.trace(turn) - 1))  # arccos has no precision at small angles
    a, b = estimated[:3, 3], true[:3, 3]
    direction = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), abs(a @ b)))  # abs: opposite is equal
    return float(max(rotation, direction))


def pose_auc(errors: npt.ArrayLike, thresholds: Sequence[float] = THRESHOLDS_DEG) -> list[float]:
    """Area under the curve of recall over error, up to each threshold and divided by it; inf is never recalled."""
    ordered = np.sort(np.asarray(errors, np.float64))
    recall = np.arange(len(ordered) + 1) / max(1, len(ordered))
    edges = np.concatenate([[0.0], ordered])
    areas = []
    for threshold in thresholds:
        last = int(np.searchsorted(edges, threshold))
        x = np.concatenate([edges[:last], [threshold]])
        y = np.concatenate([recall[:last], recall[last - 1 : last]])
        areas.append(float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / threshold))
    return areas


def estimate_pose(points0: npt.ArrayLike, points1: npt.ArrayLike, pair: PosePair) -> tuple[FloatArray | None, int]:
    """The (3, 4) cam1_from_cam0 that matched keypoints (M, 2) give, None for none, and its number of inliers."""
    options = pycolmap.RANSACOptions()
    for name, value in RANSAC.items():
        setattr(options, name, value)
    found = pycolmap.estimate_essential_matrix(
        to_colmap(points0), to_colmap(points1), _camera(pair.intrinsics0), _camera(pair.intrinsics1), options
    )
    if found is None:
        return None, 0
    return np.asarray(found["cam2_from_cam1"].matrix()), int(found["num_inliers"])


def measure(file: FeatureFile, matcher: Matcher, pairs: Sequence[PosePair], max_keypoints: int) -> dict[str, Any]:
    """Figures of one features file and one matcher.

    Returns:
        "auc" at `THRESHOLDS_DEG`, "median_error_deg" (None when most pairs fail), "failed" (pairs without a pose),
        means of "keypoints", "matches" and "inliers", and "errors_deg" of each pair (None for no pose).
    """
    errors, counts = [], []
    with FeatureReader(file.path) as reader:
        desc = f"{file.label} {matcher.name}"
        for pair in progress(pairs, total=len(pairs), desc=desc, unit="pair"):
            first, second = (best_features(reader.read(name), max_keypoints) for name in (pair.name0, pair.name1))
            found = matcher(first, second).indices()
            pose, inliers = estimate_pose(first.keypoints[found[:, 0]], second.keypoints[found[:, 1]], pair)
            errors.append(float("inf") if pose is None else pose_error(pose, pair.cam1_from_cam0))
            counts.append(((len(first) + len(second)) / 2, len(found), inliers))
    median = float(np.median(errors))
    keypoints, matches, inlier_mean = np.mean(counts, axis=0)
    return {
        "features": file.label,
        "matcher": matcher.name,
        "auc": [round(value, 6) for value in pose_auc(errors)],
        "median_error_deg": round(median, 4) if np.isfinite(median) else None,
        "failed": int(np.isinf(errors).sum()),
        "keypoints": round(float(keypoints), 2),
        "matches": round(float(matches), 2),
        "inliers": round(float(inlier_mean), 2),
        "errors_deg": [round(error, 4) if np.isfinite(error) else None for error in errors],
        "made_with": file.signature,
        "matcher_conf": matcher_signature(matcher),
    }


def run(
    dataset: Path,
    features: Sequence[str],
    matchers: Sequence[str] = ("nn-mutual",),
    outputs: Path = Path("outputs/relative_pose"),
    images: Path | None = None,
    max_keypoints: int = MAX_KEYPOINTS,
    gap: int = 8,
    device: str | None = None,
) -> dict[str, Any]:
    """Measure every features file with every matcher on one data set.

    Raises:
        InputError: no pairs there, an unreadable image, or a features file without an image.
        ConfigError: an unknown conf or matcher, or max_keypoints below 1.
    """
    if max_keypoints < 1:
        raise ConfigError(f"max_keypoints is {max_keypoints}; expected at least 1")
    labels, chosen = labels_of(features), [get_matcher(name) for name in matchers]
    root, pairs = read_pose_pairs(dataset, images, gap)
    files = [
        open_features(specification, label, root, image_names(pairs), outputs / "features", max_keypoints, device)
        for specification, label in zip(features, labels, strict=True)
    ]
    return {
        "dataset": dataset.resolve().name,
        "pairs": [[pair.name0, pair.name1] for pair in pairs],
        "settings": {"max_keypoints": max_keypoints, "ransac": RANSAC, "thresholds_deg": list(THRESHOLDS_DEG)},
        "results": [measure(file, matcher, pairs, max_keypoints) for file in files for matcher in chosen],
    }


def _camera(intrinsics: Matrix) -> pycolmap.Camera:
    """A pinhole; the estimator does not look at the image's size."""
    x, y = intrinsics[0, 2] + HALF_PIXEL, intrinsics[1, 2] + HALF_PIXEL
    size = {"width": max(1, round(2 * x)), "height": max(1, round(2 * y))}
    return pycolmap.Camera(model="PINHOLE", params=[intrinsics[0, 0], intrinsics[1, 1], x, y], **size)


def table(report: dict[str, Any]) -> str:
    """One line for each features file and matcher."""
    heads = ["features", "matcher", *(f"AUC@{t:g}°" for t in THRESHOLDS_DEG)]
    heads += ["median", "no pose", "keypoints", "matches", "inliers"]
    rows = [heads]
    for result in report["results"]:
        median = result["median_error_deg"]
        rows.append(
            [
                result["features"],
                result["matcher"],
                *(f"{value:.3f}" for value in result["auc"]),
                "none" if median is None else f"{median:.2f}°",
                str(result["failed"]),
                *(f"{result[key]:.0f}" for key in ("keypoints", "matches", "inliers")),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{report['dataset']}, {len(report['pairs'])} pairs", *lines])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, nargs="+", required=True, help="scene or RGB-D folders, or pair lists")
    parser.add_argument("--images", type=Path, help="root of a pair list's names; default: the list's folder")
    parser.add_argument("--features", nargs="+", default=["samfeat"], help="confs, CONF:WEIGHTS, or features h5 files")
    parser.add_argument("--matcher", nargs="+", default=["nn-mutual"], help="matcher confs by name")
    parser.add_argument("--max-keypoints", type=int, default=MAX_KEYPOINTS, help="best keypoints used of each image")
    parser.add_argument("--gap", type=int, default=8, help="frames between the two of an RGB-D pair")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/relative_pose"), help="folder of the features")
    parser.add_argument("--device", help="of extractors with a network; default: CUDA where there is one")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    args = parser.parse_args()
    reports = []
    settings = (args.features, args.matcher, args.outputs, args.images, args.max_keypoints, args.gap, args.device)
    for dataset in args.dataset:
        reports.append(run(dataset, *settings))
        print(f"\n{table(reports[-1])}")
    if args.json:
        command = shlex.join(["python", "-m", "benchmarks.relative_pose", *sys.argv[1:]])
        with replace_file(args.json) as temporary:
            temporary.write_text(json.dumps({"command": command, "datasets": reports}, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
