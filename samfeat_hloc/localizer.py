"""One photograph to one pose, with the map in memory: for a robot or a service.

localizer = Localizer("outputs/town/samfeat/map")
pose = localizer.localize(image, {"model": "PINHOLE", "width": 640, "height": 480, "params": [500, 500, 320, 240]})
if pose.status == "localized": print(pose.cam_from_world, pose.covariance)
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from samfeat_hloc._pycolmap import FloatArray, IntArray, from_colmap, make_camera, pycolmap, read_model, to_colmap
from samfeat_hloc.absolute_pose import PoseEstimate, PoseOptions, Status, localize_from_matches
from samfeat_hloc.correspondences import MatchedImage
from samfeat_hloc.errors import InputError
from samfeat_hloc.evaluation import rotation_matrix
from samfeat_hloc.extractors import Extractor, extractor_signature, get_extractor
from samfeat_hloc.formats.features import FeatureReader, Features
from samfeat_hloc.formats.global_features import read_global_descriptors
from samfeat_hloc.map import open_map
from samfeat_hloc.matchers import get_matcher
from samfeat_hloc.matchers.schedule import MAX_STACKED
from samfeat_hloc.scene import Scene
from samfeat_hloc.vlad import Codebook

MatchAgainst = Literal["observed", "all"]


OBSERVED_TRIALS = 3000
"""LO-RANSAC trials when matching against observed keypoints: a query that cannot be localized is given up within a
second (10,000 trials take 0.7 s longer); as many queries of the embedded town were localized."""


@dataclass(frozen=True)
class Pose:
    """The answer for one photograph.

    Attributes:
        status: "localized", "too few matches", "not verified" or "no retrieval".
        cam_from_world: (4, 4) transform of points in the map (metres) into the camera; None unless localized.
        quaternion: (4,) qw qx qy qz of its rotation; None unless localized.
        translation: (3,) of it, in metres; None unless localized.
        covariance: (6, 6) of the pose's error in the order rotation (rad), translation (m) of cam_from_world: the true
            pose is exp(rotation) R, translation + t. The map's points count as exact. None unless localized.
        keypoints: (N, 2) of the photograph; the centre of the top-left pixel is (0, 0).
        inlier_keypoints: (I,) indices into `keypoints` of the inliers.
        inlier_points3D: (I,) ids of their 3D points in the map's model.
        num_matches: matches with keypoints that observe a 3D point, over all retrieved images.
        retrieved: names of the map's images it was matched with, most similar first.
        time_s: seconds from pixels to pose.
    """

    status: Status
    cam_from_world: FloatArray | None
    quaternion: FloatArray | None
    translation: FloatArray | None
    covariance: FloatArray | None
    keypoints: FloatArray
    inlier_keypoints: IntArray
    inlier_points3D: IntArray
    num_matches: int
    retrieved: tuple[str, ...]
    time_s: float

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return len(self.inlier_keypoints)

    @property
    def inliers(self) -> tuple[FloatArray, IntArray]:
        """(I, 2) keypoints of the inliers in pixels and (I,) ids of their 3D points."""
        return self.keypoints[self.inlier_keypoints], self.inlier_points3D


class Localizer:
    """Localizes photographs in a map that it holds in memory. Call it from one thread.

    Args:
        map_directory: a map of `write_map`.
        extractor: must be what the map was made with; default: made from the map's manifest.
        num_retrieved: images of the map that a photograph is matched with.
        options: how a pose is estimated; default: `PoseOptions`, with fewer trials (`OBSERVED_TRIALS`) in "observed".
        match_against: "observed" matches with the keypoints that observe a 3D point, a third of the work; "all" with
            all keypoints, as the stages do, and gives their poses.

    Raises:
        InputError: no map there, or an extractor whose conf or weights are not those of the map.
    """

    def __init__(
        self,
        map_directory: Path | str,
        extractor: Extractor | None = None,
        *,
        num_retrieved: int = 20,
        options: PoseOptions | None = None,
        match_against: MatchAgainst = "observed",
    ) -> None:
        if num_retrieved < 1:
            raise InputError(f"num_retrieved is {num_retrieved}; expected at least 1")
        if match_against not in ("observed", "all"):
            raise InputError(f"match_against is '{match_against}'; expected 'observed' or 'all'")
        folder = open_map(map_directory)
        self.extractor = extractor or get_extractor(folder.manifest["extractor"])
        check_extractor(self.extractor, folder.manifest, folder.root)
        self.matcher = get_matcher(folder.manifest["matcher"])
        trials = OBSERVED_TRIALS if match_against == "observed" else PoseOptions().max_num_trials
        self.options = options or PoseOptions(max_num_trials=trials)
        self.num_retrieved = num_retrieved
        self.scene = Scene(read_model(folder.model))
        self.codebook = Codebook.load(folder.codebook)
        if self.codebook.sha256 != folder.manifest["codebook_sha256"]:
            raise InputError(f"{folder.codebook} is not the codebook the map was made with; copy the whole map again")
        with FeatureReader(folder.features) as reader:
            self.names = reader.names
            self._half = json.loads(reader.attrs["signature"]).get("descriptor_dtype") == "float16"
            self._stored = {name: self._load(reader, name, match_against) for name in self.names}
        self._global = read_global_descriptors(folder.global_descriptors, self.names)

    def _load(self, reader: FeatureReader, name: str, match_against: MatchAgainst) -> tuple[Features, IntArray]:
        """Features to match with, descriptors as they are on disk, and the point that each keypoint observes."""
        features, points = reader.read(name), self.scene.observed(name)
        if len(points) != len(features):
            raise InputError(f"{reader.path} and the model disagree on the keypoints of '{name}'; make the map again")
        chosen = points >= 0 if match_against == "observed" else np.ones(len(points), bool)
        descriptors: Any = features.descriptors[chosen]
        kept = replace(
            features,
            keypoints=features.keypoints[chosen],
            descriptors=descriptors.astype(np.float16) if self._half else descriptors,
            scores=features.scores[chosen],
            attention=features.attention[chosen],
        )
        return kept, points[chosen]

    def localize(self, image: npt.NDArray[np.uint8], camera: pycolmap.Camera | Mapping[str, Any]) -> Pose:
        """Localize one photograph.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: its intrinsics, as a pycolmap camera or `{"model", "width", "height", "params"}` in COLMAP's models.

        Raises:
            InputError: not such an image, or a camera of another size.
        """
        start = time.perf_counter()
        intrinsics = make_camera(camera)
        _check_image(image, intrinsics)
        features = self.extractor(image)
        if self._half:  # as a query passes through features.h5, so that the poses are those of the stages
            rounded = features.descriptors.astype(np.float16).astype(np.float32)
            features = replace(features, descriptors=rounded)
        retrieved = self.retrieve(features)
        points2D = to_colmap(features.keypoints)
        if retrieved:
            estimate = self._estimate(features, points2D, retrieved, intrinsics)
        else:
            estimate = PoseEstimate("no retrieval" if len(features) else "too few matches")
        return _pose(estimate, from_colmap(points2D), retrieved, time.perf_counter() - start)

    def retrieve(self, features: Features) -> tuple[str, ...]:
        """Names of the most similar images of the map, best first; none for a photograph without features."""
        descriptor = self.codebook.encode(features)
        if not descriptor.any():
            return ()
        similarity = self._global @ descriptor
        order = np.argsort(-similarity, kind="stable")[: self.num_retrieved]
        return tuple(self.names[i] for i in order)

    def _estimate(
        self, features: Features, points2D: FloatArray, retrieved: tuple[str, ...], camera: pycolmap.Camera
    ) -> PoseEstimate:
        first = self.matcher.prepare(features)
        matched = []
        for begin in range(0, len(retrieved), MAX_STACKED):
            stored = [self._stored[name] for name in retrieved[begin : begin + MAX_STACKED]]
            found = self.matcher.match_many(first, [self.matcher.prepare(kept) for kept, _ in stored])
            matched += [
                MatchedImage(matches.indices(), points, matches.scores)
                for matches, (_, points) in zip(found, stored, strict=True)
            ]
        return localize_from_matches(points2D, matched, self.scene, camera, self.options)


def check_extractor(extractor: Extractor, manifest: Mapping[str, Any], root: Path) -> None:
    """Check that an extractor makes the map's features.

    Raises:
        InputError: another extractor, another conf or other weights; with both values.
    """
    if extractor.weights_sha256 != manifest["weights_sha256"]:
        raise InputError(
            f"the map {root} was made with weights {manifest['weights_sha256'][:12] or 'none'}... and the extractor "
            f"has {extractor.weights_sha256[:12] or 'none'}...; use the map's weights, or make the map again with these"
        )
    wanted, given = manifest["extractor"], json.loads(json.dumps(extractor_signature(extractor)))
    different = [key for key in sorted(wanted.keys() | given.keys()) if wanted.get(key) != given.get(key)]
    if different:
        values = ", ".join(f"{key} {wanted.get(key)!r} in the map and {given.get(key)!r} here" for key in different)
        raise InputError(f"the extractor is not the one the map {root} was made with: {values}; use the map's settings")


def _check_image(image: npt.NDArray[np.uint8], camera: pycolmap.Camera) -> None:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"the image is {found}; expected an (H, W, 3) uint8 array in RGB order")
    height, width = image.shape[:2]
    if (camera.width, camera.height) != (width, height):
        raise InputError(
            f"the image is {width}x{height} and the camera {camera.width}x{camera.height}; give the intrinsics of this "
            "image size"
        )


def _pose(estimate: PoseEstimate, keypoints: FloatArray, retrieved: tuple[str, ...], time_s: float) -> Pose:
    transform = None
    if estimate.pose is not None:
        transform = np.eye(4)
        transform[:3, :3], transform[:3, 3] = rotation_matrix(estimate.pose[:4]), estimate.pose[4:]
    return Pose(
        estimate.status,
        transform,
        None if estimate.pose is None else estimate.pose[:4],
        None if estimate.pose is None else estimate.pose[4:],
        estimate.covariance,
        keypoints,
        estimate.inlier_keypoints,
        estimate.inlier_points3D,
        estimate.num_matches,
        retrieved,
        time_s,
    )
