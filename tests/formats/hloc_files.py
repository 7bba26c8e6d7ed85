"""The files of every stage written by hloc, or by us, from one small world; and a description of them, field by field.

    PYTHONPATH=HLOC python -m tests.formats.hloc_files

runs hloc (its head, on pycolmap 4) and records what it writes in `hloc_layouts.json`, for where hloc is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from samfeat_hloc import localize_sfm, pairs_from_exhaustive
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.formats.queries import write_queries
from tests.pipelines.wall import painted_wall
from tests.world import World, make_world, triangulate

RECORD = Path(__file__).with_name("hloc_layouts.json")


@dataclass(frozen=True)
class Files:
    """What one side wrote."""

    features: Path
    matches: Path
    pairs: Path
    model: Path
    poses: Path


def write_ours(world: World) -> Files:
    """Every stage of ours; features and matches are the world's."""
    triangulate(world)
    pairs_from_exhaustive.main(world.root / "pairs.txt", image_list=world.database)
    localize_sfm.main(
        world.sfm, world.queries, world.pairs_query, world.features, world.matches_query, world.root / "ours.txt"
    )
    return Files(world.features, world.matches_db, world.root / "pairs.txt", world.sfm, world.root / "ours.txt")


def write_by_hloc(world: World) -> Files:
    """Every stage of hloc: its SIFT on a picture, then matching, triangulation and localization of our features."""
    from hloc import extract_features, match_features, pairs_from_exhaustive, triangulation
    from hloc import localize_sfm as localize

    root = world.root / "hloc"
    (root / "images").mkdir(parents=True)
    Image.fromarray(np.ascontiguousarray(painted_wall(3, 4, 3))).save(root / "images/wall.png")
    queries = root / "queries.txt"
    write_queries(queries, world.queries)
    features = extract_features.main(extract_features.confs["sift"], root / "images", root)
    pairs_from_exhaustive.main(root / "pairs.txt", image_list=world.database)
    conf = match_features.confs["NN-mutual"]
    matches = match_features.main(conf, world.pairs_db, world.features, matches=root / "matches.h5")
    matches_query = match_features.main(conf, world.pairs_query, world.features, matches=root / "matches-query.h5")
    # without two-view estimation hloc writes its pairs as UNDEFINED, from which COLMAP 4 triangulates nothing
    triangulation.main(
        root / "sfm", world.reference, world.images, world.pairs_db, world.features, matches,
        estimate_two_view_geometries=True,
    )  # fmt: skip
    localize.main(root / "sfm", queries, world.pairs_query, world.features, matches_query, root / "poses.txt")
    return Files(features, matches, root / "pairs.txt", root / "sfm", root / "poses.txt")


def describe(files: Files, world: World) -> dict[str, str]:
    """Names, shapes, dtypes and conventions of all files, as flat text fields; every value is read off the files."""
    return {
        **_features(files.features),
        **_matches(files.matches, world),
        **_pairs(files.pairs),
        **_model(files.model, world),
        **_poses(files.poses, world),
    }


def _features(path: Path) -> dict[str, str]:
    with h5py.File(path, "r") as file:
        group = next(iter(_groups(file).values()))
        sizes = {group["keypoints"].shape[0]: "N", group["descriptors"].shape[0]: "D"}
        fields = _datasets("features", group, sizes)
        for name, value in group["keypoints"].attrs.items():
            fields[f"features.keypoints.attrs.{name}"] = f"{np.asarray(value).shape} {np.asarray(value).dtype.kind}"
        lengths = np.linalg.norm(group["descriptors"][()].astype(np.float64), axis=0)
        fields["features.descriptors are of unit length"] = str(bool(np.allclose(lengths, 1, atol=2e-3)))
        extent = group["keypoints"][()].max(axis=0) < group["image_size"][()]
        fields["features.keypoints are x, y below image_size w, h"] = str(bool(extent.all()))
    return fields


