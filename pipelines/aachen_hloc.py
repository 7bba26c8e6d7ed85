"""The stages of `pipelines.aachen_stages` through an installed hloc, so that ours can be checked against it.

SAMFeat enters as a plug-in (`samfeat_hloc.register_with_hloc`); extraction, pairs, matching, triangulation and
localization are hloc's functions. Two things hloc does not have are ours: the codebook of the global descriptors,
learnt from the map, and for SIFT the global descriptors. The results get the same reports; hloc gives no covariance.
A second run continues as hloc does: it skips images and pairs that its files have, and of those that a kill left half
written it does not know; `--no-resume` makes everything again.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.aachen_hloc_results import read_results
from pipelines.aachen_stages import Task, given_query_pairs
from pipelines.aachen_world import World
from samfeat_hloc import global_descriptors, register_with_hloc
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.config import to_dict
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError, MissingDependencyError, SamfeatError
from samfeat_hloc.extractors import Extractor, extractor_signature
from samfeat_hloc.formats.pairs import read_pairs, write_pairs
from samfeat_hloc.formats.queries import write_queries
from samfeat_hloc.hloc_plugin import HOW_TO_GET
from samfeat_hloc.localization import Localization
from samfeat_hloc.stage_folder import StageFolder, model_digest
from samfeat_hloc.vlad import Codebook

logger = logging.getLogger(__name__)
OLDEST = (1, 5)
"""Version of hloc whose triangulation and localization speak to pycolmap as it is since 3.13."""
SETTINGS_NAME = "hloc.json"
RANSAC = {"max_error": 12.0, "random_seed": 0}
"""hloc's threshold, and a seed, so that a second run gives the same poses."""


def check_hloc() -> str:
    """Version of the hloc that can be imported, with our models registered.

    Raises:
        MissingDependencyError: there is none, or one whose later stages cannot work with this pycolmap.
    """
    register_with_hloc()
    import hloc

    version = str(hloc.__version__)
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise MissingDependencyError(
            f"hloc {version} cannot triangulate and localize with pycolmap {pycolmap.__version__}; use hloc's head: "
            f"{HOW_TO_GET}"
        )
    return version


def localize(task: Task) -> Localization:
    """Run every stage with hloc's functions, as `aachen_stages.localize` does with ours.

    Raises:
        MissingDependencyError: no hloc, or one that is too old.
        InputError: an input is missing or damaged, a stage of hloc failed, or the folder is of other settings.
    """
    version = check_hloc()
    from hloc import (
        extract_features,
        localize_sfm,
        match_features,
        pairs_from_covisibility,
        pairs_from_poses,
        pairs_from_retrieval,
        triangulation,
    )

    world, extractor, files, clock, pair_list = task.world, task.extractor, task.files, task.clock, task.pair_list
    settings = {
        "hloc": version,
        "extractor": extractor_signature(extractor),
        "weights_sha256": extractor.weights_sha256,
        "matcher": task.matcher,
        "num_covis": task.num_covis,
        "pair_list": file_sha256(pair_list) if pair_list is not None else None,
        "images": image_bytes(world),
    }
    _open_folder(files.folder, settings, task.resume)
    reference = files.folder / "reference"  # hloc's functions want a binary model
    reference.mkdir(exist_ok=True)
    world.model.write_binary(reference)
    queries = [query.name for query in world.queries]
    feature_conf, matcher_conf = _confs(extractor, task.matcher)

    with clock("extract"), hloc_stage("extract_features"):
        extract_features.main(
            feature_conf, world.layout.images, feature_path=files.features, image_list=world.image_names
        )
    with clock("pairs"), hloc_stage("pairs"):
        if pair_list is not None:
            known = set(world.database)
            write_pairs(files.pairs_db, [pair for pair in read_pairs(pair_list) if set(pair) <= known])
        elif world.has_points:
            pairs_from_covisibility.main(reference, files.pairs_db, num_matched=task.num_covis)
        else:
            pairs_from_poses.main(reference, files.pairs_db, min(task.num_covis, len(world.database) - 1))
    with clock("match"), hloc_stage("match_features"):
        match_features.main(matcher_conf, files.pairs_db, files.features, matches=files.matches_db)
    with clock("triangulate"), hloc_stage("triangulation"):
        inputs = {
            "stage": "hloc.triangulation",
            **settings,
            "reference": model_digest(reference),
            "pairs": file_sha256(files.pairs_db),
        }
        stage = StageFolder(files.model, inputs)
        if not stage.finished:
            logger.info(
                "hloc's pairs verified by known poses are UNDEFINED to pycolmap %s, which triangulates none of them: "
                "running it with estimate_two_view_geometries=True",
                pycolmap.__version__,
            )
            model = triangulation.main(
                files.model, reference, world.layout.images, files.pairs_db, files.features, files.matches_db,
                estimate_two_view_geometries=True,
            )  # fmt: skip
            if model.num_points3D() == 0:
                raise InputError(f"hloc's triangulation found no 3D point; its model is in {files.model}")
            stage.finish(model, {"points": model.num_points3D()})

    with clock("retrieve"), hloc_stage("pairs_from_retrieval"):
        _describe(task, extract_features)
        if pair_list is None:
            count = min(task.num_loc, len(world.database))
            pairs_from_retrieval.main(
                files.global_descriptors, files.pairs_query, count, query_list=queries, db_list=world.database
            )
        else:
            write_pairs(files.pairs_query, given_query_pairs(pair_list, set(queries), set(world.database)))
    with clock("match"), hloc_stage("match_features"):
        match_features.main(matcher_conf, files.pairs_query, files.features, matches=files.matches_query)
    with clock("localize"), hloc_stage("localize_sfm"):
        query_list = files.folder / "queries_with_intrinsics.txt"
        write_queries(query_list, world.queries)
        localize_sfm.main(
            files.model, query_list, files.pairs_query, files.features, files.matches_query, files.poses,
            config={"estimation": {"ransac": RANSAC}},
        )  # fmt: skip
    return read_results(world.queries, files, settings)


