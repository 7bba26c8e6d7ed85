"""Strecha's dense multi-view scenes (laser-measured cameras) as localization datasets in the layout of Aachen.

python -m datasets.strecha SCENE OUTPUT
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from samfeat_hloc._pycolmap import pose_to_array, pycolmap
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.poses import write_poses
from samfeat_hloc.formats.queries import Query, QueryCamera, write_queries
from samfeat_hloc.layout import QUERY_LIST

QUERY_EVERY = 3


def write_scene(scene: Path | str, output: Path | str) -> Path:
    """Write a scene: every third image is a day query, the others are the database with poses but no points.

    Args:
        scene: folder with ``images/`` and ``cameras.json``.
        output: folder to fill.

    Returns:
        ``output``.

    Raises:
        InputError: no scene there, or an image is missing.
    """
    scene, output = Path(scene), Path(output)
    listing = scene / "cameras.json"
    if not listing.is_file():
        raise InputError(f"{scene} has no cameras.json; expected a scene folder such as strecha/fountain-P11")
    cameras: dict[str, dict[str, Any]] = json.loads(listing.read_text())
    model = pycolmap.Reconstruction()
    queries, truth = [], {}
    for index, (name, entry) in enumerate(sorted(cameras.items())):
        source = scene / "images" / name
        if not source.is_file():
            raise InputError(f"{listing} names {name}, which is not in {source.parent}")
        params = [entry["fx"], entry["fy"], entry["cx"], entry["cy"]]
        pose = _cam_from_world(entry)
        is_query = index % QUERY_EVERY == QUERY_EVERY - 1
        stored = f"query/day/{name}" if is_query else f"db/{name}"
        target = output / "images_upright" / stored
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if is_query:
            camera = QueryCamera("PINHOLE", entry["width"], entry["height"], tuple(params))
            queries.append(Query(stored, camera))
            truth[stored] = pose_to_array(pose)
            continue
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                camera_id=index + 1, model="PINHOLE", width=entry["width"], height=entry["height"], params=params
            )
        )
        model.add_image_with_trivial_frame(
            pycolmap.Image(name=stored, camera_id=index + 1, image_id=index + 1), pose
        )  # fmt: skip
    folder = output / "3D-models/aachen_v_1_1"
    folder.mkdir(parents=True, exist_ok=True)
    model.write(folder)
    (output / "queries").mkdir(exist_ok=True)
    write_queries(output / QUERY_LIST.format(condition="day"), queries)
    write_poses(output / "ground_truth.txt", truth)
    return output


def _cam_from_world(entry: dict[str, Any]) -> pycolmap.Rigid3d:
    rotation = np.array(entry["world_from_cam_rotation"], np.float64).T
    left, _, right = np.linalg.svd(rotation)  # the file has six digits: back to the nearest rotation
    rotation = left @ right
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ np.array(entry["camera_center_m"], np.float64))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.strecha", description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    print(write_scene(options.scene, options.output))


if __name__ == "__main__":
    run_cli(main)
