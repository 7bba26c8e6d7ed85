"""A map on disk: one folder with everything that localizing a photograph needs, and a manifest that says what it is.

manifest.json   format version, extractor and matcher confs, sha256 of the weights, versions
sfm/            COLMAP model, points triangulated from the map's features
features.h5     local features of the model's images
global.h5       their global descriptors
codebook.npz    the codebook these were made with
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import samfeat_hloc
from samfeat_hloc._pycolmap import pycolmap, read_model
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.config import to_dict
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader, FeatureWriter
from samfeat_hloc.formats.global_features import GlobalWriter, read_global_descriptors
from samfeat_hloc.formats.h5store import read_signature
from samfeat_hloc.formats.names import check_known
from samfeat_hloc.matchers import get_matcher, matcher_signature
from samfeat_hloc.stage_folder import model_digest
from samfeat_hloc.vlad import Codebook

logger = logging.getLogger(__name__)

KIND = "samfeat_hloc map"
FORMAT_VERSION = 1
MANIFEST, MODEL, FEATURES, GLOBAL, CODEBOOK = "manifest.json", "sfm", "features.h5", "global.h5", "codebook.npz"
COVARIANCE = "6x6, rotation (rad) then translation (m) of cam_from_world: true pose = exp(rotation) R, t + translation"


@dataclass(frozen=True)
class MapFolder:
    """An opened map: its paths and its manifest."""

    root: Path
    manifest: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """Folder of the COLMAP model."""
        return self.root / MODEL

    @property
    def features(self) -> Path:
        """Local features of the model's images."""
        return self.root / FEATURES

    @property
    def global_descriptors(self) -> Path:
        """Global descriptors of the model's images."""
        return self.root / GLOBAL

    @property
    def codebook(self) -> Path:
        """Codebook of the global descriptors."""
        return self.root / CODEBOOK