@contextmanager
def hloc_stage(name: str) -> Iterator[None]:
    """Turn what hloc raises into one line that names its stage; `SAMFEAT_DEBUG=1` shows the traceback.

    Raises:
        InputError: hloc raised an exception.
    """
    try:
        yield
    except SamfeatError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
        raise InputError(
            f"hloc's {name} failed: {type(error).__name__}: {lines[-1].strip()}; SAMFEAT_DEBUG=1 shows where"
        ) from error


def image_bytes(world: World) -> dict[str, int]:
    """Bytes of every photograph by name, so that replaced ones are noticed; hloc itself looks at names alone."""
    paths = ((name, world.layout.images / name) for name in world.image_names)
    return {name: path.stat().st_size if path.is_file() else -1 for name, path in paths}


def _open_folder(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    """hloc takes whatever features and matches lie there: a folder of other settings is refused, or emptied.

    Raises:
        InputError: the folder has results of other settings, or was not made by this pipeline.
    """
    record = folder / SETTINGS_NAME
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        if not record.is_file():
            raise InputError(f"{folder} holds files that `--runtime hloc` did not make; give other --outputs")
        found = json.loads(record.read_text())
        if not resume:
            shutil.rmtree(folder)
        elif found != settings:
            different = sorted(key for key in found.keys() | settings.keys() if found.get(key) != settings.get(key))
            raise InputError(
                f"{folder} holds results of other settings (different: {', '.join(different)}); give other --outputs, "
                "or --no-resume to replace them"
            )
    with replace_file(record) as path:
        path.write_text(json.dumps(settings, indent=1))


def _confs(extractor: Extractor, matcher: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """hloc's confs of a kind of features and a matcher of ours; SIFT and nn-mutual are hloc's own."""
    from hloc import extract_features, match_features

    conf = dict(extract_features.confs[extractor.name])
    if extractor.name.startswith("samfeat"):
        conf["model"] = {**conf["model"], **_model_fields(extractor)}
    names = {"nn-mutual": "NN-mutual", "released": "samfeat-released"}
    return conf, match_features.confs[names.get(matcher, f"samfeat-{matcher}")]


def _model_fields(extractor: Extractor) -> dict[str, Any]:
    conf = to_dict(extractor.conf)
    return {"preset": extractor.name, "max_keypoints": conf["max_keypoints"], "weights": conf["weights"]}


def _describe(task: Task, extract_features: Any) -> None:
    """Global descriptors: for SAMFeat by hloc's loop with the plug-in's VLAD, for others from the local features."""
    world, extractor, files = task.world, task.extractor, task.files
    if not extractor.name.startswith("samfeat"):
        logger.info("hloc's own retrieval networks need downloads: its %s features get our VLAD", extractor.name)
        global_descriptors.main(
            files.features, files.global_descriptors, codebook=files.codebook, codebook_list=world.database
        )
        return
    if not files.codebook.is_file():
        Codebook.train(files.features, world.database).save(files.codebook)
    conf = dict(extract_features.confs["samfeat-vlad"])
    fields = {key: value for key, value in _model_fields(extractor).items() if key != "max_keypoints"}
    conf["model"] = {**conf["model"], **fields, "codebook": str(files.codebook)}
    extract_features.main(
        conf, world.layout.images, feature_path=files.global_descriptors, image_list=world.image_names
    )
