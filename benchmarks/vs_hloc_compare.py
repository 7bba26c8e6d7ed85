"""Do both sides of `benchmarks.vs_hloc` give the same? Matches, models, correspondences, poses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vs_hloc_setting import Files
from samfeat_hloc._pycolmap import FloatArray, IntArray, make_camera, pose_to_array, pycolmap, read_model, to_colmap
from samfeat_hloc.correspondences import gather
from samfeat_hloc.evaluation import pose_errors
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.matches import MatchReader
from samfeat_hloc.formats.pairs import read_pairs, retrieved
from samfeat_hloc.formats.poses import read_poses
from samfeat_hloc.formats.queries import read_queries
from samfeat_hloc.localization_inputs import matched_images
from samfeat_hloc.scene import Scene


def compare(files: Files) -> dict[str, Any]:
    """Compare what the first run of each side wrote, and hloc's correspondences with ours, solved alike."""
    ours, hloc = (lambda job: files.output("ours", job, 0)), (lambda job: files.output("hloc", job, 0))
    return {
        "matches": {
            name: compare_matches(ours(job) / "matches.h5", hloc("match") / "matches.h5", files.pairs)
            for name, job in (("by dot product", "match-dot"), ("by distance", "match"))
        },
        "models": {
            f"{side} {job}": statistics(folder)
            for job in ("triangulate", "triangulate-estimated")
            for side, folder in (("ours", ours(job) / "sfm"), ("hloc", hloc(job) / "sfm"))
            if folder.is_dir()
        },
        "correspondences": compare_correspondences(files, hloc("correspondences") / "correspondences.npz"),
        "poses": compare_poses(files),
    }


def compare_matches(ours: Path, hloc: Path, pair_list: Path) -> dict[str, Any]:
    """Pairs with the same matches, and matches that only one side has."""
    pairs = read_pairs(pair_list)
    equal = total = different = 0
    with MatchReader(ours) as first, MatchReader(hloc) as second:
        for pair in pairs:
            mine, his = ({(int(a), int(b)) for a, b in reader.read(*pair)[0]} for reader in (first, second))
            equal += mine == his
            total += len(mine)
            different += len(mine ^ his)
    return {"pairs": len(pairs), "equal_pairs": equal, "matches": total, "only_one_side": different}


def statistics(folder: Path) -> dict[str, Any]:
    """Figures of a model."""
    model = read_model(folder)
    return {
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "mean_track_length": round(model.compute_mean_track_length(), 3),
        "mean_reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
    }


def compare_correspondences(files: Files, hloc: Path) -> dict[str, Any]:
    """The correspondences of every query as both sides build them; COLMAP's solver on both, with one seed and order."""
    stored = np.load(hloc)
    pairs = retrieved(read_pairs(files.pairs_query))
    scene = Scene(read_model(files.model))
    queries = read_queries(files.queries)
    equal, errors_m, errors_deg = 0, [0.0], [0.0]
    with FeatureReader(files.features) as features, MatchReader(files.matches) as matches:
        for query in queries:
            found = gather(matched_images(matches, query.name, pairs[query.name], scene))
            keypoints, points3D = stored[f"{query.name}|keypoints"], stored[f"{query.name}|points3D"]
            order = np.lexsort((points3D, keypoints))
            same = np.array_equal(found.keypoints, keypoints[order]) and np.array_equal(found.points3D, points3D[order])
            equal += same
            camera = make_camera(query.camera)
            points2D = to_colmap(features.read_keypoints(query.name))[found.keypoints]
            mine = solve(points2D, found.points3D, scene, camera)
            his = solve(stored[f"{query.name}|points2D"][order], points3D[order], scene, camera)
            if (mine is None) != (his is None):
                errors_m.append(np.inf)
            elif mine is not None and his is not None:
                error_m, error_deg = pose_errors(mine, his)
                errors_m.append(error_m)
                errors_deg.append(error_deg)
    return {
        "queries": len(queries),
        "equal_correspondences": equal,
        "largest_difference_mm": 1000 * max(errors_m),
        "largest_difference_deg": max(errors_deg),
    }


def solve(points2D: FloatArray, ids: IntArray, scene: Scene, camera: pycolmap.Camera) -> FloatArray | None:
    """hloc's call of COLMAP's solver, with a seed."""
    if not len(ids):
        return None
    options = pycolmap.AbsolutePoseEstimationOptions(ransac=pycolmap.RANSACOptions(max_error=12.0, random_seed=0))
    found = pycolmap.estimate_and_refine_absolute_pose(points2D, scene.xyz(ids), camera, options)
    return None if found is None else pose_to_array(found["cam_from_world"])


def compare_poses(files: Files) -> dict[str, Any]:
    """What each side wrote in the end: against the truth where there is one, and against each other."""
    truth = read_poses(files.truth) if files.truth.is_file() and files.truth.stat().st_size else {}
    jobs = {"hloc": ("hloc", "localize"), "ours": ("ours", "localize"), "ours, plain": ("ours", "localize-plain")}
    poses = {name: read_poses(files.output(*job, 0) / "poses.txt") for name, job in jobs.items()}
    figures: dict[str, Any] = {}
    for name, found in poses.items():
        entry: dict[str, Any] = {"poses": len(found)}
        for other, reference in (("truth", truth), ("hloc", poses["hloc"])):
            common = [query for query in found if query in reference]
            if common and other != name:
                errors = np.array([pose_errors(found[query], reference[query]) for query in common])
                entry[f"median_to_{other}_mm"], entry[f"median_to_{other}_deg"] = [
                    round(float(value), 4) for value in np.median(errors, axis=0) * [1000, 1]
                ]
                entry[f"largest_to_{other}_mm"] = round(float(errors[:, 0].max()) * 1000, 3)
        figures[name] = entry
    return figures
