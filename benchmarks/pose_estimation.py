"""Which way to a pose finds most queries, and which calls wrong ones localized? On what a pipeline's run left.

    python -m pipelines.aachen --dataset south_building --features samfeat sift --outputs OUT
    python -m benchmarks.pose_estimation OUT/sift OUT/samfeat --dataset south_building --json FILE.json

Every variant gets the same correspondences: COLMAP's LO-RANSAC and refinement on all of them, where 12 inliers suffice,
as hloc does it, at three thresholds; and this program's, with parts of it changed. A pose is *wrong* when it is called
localized and is more than 5 m or 10 degrees off. Votes: how many retrieved images agree on a correspondence, and which
share of those is within 8 px of where the true pose puts it. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pipelines.aachen_stages import Files
from samfeat_hloc._pycolmap import (
    FloatArray,
    make_camera,
    pose_from_array,
    pose_to_array,
    pycolmap,
    read_model,
    to_colmap,
)
from samfeat_hloc.absolute_pose import PoseEstimate, PoseOptions, localize_from_matches
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.correspondences import MatchedImage, gather
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import read_pairs, retrieved
from samfeat_hloc.layout import CONDITIONS, AachenLayout
from samfeat_hloc.localization_inputs import matched_images
from samfeat_hloc.pose_evidence import reprojection_errors
from samfeat_hloc.progress import progress
from samfeat_hloc.scene import Scene

FINE = (0.25, 2.0)
COARSE = (5.0, 10.0)
RIGHT_PX = 8.0
MOST_VOTES = 5
SHARES = (0.1, 0.25, 0.5, 1.0)

BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Query:
    """One query's matches, as `localize_from_matches` takes them, with its true pose (7,) of cam_from_world."""

    keypoints: FloatArray
    matched: list[MatchedImage]
    camera: pycolmap.Camera
    truth: FloatArray


Estimate = Callable[[Query, Scene], PoseEstimate]


def plain(threshold_px: float) -> Estimate:
    """LO-RANSAC on all correspondences; 12 inliers are a localization."""

    def estimate(query: Query, scene: Scene) -> PoseEstimate:
        found = gather(query.matched)
        options = pycolmap.AbsolutePoseEstimationOptions()  # its own limits on trials, which RANSACOptions() has not
        options.ransac.max_error, options.ransac.random_seed, options.ransac.num_threads = threshold_px, 0, 1
        answer = pycolmap.estimate_and_refine_absolute_pose(
            query.keypoints[found.keypoints],
            scene.xyz(found.points3D),
            query.camera,
            estimation_options=options,
        )
        if answer is None or int(np.sum(answer["inlier_mask"])) < 12:
            return PoseEstimate("not verified")
        return PoseEstimate("localized", pose_to_array(answer["cam_from_world"]))

    return estimate


def ours(**changed: Any) -> Estimate:
    """This program's way, with some of `PoseOptions` changed."""
    options = PoseOptions(**changed)
    return lambda query, scene: localize_from_matches(query.keypoints, query.matched, scene, query.camera, options)


EACH_IMAGE = {"best_share": 1.0, "num_covisible": 0, "best_num_trials": 5000}
"""All correspondences of each image by itself, in place of the best-scored, also of several images together."""
SEEDS = 8
VARIANTS: dict[str, Estimate] = {
    "all correspondences, 12 px, 12 inliers suffice": plain(12.0),
    "the same at 8 px": plain(8.0),
    "the same at 4 px": plain(4.0),
    "all correspondences, 12 px, chance decides": ours(min_votes=1, best_num_trials=0),
    "agreed correspondences first, chance decides": ours(best_num_trials=0),
    "agreed correspondences, then all of each image, chance decides": ours(**EACH_IMAGE),
    "agreed correspondences, then the best-scored, chance decides (this program)": ours(),
    "this program, 5,000 trials": ours(max_num_trials=5000),
    "this program, Cauchy loss of 0.5 px": ours(loss_scale=0.5),
    "this program, refined within 4 px": ours(refine_thresh=4.0),
    "this program, refined within 12 px": ours(refine_thresh=12.0),
}


def read_queries(folder: Path, layout: AachenLayout, condition: str, scene: Scene) -> Iterator[Query]:
    """The queries of a condition, with the matches that a run of pipelines.aachen left in a folder.

    Raises:
        InputError: a file is missing, or the queries have no true poses.
    """
    files, truth = Files(folder), layout.true_poses()
    pairs = retrieved(read_pairs(files.pairs_query))
    with FeatureReader(files.features) as features, MatchReader(files.matches_query) as matches:
        for query in layout.queries(condition):
            if query.name not in truth:
                raise InputError(f"{layout.root} has no true pose of {query.name}; expected it in ground_truth.txt")
            used = [name for name in pairs.get(query.name, []) if name in scene]
            matched = [in_memory(image) for image in matched_images(matches, query.name, used, scene)]
            keypoints = to_colmap(features.read_keypoints(query.name))
            yield Query(keypoints, matched, make_camera(query.camera), np.asarray(truth[query.name]))


def in_memory(image: MatchedImage) -> MatchedImage:
    """The same with its scores read, for when the file is closed."""
    scores = image.scores()
    return image._replace(scores=lambda: scores)


def summary(found: list[tuple[PoseEstimate, FloatArray]], seconds: float) -> dict[str, Any]:
    """Counts and errors of one variant's answers, each with the true pose."""
    errors = [pose_errors(answer.pose, truth) for answer, truth in found if answer.pose is not None]
    fine = [t for t, r in errors if t <= FINE[0] and r <= FINE[1]]
    return {
        "queries": len(found),
        "localized": len(errors),
        "fine": len(fine),
        "wrong": sum(t > COARSE[0] or r > COARSE[1] for t, r in errors),
        "fine_mean_t_mm": round(1000 * float(np.mean(fine)), 2) if fine else None,
        "cpu_s": round(seconds, 2),
    }


