"""Does VLAD find the database images that are near a query? Recall and precision by reference poses.

    python -m benchmarks.retrieval --data DIR --features features.h5 --words 64 128 256 512

DIR is in the Aachen v1.1 layout with `ground_truth.txt`; features.h5 has its database and query images. A database
image counts as near when its camera is within `--distance` metres and its optical axis within `--angle` degrees of the
query's. R@k is the share of queries with a near image among the first k, P@k the share of near images among them.

The default of 256 words was chosen on frames of a training folder (RGB-D, odd frames as queries, darkened), RootSIFT,
two seeds, P@10 of the dark queries: 32 words 0.47, 64 0.51, 128 0.56, 256 0.61, 512 0.66.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.formats.poses import read_poses
from samfeat_hloc.vlad import Codebook, VLADConf

RANKS = (1, 5, 10)
FloatArray = npt.NDArray[np.float64]


def near(query: FloatArray, database: FloatArray, distance_m: float, angle_deg: float) -> npt.NDArray[np.bool_]:
    """(N,) which of the (N, 3, 4) cam_from_world of the database are near the (3, 4) one of the query."""
    centres = -np.einsum("nji,nj->ni", database[:, :, :3], database[:, :, 3])
    centre = -query[:, :3].T @ query[:, 3]
    cosine = database[:, 2, :3] @ query[2, :3]
    close: npt.NDArray[np.bool_] = np.linalg.norm(centres - centre, axis=1) < distance_m
    return close & (cosine > np.cos(np.deg2rad(angle_deg)))


def rank(reader: FeatureReader, codebook: Codebook, queries: list[str], database: list[str]) -> npt.NDArray[np.int64]:
    """(Q, N) database images by descending similarity."""
    rows = np.stack([codebook.encode(reader.read(name)) for name in queries])
    columns = np.stack([codebook.encode(reader.read(name)) for name in database])
    order: npt.NDArray[np.int64] = np.argsort(-(rows @ columns.T), axis=1, kind="stable")
    return order


def _matrices(data: Path) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """cam_from_world (3, 4) of the database and of the queries."""
    from samfeat_hloc._pycolmap import pose_from_array, read_model

    folders = [data / "3D-models" / "aachen_v_1_1", data / "3D-models"]
    model = read_model(next((folder for folder in folders if folder.is_dir()), folders[0]))
    database = {image.name: image.cam_from_world().matrix() for image in model.images.values()}
    poses = read_poses(data / "ground_truth.txt")
    return database, {name: pose_from_array(pose).matrix() for name, pose in poses.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset in the Aachen v1.1 layout")
    parser.add_argument("--features", type=Path, required=True, help="features.h5 of its images")
    parser.add_argument("--words", type=int, nargs="+", default=[VLADConf().words])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--distance", type=float, default=8.0, help="metres")
    parser.add_argument("--angle", type=float, default=45.0, help="degrees between optical axes")
    args = parser.parse_args()
    poses, query_poses = _matrices(args.data)
    if not query_poses:
        raise InputError(f"{args.data}/ground_truth.txt has no query; expected lines 'NAME qw qx qy qz tx ty tz'")
    database = sorted(poses)
    matrices = np.stack([poses[name] for name in database])
    with FeatureReader(args.features) as reader:
        check_known([*database, *query_poses], reader.names, str(args.data), str(args.features))
        for words in args.words:
            codebook = Codebook.train(args.features, database, VLADConf(words=words, seed=args.seed))
            for part in ("day", "night"):
                queries = [name for name in query_poses if part in name]
                if not queries:
                    continue
                order = rank(reader, codebook, queries, database)
                truth = np.stack([near(query_poses[n], matrices, args.distance, args.angle) for n in queries])
                hits = np.take_along_axis(truth, order, axis=1)
                cells = [f"R@{k} {hits[:, :k].any(axis=1).mean():.2f} P@{k} {hits[:, :k].mean():.3f}" for k in RANKS]
                print(f"{words:5d} words  {part:5s}  {len(queries):3d} queries  {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    run_cli(main)