def write_map(
    directory: Path | str,
    model: Path | str,
    features: Path | str,
    global_descriptors: Path | str,
    codebook: Path | str,
    matcher: str | Mapping[str, Any] = "nn-mutual",
    overwrite: bool = False,
) -> Path:
    """Write a map; the folder appears when it is complete.

    Args:
        directory: the map's folder.
        model: COLMAP model with points, triangulated from `features`.
        features: features.h5 with the images of the model; images of queries in it are left out.
        global_descriptors: global descriptors of the same images.
        codebook: what they were made with.
        matcher: conf that queries are matched with.
        overwrite: replace a map that was made from other inputs.

    Returns:
        `directory`. A map that was made from the same inputs is left as it is.

    Raises:
        InputError: an input is missing or does not fit the others, or there is another map.
    """
    directory, model = Path(directory), Path(model)
    matching = get_matcher(matcher)
    words = Codebook.load(codebook)
    with FeatureReader(features) as reader:
        if "weights_sha256" not in reader.attrs:
            raise InputError(
                f"{reader.path} was not made by samfeat_hloc.extract_features, so a map of it could not say which "
                "extractor its queries need; extract the features again"
            )
        if dict(words.features) != reader.signature:
            raise InputError(f"{codebook} was made from other features than {features}; make it again from these")
        described = read_signature(_file(Path(global_descriptors))) or {}
        if described.get("weights_sha256") != words.sha256:
            raise InputError(f"{global_descriptors} was not made with {codebook}; make it again with this codebook")
        inputs: dict[str, Any] = {
            "model": model_digest(model, with_points=True),
            "features": {**reader.signature, "bytes": reader.path.stat().st_size},
            "global_descriptors": file_sha256(Path(global_descriptors)),
            "codebook": words.sha256,
            "matcher": matcher_signature(matching),
        }
        if directory.exists():
            if _same_inputs(directory, inputs):
                return directory
            if not overwrite:
                raise InputError(
                    f"{directory} exists and is not the map of these inputs; give another folder, or overwrite=True "
                    "(--overwrite) to replace it"
                )
        names = _check_model(read_model(model), reader)
        partial = directory.with_name(f".{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _copy_features(reader, partial / FEATURES, names)
    shutil.copytree(
        model, partial / MODEL, ignore=lambda _, files: [file for file in files if not _is_model_file(file)]
    )
    rows = read_global_descriptors(global_descriptors, names)
    with GlobalWriter(partial / GLOBAL, {"name": "vlad", **to_dict(words.conf)}, words.sha256) as writer:
        for name, row in zip(names, rows, strict=True):
            writer.add(name, row)
    words.save(partial / CODEBOOK)
    manifest = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "extractor": inputs["features"]["conf"],
        "weights_sha256": inputs["features"]["weights_sha256"],
        "matcher": {"name": matching.name, **{k: v for k, v in inputs["matcher"].items() if k != "matcher"}},
        "codebook_sha256": words.sha256,
        "covariance": COVARIANCE,
        "images": len(names),
        "versions": {"samfeat_hloc": samfeat_hloc.__version__, "pycolmap": pycolmap.__version__},
        "inputs": inputs,
    }
    with replace_file(partial / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    if directory.exists():
        shutil.rmtree(directory)
    partial.rename(directory)
    logger.info("%s: a map of %d images", directory, len(names))
    return directory


def open_map(directory: Path | str) -> MapFolder:
    """Open a map's folder.

    Raises:
        InputError: no map there, one of a newer format, or a file is missing.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    if not path.is_file():
        raise InputError(f"{directory} is not a map: it has no {MANIFEST}; make one with write_map or a pipeline")
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged ({error}); make the map again") from None
    if manifest.get("kind") != KIND:
        raise InputError(f"{path} is not the manifest of a map; expected kind '{KIND}'")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{directory} has map format {manifest.get('format_version')}; this program reads {FORMAT_VERSION}; "
            "update samfeat_hloc, or make the map again"
        )
    missing = [name for name in (MODEL, FEATURES, GLOBAL, CODEBOOK) if not (directory / name).exists()]
    if missing:
        raise InputError(f"the map {directory} is incomplete: {', '.join(missing)} is missing; copy the whole folder")
    return MapFolder(directory, manifest)


def _check_model(model: pycolmap.Reconstruction, reader: FeatureReader) -> list[str]:
    """Names of the images that observe points, in the model's order.

    Raises:
        InputError: no points, or points that were made from other features.
    """
    observing = [image for _, image in sorted(model.images.items()) if image.num_points3D > 0]
    if not observing:
        raise InputError("the model has no 3D points; triangulate it first")
    names = [image.name for image in observing]
    check_known(names, set(reader.names), "the model", str(reader.path))
    for image in observing:
        if image.num_points2D() != reader.num_keypoints(image.name):
            raise InputError(
                f"'{image.name}' has {image.num_points2D()} keypoints in the model and "
                f"{reader.num_keypoints(image.name)} in {reader.path}; triangulate the model from these features"
            )
    return names


def _copy_features(reader: FeatureReader, path: Path, names: list[str]) -> None:
    as_half = json.loads(reader.attrs["signature"]).get("descriptor_dtype") == "float16"
    signature = reader.signature
    with FeatureWriter(path, signature["conf"], signature["weights_sha256"], as_half=as_half) as writer:
        for name in names:
            writer.add(name, reader.read(name))


def _same_inputs(directory: Path, inputs: Mapping[str, Any]) -> bool:
    try:
        found: Any = open_map(directory).manifest.get("inputs")
    except InputError:
        return False
    return bool(found == json.loads(json.dumps(inputs)))


def _file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} does not exist; make it with samfeat_hloc.global_descriptors")
    return path


def _is_model_file(name: str) -> bool:
    return Path(name).stem in ("cameras", "images", "points3D", "rigs", "frames")


def _cli() -> None:
    parser = argparse.ArgumentParser(prog="python -m samfeat_hloc.map", description="Put a map into one folder.")
    parser.add_argument("--directory", type=Path, required=True, help="the map's folder")
    parser.add_argument("--model", type=Path, required=True, help="COLMAP model triangulated from the features")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--global_descriptors", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, required=True)
    parser.add_argument("--matcher", default="nn-mutual")
    parser.add_argument("--overwrite", action="store_true", help="replace a map made from other inputs")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_map(**arguments)


if __name__ == "__main__":
    run_cli(_cli)
