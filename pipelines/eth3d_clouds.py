"""Scores of a scene's point clouds against its laser scans, each computed once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from datasets.eth3d import SCANS, Eth3dScene
from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.cloud_evaluation import CELL_DEG, TOLERANCES_M, VOXEL_M, Scan, evaluate_cloud
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.ply import PointCloud, read_ply, write_ply

logger = logging.getLogger(__name__)
RULES = {"tolerances_m": list(TOLERANCES_M), "voxel_m": VOXEL_M, "cell_deg": CELL_DEG, "version": 3}


class CloudJudge:
    """Compares clouds with the scans of one scene, which are read when they are first needed.

    Args:
        scene: with scans.
        folder: gets each cloud as PLY and its scores as JSON.

    Raises:
        InputError: the scene has no scans.
    """

    def __init__(self, scene: Eth3dScene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self._scans: list[Scan] | None = None
        self._signature = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in scene.scan_files()}

    @property
    def scans(self) -> list[Scan]:
        """Of the scene."""
        if self._scans is None:
            self._scans = self.scene.scans()
            logger.info("%s: %d points in %d scans", SCANS, sum(len(s.points) for s in self._scans), len(self._scans))
        return self._scans

    def record(self, name: str) -> Path:
        """File of a cloud's scores; as old as they are."""
        return self.folder / f"{name}.json"

    def model(self, name: str, model: pycolmap.Reconstruction) -> dict[str, Any]:
        """Scores of a model's points, which must be in the scans' world; empty without points."""
        points = [model.points3D[key] for key in sorted(model.points3D)]
        if not points:
            return {}
        path = self.folder / f"{name}.ply"
        write_ply(path, np.array([p.xyz for p in points]), np.array([p.color for p in points], np.uint8))
        return self.file(name, path)

    def file(self, name: str, path: Path) -> dict[str, Any]:
        """Scores of a PLY file in the scans' world.

        Raises:
            InputError: no cloud there, a damaged or an empty one.
        """
        signature = {"rules": RULES, "scans": self._signature, "cloud": file_sha256(path) if path.is_file() else ""}
        record = self.record(name)
        found = _read(record)
        if found.get("of") == json.loads(json.dumps(signature)):
            scores: dict[str, Any] = found["scores"]
            return scores
        cloud: PointCloud = read_ply(path)
        if not len(cloud):
            raise InputError(f"the point cloud {path} is empty; a reconstruction with points is needed")
        scores = evaluate_cloud(cloud.points, self.scans).to_json()
        with replace_file(record) as temporary:
            temporary.write_text(json.dumps({"of": signature, "scores": scores}, indent=1))
        return scores


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return found
