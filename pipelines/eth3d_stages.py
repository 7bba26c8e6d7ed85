"""The stages for one scene and one kind of features: photographs to a triangulated and a reconstructed model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from datasets.eth3d import Eth3dScene
from pipelines.clock import Clock
from samfeat_hloc import extract_features, match_features, pairs_from_exhaustive, reconstruction, triangulation
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.errors import InputError
from samfeat_hloc.extractors import Extractor
from samfeat_hloc.formats.features import FeatureReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Where the stages of one kind of features leave their files; what another run finds again."""

    folder: Path

    @property
    def features(self) -> Path:
        """features.h5."""
        return self.folder / "features.h5"

    @property
    def pairs(self) -> Path:
        """Pair list."""
        return self.folder / "pairs.txt"

    @property
    def matches(self) -> Path:
        """matches.h5."""
        return self.folder / "matches.h5"

    @property
    def dense(self) -> Path:
        """Workspace of multi-view stereo."""
        return self.folder / "dense"

    def model(self, stage: str) -> Path:
        """COLMAP model of "triangulation" or "reconstruction"."""
        return self.folder / stage


def match_scene(scene: Eth3dScene, extractor: Extractor, matcher: str, files: Files, clock: Clock) -> None:
    """Features of all photographs and matches of all pairs.

    Raises:
        InputError: an image that cannot be read, too many images for exhaustive pairs, or files of another run.
    """
    names = scene.image_names
    with clock("extract"):
        extract_features.main(
            extractor.name, scene.image_dir, feature_path=files.features, image_list=names, extractor=extractor
        )
    with FeatureReader(files.features) as reader:
        missing = [name for name in names if name not in reader]
    if missing:
        raise InputError(f"{len(missing)} images of {scene.image_dir} cannot be read, first {missing[0]}; replace them")
    with clock("match"):
        pairs_from_exhaustive.main(files.pairs, image_list=names)
        match_features.main(matcher, files.pairs, files.features, matches=files.matches)


def triangulate(scene: Eth3dScene, files: Files, clock: Clock) -> pycolmap.Reconstruction:
    """Points from the true poses.

    Raises:
        InputError: no point came out, or the folder holds another model.
    """
    with clock("triangulate"):
        return triangulation.main(
            files.model("triangulation"),
            scene.calibration,
            scene.image_dir,
            files.pairs,
            files.features,
            files.matches,
        )


def reconstruct(
    scene: Eth3dScene, files: Files, mapper: str, clock: Clock
) -> tuple[pycolmap.Reconstruction | None, str]:
    """Poses and points from the matches, with the calibration's intrinsics held; None, and why, when nothing came out.

    Raises:
        InputError: the folder holds another model.
    """
    cameras = {image.name: scene.model.cameras[image.camera_id] for image in scene.model.images.values()}
    for camera in cameras.values():
        camera.has_prior_focal_length = True
    with clock("reconstruct"):
        try:
            return reconstruction.main(
                files.model(f"reconstruction-{mapper}"),
                scene.image_dir,
                files.pairs,
                files.features,
                files.matches,
                mapper=mapper,
                cameras=cameras,
                fixed_cameras={camera.camera_id for camera in cameras.values()},
            ), ""
        except reconstruction.NothingReconstructed as error:
            logger.warning("warning: %s: %s", scene.name, error)
            return None, str(error)