def _matches(path: Path, world: World) -> dict[str, str]:
    name0, name1 = world.database[:2]
    first, second = world.features_of[name0], world.features_of[name1]
    with h5py.File(path, "r") as file:
        groups = _groups(file)
        # hloc drops repeated pairs through a set, so either image may come first in its file
        both = {f"{a}/{b}".replace("db/", "db-"): (a, b) for a, b in ((name0, name1), (name1, name0))}
        key = next(key for key in both if key in groups)
        if both[key][0] == name1:
            first, second = second, first
        group = groups[key]
        fields = _datasets("matches", group, {len(first): "N0"})
        matches0, scores = group["matches0"][()], group["matching_scores0"][()]
    found = matches0 >= 0
    cosine = (first.descriptors[found] * second.descriptors[matches0[found]]).sum(axis=1)
    error = np.abs(scores[found].astype(np.float64) - (1 + cosine) / 2).max()
    fields["matches.key"] = "NAME0/NAME1, '/' in names as '-'"
    fields["matches.matches0 without a match"] = str(matches0.min())
    fields["matches.matching_scores0 is (1 + cosine) / 2"] = str(bool(error < 2e-3))
    fields["matches.matching_scores0 without a match"] = str(bool((scores[~found] == 0).all()))
    return fields


def _pairs(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    words = {len(line.split(" ")) for line in lines}
    return {"pairs.words of a line": str(sorted(words)), "pairs.first line": lines[0]}


def _model(path: Path, world: World) -> dict[str, str]:
    model = read_model(path)
    image = next(image for image in model.images.values() if image.name == world.database[0])
    seen = np.array([point.xy for point in image.points2D]) - world.features_of[image.name].keypoints
    fields = {
        "model.files": " ".join(sorted(file.name for file in path.iterdir() if file.is_file())),
        "model.images": " ".join(sorted(image.name for image in model.images.values())),
        "model.image id of db/0.jpg": str(image.image_id),
        "model.camera": next(camera.model.name for camera in model.cameras.values()),
        "model.points2D less keypoints": str(np.round(seen.mean(axis=0), 3).tolist()),
    }
    return fields | {"model.has points": str(len(model.points3D) > 100)}


def _poses(path: Path, world: World) -> dict[str, str]:
    rows = [line.split(" ") for line in path.read_text().splitlines()]
    truth = {query.name.rsplit("/", 1)[-1]: world.pose(query.name) for query in world.queries}
    near = [np.allclose(np.array(row[1:], float), truth[row[0].rsplit("/", 1)[-1]], atol=0.05) for row in rows]
    return {
        "poses.words of a line": str(sorted({len(row) for row in rows})),
        "poses.names": " ".join(row[0] for row in rows),
        "poses.are qw qx qy qz tx ty tz of cam_from_world": str(all(near)),
    }


def _datasets(kind: str, group: h5py.Group, sizes: Mapping[int, str]) -> dict[str, str]:
    fields = {}
    for name, data in group.items():
        shape = ", ".join(sizes.get(size, str(size)) for size in data.shape)
        fields[f"{kind}.{name}.shape"], fields[f"{kind}.{name}.dtype"] = shape, str(data.dtype)
    return fields


def _groups(file: h5py.File) -> dict[str, Any]:
    """Groups that hold datasets, by full name."""
    found: dict[str, Any] = {}

    def visit(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[item.parent.name.strip("/")] = item.parent

    file.visititems(visit)
    return found


def small_world(root: Path) -> World:
    """The world of these files."""
    return make_world(root, num_points=200, num_db=4, num_queries=2)


def main() -> None:
    """Record what hloc writes."""
    import hloc

    with tempfile.TemporaryDirectory() as folder:
        world = small_world(Path(folder) / "world")
        fields = describe(write_by_hloc(world), world)
    made_with = {
        "hloc": hloc.__version__,
        "pycolmap": pycolmap.__version__,
        "command": (__doc__ or "").split("\n")[2].strip(),
    }
    RECORD.write_text(json.dumps({"made_with": made_with, "fields": fields}, indent=1) + "\n")


if __name__ == "__main__":
    main()
