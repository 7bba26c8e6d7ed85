"""One run of the ETH3D pipeline: scenes, the stages for each kind of features, scores, tables, pictures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.eth3d import Eth3dScene, find_scenes
from datasets.eth3d_town import DENSE, write_town_scene
from pipelines.clock import Clock
from pipelines.common_options import check_least, extractor_of
from pipelines.dense import NO_CUDA, can_reconstruct_densely, dense_cloud
from pipelines.eth3d_clouds import CloudJudge
from pipelines.eth3d_pictures import draw_cloud
from pipelines.eth3d_poses import align, score_poses
from pipelines.eth3d_report import scene_markdown
from pipelines.eth3d_stages import Files, match_scene, reconstruct, triangulate
from pipelines.results import write_summary, write_table
from pipelines.sparse_statistics import sparse_statistics
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.ply import read_ply

logger = logging.getLogger(__name__)
MVS_IMAGE_SIZE = 3200
"""Longer side of the images that multi-view stereo sees: half of ETH3D's, for depth maps in a quarter of the time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The pipeline's options; see ``--help``."""

    dataset: Path | None = None
    outputs: Path = Path("outputs/eth3d")
    variant: str | None = None
    features: tuple[str, ...] = ("samfeat",)
    weights: str | None = None
    matcher: str = "nn-ratio"
    mapper: str = "incremental"
    max_keypoints: int = 4096
    resize_max: int = 1600
    clouds: bool = True
    cloud: Path | None = None
    mvs: bool = False
    seed: int = 0
    views: int = 24
    detail: float = 1.0
    scan_width: int = 3000

    def __post_init__(self) -> None:
        check_least(self, (("max_keypoints", 1),))
        if (self.cloud is not None or self.mvs) and not self.clouds:
            raise ConfigError("--cloud and --mvs need the scans; leave --no-clouds out")


def run(options: Options) -> dict[str, Any]:
    """Run the pipeline on every scene; prints the tables and returns what ``summary.json`` holds.

    Raises:
        InputError: a scene is missing or damaged, or the outputs belong to another run.
    """
    clock = Clock()
    dataset, town = options.dataset, options.dataset is None
    if dataset is None:
        dataset = options.outputs / f"town-seed{options.seed}"
        with clock("town"):
            write_town_scene(dataset, options.seed, options.views, options.detail, options.scan_width)
    scenes = [Eth3dScene.open(path, options.variant) for path in find_scenes(dataset, options.variant)]
    if options.cloud is not None and len(scenes) > 1:
        raise ConfigError(f"--cloud is of one scene and {dataset} has {len(scenes)}; give --dataset {dataset}/SCENE")
    if options.clouds:
        for scene in scenes:  # what is missing is told before hours of work
            scene.scan_files()
    if options.cloud is not None and not options.cloud.is_file():
        raise InputError(f"the point cloud {options.cloud} does not exist; check the path")
    if options.mvs and not can_reconstruct_densely():
        logger.warning("%s", NO_CUDA)
    extractors = [
        extractor_of(name, options.weights, max_keypoints=options.max_keypoints, resize_max=options.resize_max)
        for name in options.features
    ]
    summary: dict[str, Any] = {"dataset": str(dataset), "matcher": options.matcher, "scenes": {}}
    for scene in scenes:
        dense = scene.root / DENSE if town else options.cloud
        row = _scene(scene, extractors, options, dense, clock if len(scenes) == 1 else Clock())
        summary["scenes"][scene.name] = row
        write_table(options.outputs, scene.name, scene_markdown(scene.name, row))
    write_summary(options.outputs, summary, "models, clouds, tables and pictures")
    return summary


def _scene(
    scene: Eth3dScene, extractors: list[Extractor], options: Options, dense: Path | None, clock: Clock
) -> dict[str, Any]:
    folder = options.outputs / "runs" / scene.name
    judge = CloudJudge(scene, folder / "clouds") if options.clouds else None
    count = len(scene.image_names)
    logger.info("%s: %d photographs, %d pairs", scene.name, count, count * (count - 1) // 2)
    row: dict[str, Any] = {"images": count, "variant": scene.variant, "features": {}, "clouds": {}}
    for extractor in extractors:
        files = Files(folder / extractor.name)
        match_scene(scene, extractor, options.matcher, files, clock)
        triangulated = triangulate(scene, files, clock)
        stage = f"reconstruction-{options.mapper}"
        found, error = reconstruct(scene, files, options.mapper, clock)
        entry: dict[str, dict[str, Any]] = {
            "triangulation": {"sparse": sparse_statistics(triangulated, count)},
            stage: {"sparse": sparse_statistics(found, count), "error": error},
        }
        aligned = _aligned(found, scene.model)
        if aligned is None and found is not None:
            entry[stage]["error"] = "its cameras are too few, or on a line, and could not be aligned with the true ones"
        entry[stage]["poses"] = score_poses(aligned, scene.model).to_json()
        row["features"][extractor.name] = entry
        if judge is not None:
            with clock("clouds"):
                for name, model in (("triangulation", triangulated), (stage, aligned)):
                    label = f"{extractor.name} {name}"
                    row["clouds"][label] = {} if model is None else judge.model(label.replace(" ", "-"), model)
            if options.mvs:
                with clock("mvs"):
                    fused = dense_cloud(files.model("triangulation"), scene.image_dir, files.dense, MVS_IMAGE_SIZE)
                if fused is not None:
                    with clock("clouds"):
                        row["clouds"][f"{extractor.name} MVS"] = judge.file(f"{extractor.name}-mvs", fused)
            with clock("pictures"):
                points = np.array([p.xyz for p in triangulated.points3D.values()]).reshape(-1, 3)
                title = f"{scene.name}, {extractor.name}: {len(points)} triangulated points"
                picture = options.outputs / f"{scene.name}-{extractor.name}.png"
                _draw(judge, f"{extractor.name}-triangulation", points, scene, picture, title)
    if judge is not None and dense is not None:
        with clock("clouds"):
            row["clouds"][dense.name] = judge.file(dense.stem, dense)
        with clock("pictures"):
            points = read_ply(dense).points.astype(np.float64)
            _draw(judge, dense.stem, points, scene, options.outputs / f"{scene.name}-{dense.stem}.png", dense.name)
    row["seconds"] = clock.rounded()
    return row


def _aligned(model: pycolmap.Reconstruction | None, truth: pycolmap.Reconstruction) -> pycolmap.Reconstruction | None:
    """A reconstruction moved into the true world, in place."""
    if model is None:
        return None
    similarity = align(model, truth)
    if similarity is None:
        return None
    model.transform(similarity.to_sim3d())
    return model


def _draw(judge: CloudJudge, name: str, points: np.ndarray, scene: Eth3dScene, path: Path, title: str) -> None:
    """Draw a cloud, unless there is a picture since its scores were computed."""
    record = judge.record(name)
    if path.is_file() and record.is_file() and path.stat().st_mtime >= record.stat().st_mtime:
        return
    images = list(scene.model.images.values())
    cameras = np.array([image.projection_center() for image in images])
    down = np.mean([image.cam_from_world().rotation.matrix()[1] for image in images], axis=0)
    draw_cloud(path, points, judge.scans, cameras, -down, title)
