"""The folder of an export: what it was made from, which photographs are in it already, whether it is finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import nearest_name
from samfeat_hloc.progress import progress

RECORD = "export.json"


class ExportFolder:
    """A folder with `export.json`: the signature of what is exported, and whether all of it is there.

    A folder with the same signature is continued: photographs that are in it were written whole and stay.

    Args:
        root: made when it does not exist.
        signature: JSON values that determine the export.
        overwrite: replace the export of something else; files that are no export are never touched.

    Raises:
        InputError: the folder holds something else.
    """

    def __init__(self, root: Path, signature: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.root = root
        self.signature: dict[str, Any] = json.loads(json.dumps(signature))
        record = self._read()
        same = record is not None and record.get("signature") == self.signature
        self.finished = bool(same and record and record.get("finished"))
        if record is None and root.is_dir() and any(root.iterdir()):
            raise InputError(f"{root} holds files that are no export of this program; give an empty or a new folder")
        if record is not None and not same:
            if not overwrite:
                raise InputError(
                    f"{root} is the export of another model or with other options; give another folder, or "
                    "overwrite=True (--overwrite) to replace it"
                )
            shutil.rmtree(root)
        if not self.finished:
            root.mkdir(parents=True, exist_ok=True)
            self._write(finished=False)

    def finish(self) -> None:
        """Mark the export as complete."""
        self._write(finished=True)
        self.finished = True

    def fill(self, names: Iterable[str], write: Callable[[str, Path], None], total: int) -> None:
        """Write the files that are not there yet.

        Args:
            names: paths below `root`.
            write: called with a name and the path to write to; the file appears at its place when it is whole.
            total: number of names.
        """
        for name in progress(names, total=total, desc=self.root.name, unit="image"):
            path = self.root / name
            if path.is_file():
                continue
            with replace_file(path) as temporary:
                write(name, temporary)

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.root / RECORD).read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, NotADirectoryError):
            raise InputError(f"{self.root / RECORD} is damaged; delete the folder and export again") from None
        return found

    def _write(self, *, finished: bool) -> None:
        with replace_file(self.root / RECORD) as temporary:
            temporary.write_text(json.dumps({"signature": self.signature, "finished": finished}, indent=1))


def posed_images(model: pycolmap.Reconstruction, images: Path) -> list[pycolmap.Image]:
    """Images with a pose, by name, after a check that every one of their photographs is there.

    Raises:
        InputError: no image has a pose, or photographs are missing; says how many and names one.
    """
    posed = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    if not posed:
        raise InputError("no image of the model has a pose; reconstruct it first")
    if not images.is_dir():
        raise InputError(f"the image folder {images} does not exist; check --images")
    missing = [image.name for image in posed if not (images / image.name).is_file()]
    if missing:
        on_disk = {path.relative_to(images).as_posix() for path in images.rglob("*") if path.is_file()}
        near = nearest_name(missing[0], on_disk)
        hint = f"; there is '{near}'" if near else ""
        raise InputError(
            f"{len(missing)} of the model's {len(posed)} photographs are not in {images}, as '{missing[0]}'{hint}; "
            "give the folder that the names are relative to (--images)"
        )
    return posed
