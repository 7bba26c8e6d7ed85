"""A small world with exact cameras: points on walls, features with noise and clutter, files of every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samfeat_hloc import match_features, triangulation
from samfeat_hloc._pycolmap import IntArray, from_colmap, pose_to_array, pycolmap
from samfeat_hloc.correspondences import MatchedImage
from samfeat_hloc.formats.features import Features, FeatureWriter
from samfeat_hloc.formats.pairs import write_pairs
from samfeat_hloc.formats.queries import Query, QueryCamera

WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
PARAMS = (FOCAL, WIDTH / 2, HEIGHT / 2, -0.02)
CAMERA = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=list(PARAMS), camera_id=7)
QUERY_CAMERA = QueryCamera("SIMPLE_RADIAL", WIDTH, HEIGHT, PARAMS)
DIMENSION = 32
CONF = {"name": "synthetic"}


def look_at(centre: npt.ArrayLike, target: npt.ArrayLike) -> pycolmap.Rigid3d:
    """cam_from_world of a camera at `centre` that looks at `target`, y down."""
    centre, target = np.asarray(centre, float), np.asarray(target, float)
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ centre)


def make_points(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(count, 3) points on three walls around z = 8 m."""
    wall = rng.integers(0, 3, count)
    across, up = rng.uniform(-4, 4, count), rng.uniform(-2.5, 2.5, count)
    x = np.choose(wall, [across, np.full(count, -4.0), np.full(count, 4.0)])
    z = np.choose(wall, [np.full(count, 9.0), 5 + (across + 4) / 2, 5 + (across + 4) / 2])
    return np.column_stack([x, up, z])


@dataclass
class World:
    """Paths and truth of one synthetic world."""

    root: Path
    points: npt.NDArray[np.float64]
    poses: dict[str, pycolmap.Rigid3d]
    database: list[str]
    queries: list[Query]
    features_of: dict[str, Features]
    point_of: dict[str, npt.NDArray[np.int64]]

    def __getattr__(self, name: str) -> Path:
        files = {
            "reference": "reference",
            "images": "images",
            "features": "features.h5",
            "pairs_db": "pairs-db.txt",
            "pairs_query": "pairs-query.txt",
            "matches_db": "matches-db.h5",
            "matches_query": "matches-query.h5",
            "sfm": "sfm",
            "poses_file": "poses.txt",
        }
        if name not in files:
            raise AttributeError(name)
        return self.root / files[name]

    def pose(self, name: str) -> npt.NDArray[np.float64]:
        """(7,) true pose."""
        return pose_to_array(self.poses[name])


def make_world(
    root: Path, *, num_points: int = 500, num_db: int = 8, num_queries: int = 4, noise_px: float = 0.3, seed: int = 0
) -> World:
    """Write a reference model with poses, features, pairs and matches; no triangulation yet."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    points = make_points(num_points, rng)
    base = _unit(rng.normal(size=(num_points, DIMENSION)))
    database = [f"db/{i}.jpg" for i in range(num_db)]
    queries = [Query(f"query/day/q{i}.jpg", QUERY_CAMERA) for i in range(num_queries)]
    poses: dict[str, pycolmap.Rigid3d] = {}
    for index, name in enumerate(database):
        angle = (index / max(num_db - 1, 1) - 0.5) * 1.2
        poses[name] = look_at([4 * np.sin(angle), 0.3 * np.cos(3 * index), -1 + index % 2], [0, 0, 8])
    for index, query in enumerate(queries):
        angle = index / max(num_queries - 1, 1) - 0.5
        poses[query.name] = look_at([3 * np.sin(angle), 0.5, 0.8], [0.3, 0, 8])
    world = World(root, points, poses, database, queries, {}, {})
    with FeatureWriter(world.features, CONF, "weights") as writer:
        for name in poses:
            world.features_of[name], world.point_of[name] = observe(poses[name], points, base, noise_px, rng)
            writer.add(name, world.features_of[name])
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(CAMERA)
    for index, name in enumerate(database):
        image = pycolmap.Image(name=name, camera_id=CAMERA.camera_id, image_id=10 + 3 * index)
        model.add_image_with_trivial_frame(image, poses[name])
    world.reference.mkdir()
    model.write(world.reference)
    world.images.mkdir()
    write_pairs(world.pairs_db, [(a, b) for i, a in enumerate(database) for b in database[i + 1 :]])
    write_pairs(world.pairs_query, [(query.name, name) for query in queries for name in database])
    match_features.main("nn-mutual", world.pairs_db, world.features, matches=world.matches_db)
    match_features.main("nn-mutual", world.pairs_query, world.features, matches=world.matches_query)
    return world


def observe(
    pose: pycolmap.Rigid3d,
    points: npt.NDArray[np.float64],
    base: npt.NDArray[np.float64],
    noise_px: float,
    rng: np.random.Generator,
    clutter: int = 80,
) -> tuple[Features, npt.NDArray[np.int64]]:
    """Features of one view in shuffled order, and the point of each keypoint, -1 for clutter."""
    in_camera = pose * points
    projected = np.asarray(CAMERA.img_from_cam(in_camera))
    projected += rng.normal(0, noise_px, projected.shape)
    inside = (in_camera[:, 2] > 0) & (projected > 1).all(axis=1) & (projected < [WIDTH - 1, HEIGHT - 1]).all(axis=1)
    seen = np.flatnonzero(inside)
    xy = np.concatenate([projected[seen], rng.uniform([1, 1], [WIDTH - 1, HEIGHT - 1], (clutter, 2))])
    ids = np.concatenate([seen, np.full(clutter, -1)])
    descriptors = np.concatenate([base[seen], rng.normal(size=(clutter, base.shape[1]))])
    descriptors = _unit(descriptors + 0.03 * rng.normal(size=descriptors.shape))
    order = rng.permutation(len(xy))
    ones = np.ones(len(xy), np.float32)
    features = Features(
        from_colmap(xy[order]).astype(np.float32), descriptors[order].astype(np.float32), ones, ones, (WIDTH, HEIGHT)
    )
    return features, ids[order]


def triangulate(world: World) -> pycolmap.Reconstruction:
    """The stage on this world's files."""
    return triangulation.main(
        world.sfm, world.reference, world.images, world.pairs_db, world.features, world.matches_db
    )


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def unscored(matches: IntArray, point3D_ids: IntArray) -> MatchedImage:
    """Matches as of a file without scores: `MatchReader.read` gives ones."""
    return MatchedImage(matches, point3D_ids, lambda: np.ones(len(matches), np.float32))
