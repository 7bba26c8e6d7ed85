"""The jobs of `benchmarks.vs_hloc`: every stage of each side as a function to be timed.

Nothing of this package is imported for hloc's stages that hloc does not ask for: its pycolmap may be another version.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.vs_hloc_setting import Files
from samfeat_hloc.atomic import replace_file

Run = Callable[[], Any]
"""The measured part of a job."""


class Job:
    """What a job needs to know, and what it reports.

    Args:
        files: of the setting.
        output: empty folder for what it writes.
        models: ONNX files "aliked" and "lightglue" of COLMAP, or none.

    Attributes:
        load_s, load_cpu_s: seconds that loading the network took, on the clock and of the processor.
        more: further figures.
    """

    def __init__(self, files: Files, output: Path, models: dict[str, str]) -> None:
        self.files = files
        self.output = output
        self.models = models
        self.plan: dict[str, Any] = files.read_plan()
        self.images = Path(self.plan["images"])
        self.load_s = self.load_cpu_s = 0.0
        self.more: dict[str, Any] = {}


def ours_extract(job: Job, kind: str = "samfeat") -> Run:
    """Features of the chosen images; the network is loaded before the clock starts."""
    from samfeat_hloc import extract_features
    from samfeat_hloc.extractors import get_extractor

    start = time.perf_counter()
    extractor = get_extractor(kind, max_keypoints=job.plan["max_keypoints"])
    job.load_s = time.perf_counter() - start
    return lambda: extract_features.main(
        kind, job.images, feature_path=job.output / "f.h5", image_list=job.plan["extract"], extractor=extractor
    )


def ours_match(job: Job, metric: str = "l2") -> Run:
    """All pairs, of the map and of the queries.

    hloc takes the largest dot product for the nearest neighbour, "dot"; descriptors rounded to float16 are not exactly
    of unit length, so that the nearest in Euclidean distance, "l2", now and then is another.
    """
    importlib.import_module("samfeat_hloc.matchers.nearest_neighbor")
    from samfeat_hloc import match_features

    files = job.files
    conf = {"name": "nn-mutual", "metric": metric}
    return lambda: match_features.main(conf, files.pairs, files.features, matches=job.output / "matches.h5")


def ours_triangulate(job: Job, estimate: bool = False) -> Run:
    """The map, with the known poses or by robust estimation."""
    from samfeat_hloc import triangulation

    files = job.files
    return lambda: triangulation.main(
        job.output / "sfm", files.reference, job.images, files.pairs_db, files.features, files.matches,
        estimate_two_view_geometries=estimate,
    )  # fmt: skip


def ours_localize(job: Job, plain: bool = False) -> Run:
    """All queries; plain: one LO-RANSAC on all correspondences, as hloc does."""
    from samfeat_hloc import localize_sfm

    files = job.files
    return lambda: localize_sfm.main(
        files.model, files.queries, files.pairs_query, files.features, files.matches, job.output / "poses.txt",
        config={"min_votes": 1, "best_num_trials": 0} if plain else None,
    )  # fmt: skip


def hloc_extract(job: Job, kind: str = "samfeat") -> Run:
    """hloc's loop; SAMFeat by `register_with_hloc`, SIFT as hloc has it. It makes its model inside: timed apart."""
    from hloc import extract_features
    from hloc.utils.base_model import BaseModel

    import samfeat_hloc

    samfeat_hloc.register_with_hloc()
    make = BaseModel.__init__

    def timed(self: Any, *arguments: Any) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        make(self, *arguments)
        job.load_s += time.perf_counter() - start
        job.load_cpu_s += time.process_time() - cpu

    BaseModel.__init__ = timed
    conf = dict(extract_features.confs[kind])
    if kind == "samfeat":
        conf["model"] = {**conf["model"], "max_keypoints": job.plan["max_keypoints"]}
        importlib.import_module("samfeat_hloc.extractors.samfeat")
    else:
        importlib.import_module("hloc.extractors.dog")
    return lambda: extract_features.main(
        conf, job.images, feature_path=job.output / "f.h5", image_list=job.plan["extract"]
    )


def hloc_match(job: Job) -> Run:
    """hloc's NN-mutual."""
    from hloc import match_features

    importlib.import_module("hloc.matchers.nearest_neighbor")
    files = job.files
    return lambda: match_features.main(
        match_features.confs["NN-mutual"], files.pairs, files.features, matches=job.output / "matches.h5"
    )