def agreement(queries: list[Query], scene: Scene) -> dict[str, float]:
    """Share of right correspondences by number of votes, the last for that many and more."""
    votes, right = [], []
    for query in queries:
        found = gather(query.matched)
        errors = reprojection_errors(
            pose_from_array(query.truth), query.keypoints[found.keypoints], scene.xyz(found.points3D), query.camera
        )
        votes.append(np.minimum(found.votes, MOST_VOTES))
        right.append(errors <= RIGHT_PX)
    vote, hit = np.concatenate(votes), np.concatenate(right)
    return {str(n): round(float(hit[vote == n].mean()), 3) for n in range(1, MOST_VOTES + 1) if (vote == n).any()}


def right_by_score(queries: list[Query], scene: Scene) -> dict[str, float]:
    """Share of right correspondences among the best-scored tenth, quarter, half and all of each image's."""
    right: dict[float, list[BoolArray]] = {share: [] for share in SHARES}
    for query in queries:
        for image in query.matched:
            keypoints, points3D = image.correspondences()
            errors = reprojection_errors(
                pose_from_array(query.truth), query.keypoints[keypoints], scene.xyz(points3D), query.camera
            )
            hit = (errors <= RIGHT_PX)[np.argsort(-image.scores()[image.observing()], kind="stable")]
            for share, hits in right.items():
                hits.append(hit[: round(share * len(hit))])
    return {str(share): round(float(np.concatenate(hits).mean()), 3) for share, hits in right.items() if hits}


def evidence(found: list[tuple[PoseEstimate, FloatArray]]) -> dict[str, float | None]:
    """log10 of the expected false alarms: the weakest of the right poses, the strongest of the wrong ones."""
    right: list[float] = []
    wrong: list[float] = []
    for answer, truth in found:
        if answer.pose is not None:
            t, r = pose_errors(answer.pose, truth)
            (right if t <= FINE[0] and r <= FINE[1] else wrong).append(round(answer.log10_nfa, 1))
    return {"weakest_right": max(right, default=None), "strongest_wrong": min(wrong, default=None)}


def fine_by_seed(queries: list[Query], scene: Scene, changed: dict[str, Any]) -> list[int]:
    """Queries within (0.25 m, 2 degrees) with each of some seeds of LO-RANSAC."""
    found = []
    for seed in range(SEEDS):
        estimate = ours(seed=seed, **changed)
        found.append(summary([(estimate(query, scene), query.truth) for query in queries], 0.0)["fine"])
    return found


def measure(folder: Path, layout: AachenLayout) -> dict[str, Any]:
    """All variants on the run in a folder: condition -> variant -> figures."""
    scene = Scene(read_model(Files(folder).model))
    figures: dict[str, Any] = {}
    for condition in CONDITIONS:
        queries = list(read_queries(folder, layout, condition, scene))
        if not queries:
            continue
        rows: dict[str, Any] = {}
        for name, estimate in progress(
            VARIANTS.items(), total=len(VARIANTS), desc=f"{folder.name}, {condition}", unit="variant"
        ):
            start = time.process_time()
            found = [(estimate(query, scene), query.truth) for query in queries]
            rows[name] = summary(found, time.process_time() - start)
        sure = [ours(best_num_trials=0)(query, scene).log10_nfa <= PoseOptions.sure_log10_nfa for query in queries]
        doubtful = [query for query, known in zip(queries, sure, strict=True) if not known]
        ungated = ours(max_log10_nfa=98.0, min_inliers=1)
        figures[condition] = {
            "right_by_votes": agreement(queries, scene),
            "right_by_score": right_by_score(queries, scene),
            "in_doubt": {"queries": len(doubtful), "right_by_score": right_by_score(doubtful, scene)},
            "log10_false_alarms": evidence([(ungated(query, scene), query.truth) for query in queries]),
            "variants": rows,
            "fine_by_seed": {
                "then all of each image": fine_by_seed(queries, scene, EACH_IMAGE),
                "then the best-scored (this program)": fine_by_seed(queries, scene, {}),
            },
        }
    return figures


def table(found: dict[str, Any]) -> str:
    """Markdown: one row a variant."""
    lines = []
    columns = "fine, called localized, wrong, CPU s"
    for folder, conditions in found.items():
        lines.append(f"| {folder} | " + " | ".join(f"{condition}: {columns}" for condition in conditions) + " |")
        lines.append("|---" * (1 + len(conditions)) + "|")
        for name in VARIANTS:
            rows = [condition["variants"][name] for condition in conditions.values()]
            cells = (f"{r['fine']}, {r['localized']}, {r['wrong']}, {r['cpu_s']:.1f}" for r in rows)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
        for condition, row in conditions.items():
            for name, counts in row["fine_by_seed"].items():
                lines.append(f"{condition}, {name}: fine with {SEEDS} seeds {', '.join(map(str, counts))}")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="OUTPUTS/FEATURES of a run of pipelines.aachen")
    parser.add_argument("--dataset", type=Path, required=True, help="its dataset")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    layout = AachenLayout.find(options.dataset)
    found = {folder.name: measure(folder, layout) for folder in options.folders}
    print(table(found))
    if options.json:
        command = shlex.join(["python", "-m", "benchmarks.pose_estimation", *sys.argv[1:]])
        with replace_file(options.json) as path:
            path.write_text(json.dumps({"command": command, "sets": found}, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
