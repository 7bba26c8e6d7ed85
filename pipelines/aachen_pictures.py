"""The pictures of one localization run, drawn from its results."""

from __future__ import annotations

from collections import Counter

import numpy as np

from pipelines.aachen_stages import Files
from pipelines.aachen_world import World
from pipelines.pictures import FloatArray, draw_map, draw_matches, side_by_side, write_image
from samfeat_hloc._pycolmap import from_colmap, pose_from_array, pycolmap, read_model
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.poses import Pose7
from samfeat_hloc.images import read_image
from samfeat_hloc.localization import QueryResult


def draw(world: World, files: Files, results: dict[str, QueryResult], count: int) -> None:
    """Draw the map with all queries, and ``count`` queries with their inlier matches, spread over the conditions.

    Pictures go to ``files.pictures``: ``map.png``, one for each query drawn, and ``overview.png``, the last of these
    beside the map.
    """
    model = read_model(files.model)
    images = {image.name: image for image in model.images.values()}
    drawn: list[np.ndarray] = []
    with FeatureReader(files.features) as reader:
        for condition, names in world.conditions.items():
            localized = [name for name in names if results[name].pose is not None]
            share = -(-count // len(world.conditions))
            for name in localized[:: max(1, len(localized) // max(share, 1))][:share]:
                picture = _query_picture(world, reader, model, images, name, results[name])
                if picture is not None:
                    stem = f"{condition}-{name.rsplit('/', 1)[-1].rsplit('.', 1)[0]}"
                    write_image(files.pictures / f"{stem}.png", picture)
                    drawn.append(picture)
    map_picture = _map_picture(world, model, results)
    write_image(files.pictures / "map.png", map_picture)
    if drawn:
        write_image(files.pictures / "overview.png", side_by_side(drawn[-1], map_picture))


def _query_picture(
    world: World,
    reader: FeatureReader,
    model: pycolmap.Reconstruction,
    images: dict[str, pycolmap.Image],
    name: str,
    result: QueryResult,
) -> np.ndarray | None:
    keypoints = reader.read_keypoints(name)[result.inlier_keypoints].astype(np.float64)
    observers: Counter[int] = Counter()
    for point in result.inlier_points3D:
        observers.update({element.image_id for element in model.points3D[int(point)].track.elements})
    if not observers:
        return None
    best = model.images[observers.most_common(1)[0][0]]
    seen = {point.point3D_id: point.xy for point in best.points2D if point.has_point3D()}
    shared = [index for index, point in enumerate(result.inlier_points3D) if int(point) in seen]
    in_reference = from_colmap(np.array([seen[int(result.inlier_points3D[index])] for index in shared]).reshape(-1, 2))
    title = f"{name}: {len(keypoints)} inliers, {len(shared)} of them with {best.name}"
    return draw_matches(
        read_image(world.layout.images / name)[0],
        read_image(world.layout.images / best.name)[0],
        keypoints[shared],
        in_reference,
        keypoints,
        title,
    )


def _map_picture(world: World, model: pycolmap.Reconstruction, results: dict[str, QueryResult]) -> np.ndarray:
    database = np.array([image.projection_center() for image in model.images.values()])
    down = np.mean([image.cam_from_world().rotation.matrix()[1] for image in model.images.values()], axis=0)
    estimated = {
        condition: [_centre_and_axis(pose) for name in names if (pose := results[name].pose) is not None]
        for condition, names in world.conditions.items()
    }
    points = np.array([point.xyz for point in model.points3D.values()])
    truth = np.array([_centre_and_axis(pose)[0] for pose in world.truth.values()]).reshape(-1, 3)
    return draw_map(points, database, estimated, truth, -down)


def _centre_and_axis(pose: Pose7) -> tuple[FloatArray, FloatArray]:
    """Camera centre and optical axis in the world."""
    world_from_cam = pose_from_array(pose).inverse()
    return np.asarray(world_from_cam.translation), np.asarray(world_from_cam.rotation.matrix()[:, 2])