def hloc_triangulate(job: Job, estimate: bool = False) -> Run:
    """hloc's triangulation, with the known poses or by robust estimation.

    hloc writes the pairs it verified without saying of what kind they are. pycolmap 4 takes such pairs for UNDEFINED
    and triangulates none. Here they are CALIBRATED to it, so that hloc's work can be timed on the pycolmap of ours.
    """
    from hloc import triangulation

    pycolmap = triangulation.pycolmap
    if int(pycolmap.__version__.split(".")[0]) >= 4:
        make, calibrated = pycolmap.TwoViewGeometry, pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        pycolmap.TwoViewGeometry = lambda **given: make(**{"config": int(calibrated), **given})
    files = job.files
    return lambda: triangulation.main(
        job.output / "sfm", files.reference, job.images, files.pairs_db, files.features, files.matches,
        estimate_two_view_geometries=estimate,
    )  # fmt: skip


def hloc_localize(job: Job) -> Run:
    """hloc's localization with its own options and a seed."""
    from hloc import localize_sfm

    files = job.files
    config = {"estimation": {"ransac": {"max_error": 12.0, "random_seed": 0}}}
    return lambda: localize_sfm.main(
        files.model, files.queries, files.pairs_query, files.features, files.matches, job.output / "poses.txt",
        config=config,
    )  # fmt: skip


def hloc_correspondences(job: Job) -> Run:
    """Not measured: the 2D-3D correspondences that hloc builds, for the comparison."""
    import numpy as np
    from hloc import localize_sfm
    from hloc.utils.parsers import parse_image_lists, parse_retrieval

    class Collect(localize_sfm.QueryLocalizer):  # type: ignore[misc]
        def localize(self, *_: Any) -> None:
            return None

    def run() -> None:
        model = localize_sfm.pycolmap.Reconstruction(str(job.files.model))
        ids = {image.name: image_id for image_id, image in model.images.items()}
        retrieved = parse_retrieval(job.files.pairs_query)
        found: dict[str, Any] = {}
        for name, camera in parse_image_lists(job.files.queries, with_intrinsics=True):
            _, log = localize_sfm.pose_from_cluster(
                Collect(model), name, camera, [ids[n] for n in retrieved[name]], job.files.features, job.files.matches
            )
            found[f"{name}|keypoints"] = np.asarray(log["keypoint_index_to_db"][0], np.int64)
            found[f"{name}|points2D"] = np.asarray(log["keypoints_query"], np.float64).reshape(-1, 2)
            found[f"{name}|points3D"] = np.asarray(log["points3D_ids"], np.int64)
        with replace_file(job.output / "correspondences.npz") as path, path.open("wb") as stream:
            np.savez(stream, **found)

    return run


def colmap_features(job: Job, kind: str = "sift") -> Run:
    """COLMAP's own features, and its matcher on the pairs of at most 10 of the images (reported apart)."""
    from benchmarks.vs_hloc_colmap import extract_and_match

    return lambda: job.more.update(
        extract_and_match(kind, job.images, job.plan["extract"], job.output, job.plan["max_keypoints"], job.models)
    )


JOBS: dict[tuple[str, str], Callable[[Job], Run]] = {
    ("ours", "extract"): ours_extract,
    ("ours", "sift"): lambda job: ours_extract(job, "sift"),
    ("ours", "match"): ours_match,
    ("ours", "match-dot"): lambda job: ours_match(job, "dot"),
    ("ours", "triangulate"): ours_triangulate,
    ("ours", "triangulate-estimated"): lambda job: ours_triangulate(job, estimate=True),
    ("ours", "localize"): ours_localize,
    ("ours", "localize-plain"): lambda job: ours_localize(job, plain=True),
    ("hloc", "extract"): hloc_extract,
    ("hloc", "sift"): lambda job: hloc_extract(job, "sift"),
    ("hloc", "match"): hloc_match,
    ("hloc", "triangulate"): hloc_triangulate,
    ("hloc", "triangulate-estimated"): lambda job: hloc_triangulate(job, estimate=True),
    ("hloc", "localize"): hloc_localize,
    ("hloc", "correspondences"): hloc_correspondences,
    ("colmap", "sift"): colmap_features,
    ("colmap", "aliked"): lambda job: colmap_features(job, "aliked"),
}


def find_job(side: str, name: str) -> Callable[[Job], Run]:
    """The job's function: called, it imports and loads what the job needs, and returns the part to be timed."""
    return JOBS[side, name]
