"""Which solver finds a query's pose? COLMAP's as hloc calls it, ours, and PoseLib's, on the same correspondences.

    pip install poselib
    python -m benchmarks.vs_hloc_solvers outputs/vs_hloc/SETTING --noise 0 0.5 0.8 --json solvers.json

On the inputs that `benchmarks.vs_hloc` has prepared. Solvers take turns, query by query, several times; processor
milliseconds a query (median of the rounds' means), and the shares of queries within 5 cm and 25 cm of the truth. With
`--noise S` so many correspondences of random keypoints and points are added that they are the share S of all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vs_hloc_compare import solve
from benchmarks.vs_hloc_setting import Files
from samfeat_hloc._pycolmap import FloatArray, IntArray, make_camera, pose_to_array, pycolmap, read_model, to_colmap
from samfeat_hloc.absolute_pose import PoseOptions, best_candidate
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.correspondences import gather
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError, run_cli
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import read_pairs, retrieved
from samfeat_hloc.formats.poses import read_poses
from samfeat_hloc.formats.queries import read_queries
from samfeat_hloc.localization_inputs import matched_images
from samfeat_hloc.scene import Scene

WITHIN_M = (0.05, 0.25)
MAX_ERROR_PX = 12.0


@dataclass(frozen=True)
class Problem:
    """One query: (C, 2) pixels as COLMAP counts them, (C,) ids of points and votes of images, camera, (7,) truth."""

    points2D: FloatArray
    ids: IntArray
    votes: IntArray
    camera: pycolmap.Camera
    truth: FloatArray


def problems(files: Files, noise: float, seed: int = 0) -> tuple[Scene, list[Problem]]:
    """The queries with a true pose, as our localization builds their correspondences.

    Args:
        files: inputs of a setting, prepared.
        noise: share of all correspondences that are random ones, in [0, 1).
        seed: of the random ones.

    Raises:
        InputError: nothing prepared there, or no query has a true pose.
        ConfigError: a share out of range.
    """
    if not 0 <= noise < 1:
        raise ConfigError(f"--noise is {noise}; expected a share in [0, 1)")
    if not files.plan.is_file():
        raise InputError(
            f"{files.root} has no inputs/plan.json; run python -m benchmarks.vs_hloc first, give its folder"
        )
    scene, pairs = Scene(read_model(files.model)), retrieved(read_pairs(files.pairs_query))
    truth, ids = read_poses(files.truth), np.array(sorted(read_model(files.model).points3D), np.int64)
    rng = np.random.default_rng(seed)
    found = []
    with FeatureReader(files.features) as features, MatchReader(files.matches) as matches:
        for query in read_queries(files.queries):
            pose = truth.get(query.name.rsplit("/", 1)[-1])
            if pose is None:
                continue
            known = gather(matched_images(matches, query.name, pairs[query.name], scene))
            points2D = to_colmap(features.read_keypoints(query.name))
            added = round(len(known) * noise / (1 - noise))
            keypoints = np.concatenate([known.keypoints, rng.integers(0, len(points2D), added)])
            points3D = np.concatenate([known.points3D, rng.choice(ids, added)])
            votes = np.concatenate([known.votes, np.ones(added, known.votes.dtype)])
            found.append(Problem(points2D[keypoints], points3D, votes, make_camera(query.camera), pose))
    if not found:
        raise InputError(
            f"none of the queries of {files.queries} has a pose in {files.truth}; take a dataset with poses"
        )
    return scene, found


def by_colmap(problem: Problem, scene: Scene) -> FloatArray | None:
    """hloc's call, with a seed."""
    return solve(problem.points2D, problem.ids, scene, problem.camera)


def by_ours(problem: Problem, scene: Scene) -> FloatArray | None:
    """The stage's estimate: COLMAP's solver on agreed correspondences first, then refinement and evidence."""
    found = best_candidate(problem.points2D, scene.xyz(problem.ids), problem.votes, problem.camera, PoseOptions())
    return None if found is None else pose_to_array(found.cam_from_world)


def by_poselib(problem: Problem, scene: Scene) -> FloatArray | None:
    """PoseLib's LO-RANSAC with its own refinement, at the threshold of the others.

    Raises:
        MissingDependencyError: PoseLib is not installed.
    """
    try:
        import poselib
    except ImportError:
        raise MissingDependencyError("PoseLib is not installed; run: pip install poselib") from None
    camera = problem.camera
    given = {"model": camera.model_name, "width": camera.width, "height": camera.height, "params": list(camera.params)}
    if len(problem.ids) < 3:
        return None
    pose, info = poselib.estimate_absolute_pose(
        problem.points2D,
        scene.xyz(problem.ids),
        given,
        {"max_reproj_error": MAX_ERROR_PX, "max_iterations": 10_000},
        {},
    )
    return np.concatenate([pose.q, pose.t]) if info["num_inliers"] else None


SOLVERS: dict[str, Callable[[Problem, Scene], FloatArray | None]] = {
    "COLMAP's, as hloc": by_colmap,
    "ours": by_ours,
    "PoseLib's": by_poselib,
}


def measure(files: Files, noise: float, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Processor milliseconds a query, and shares within `WITHIN_M` of the truth, by solver.

    PoseLib is left out where it is not installed.

    Raises:
        InputError: as of `problems`.
        ConfigError: no round, or a bad share.
    """
    if rounds < 1:
        raise ConfigError(f"--rounds is {rounds}; expected at least 1")
    scene, queries = problems(files, noise)
    solvers = dict(SOLVERS)
    try:
        by_poselib(queries[0], scene)
    except MissingDependencyError as error:
        print(f"{error}; measured without it")
        del solvers["PoseLib's"]
    spent: dict[str, list[float]] = {name: [] for name in solvers}
    errors: dict[str, list[float]] = {name: [] for name in solvers}
    for number in range(rounds):
        took = dict.fromkeys(solvers, 0.0)
        for query in queries:
            for name, solver in solvers.items():
                start = time.process_time()
                pose = solver(query, scene)
                took[name] += time.process_time() - start
                if number == 0:
                    errors[name].append(np.inf if pose is None else pose_errors(pose, query.truth)[0])
        for name, seconds in took.items():
            spent[name].append(1000 * seconds / len(queries))
    return {
        name: {
            "cpu_ms": float(np.median(spent[name])),
            **{
                f"within_{round(100 * limit)}_cm": float(np.mean(np.array(errors[name]) <= limit)) for limit in WITHIN_M
            },
            "median_mm": 1000 * float(np.median(errors[name])),
        }
        for name in solvers
    }


def format_report(report: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A Markdown table."""
    lines = [
        "| random correspondences | solver | CPU ms a query | within 5 cm | 25 cm | median |",
        "|---|---|---|---|---|---|",
    ]
    for noise, found in report.items():
        for name, row in found.items():
            shares = " | ".join(f"{100 * row[f'within_{round(100 * limit)}_cm']:.0f} %" for limit in WITHIN_M)
            lines.append(
                f"| {100 * float(noise):.0f} % | {name} | {row['cpu_ms']:.1f} | {shares} | {row['median_mm']:.1f} mm |"
            )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of one setting of benchmarks.vs_hloc, with its inputs")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.5, 0.8], help="%(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    report: dict[str, Any] = {
        str(noise): measure(Files(options.folder), noise, options.rounds) for noise in options.noise
    }
    print(format_report(report))
    if options.json:
        with replace_file(options.json) as path:
            path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
