"""A folder that a stage fills with a COLMAP model: what it was made from, and whether it is finished."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import is_model, pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import InputError

RECORD_NAME = "stage.json"
MAPPED_NAME = "mapped"
"""Beside the models while the last adjustment of the largest is under way: mapping is done."""
DATABASE_NAME = "database.db"
FORMAT_VERSION = 1


class StageFolder:
    """The folder of one model, with `stage.json`: the signature of its inputs, whether it is finished, statistics.

    Opening it says what may be reused: a folder with the same signature is continued or, when it is finished, read; a
    model of other inputs is never touched.

    Args:
        folder: made when it does not exist.
        signature: JSON values that determine the model.
        overwrite: drop what another signature made.

    Raises:
        InputError: the folder holds a model of other inputs, or one of another program.
    """

    def __init__(self, folder: Path, signature: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.signature: dict[str, Any] = json.loads(json.dumps(signature))
        self.record_path = folder / RECORD_NAME
        folder.mkdir(parents=True, exist_ok=True)
        found = self._read_record()
        if found is None or found.get("signature") != self.signature:
            if overwrite:
                self._clear()
            elif found is not None or is_model(folder) or (folder / DATABASE_NAME).exists():
                raise InputError(self._mismatch(found))
            found = None
        self.finished = bool(found and found.get("finished") and is_model(folder))
        self.statistics: dict[str, Any] = (found or {}).get("statistics", {})
        if not self.finished:
            self._write_record(finished=False)

    @property
    def database(self) -> Path:
        """The COLMAP database. It is filled in place: SQLite's transactions survive a kill, and a database that was
        renamed would leave its write-ahead log behind under the old name, with what a killed process wrote last.
        """
        return self.folder / DATABASE_NAME

    def finish(self, model: pycolmap.Reconstruction, statistics: Mapping[str, Any]) -> None:
        """Write the model into the folder and mark it finished.

        The model is written beside its place and moved; a kill in between leaves the folder unfinished, never wrong.
        """
        temporary = self.folder / ".model.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        model.write_binary(temporary)
        for stale in self.folder.glob("*.txt"):
            if stale.stem in ("cameras", "images", "points3D", "rigs", "frames"):
                stale.unlink()  # a text model would be a second answer in the same folder
        for file in sorted(temporary.iterdir()):
            file.replace(self.folder / file.name)
        temporary.rmdir()
        self.statistics = dict(statistics)
        self._write_record(finished=True)
        self.finished = True

    def _read_record(self) -> dict[str, Any] | None:
        if not self.record_path.is_file():
            return None
        try:
            record: dict[str, Any] = json.loads(self.record_path.read_text())
        except json.JSONDecodeError:
            raise InputError(f"{self.record_path} is damaged; delete the folder and run the stage again") from None
        return record

    def _write_record(self, *, finished: bool) -> None:
        record = {
            "format_version": FORMAT_VERSION,
            "signature": self.signature,
            "finished": finished,
            "statistics": self.statistics,
        }
        with replace_file(self.record_path) as temporary:
            temporary.write_text(json.dumps(record, indent=1, sort_keys=True))

    def _clear(self) -> None:
        """Remove what a stage writes here, and nothing else."""
        for name in (RECORD_NAME, MAPPED_NAME):
            (self.folder / name).unlink(missing_ok=True)
        for stem in ("cameras", "images", "points3D", "rigs", "frames"):
            for ext in (".bin", ".txt"):
                (self.folder / f"{stem}{ext}").unlink(missing_ok=True)
        remove_database(self.database)
        for name in (".model.tmp", "models", "snapshots"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _mismatch(self, found: Mapping[str, Any] | None) -> str:
        advice = "give another folder, or overwrite=True (--overwrite) to replace it"
        if found is None:
            return f"{self.folder} holds a model that this stage did not make, and it is not replaced; {advice}"
        old = found.get("signature", {})
        keys = sorted(key for key in old.keys() | self.signature.keys() if old.get(key) != self.signature.get(key))
        state = "a finished model" if found.get("finished") else "an unfinished model"
        return f"{self.folder} holds {state} made from other inputs (different: {', '.join(keys)}); {advice}"


def remove_database(path: Path) -> None:
    """Delete a COLMAP database with its logs."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def model_digest(folder: Path, *, with_points: bool = False) -> str:
    """sha256 over the cameras and images of a model, and its points when they matter too.

    Raises:
        InputError: no model there.
    """
    if not is_model(folder):
        raise InputError(f"{folder} has no COLMAP model; expected cameras, images and points3D as .bin or .txt")
    digest = hashlib.sha256()
    for stem in ("rigs", "cameras", "frames", "images", *(["points3D"] if with_points else [])):
        for ext in (".bin", ".txt"):
            path = folder / f"{stem}{ext}"
            if path.is_file():
                digest.update(path.name.encode() + bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()
