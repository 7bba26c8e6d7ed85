"""Rows of a teacher in a folder: written once, however often it is interrupted, and read as a teacher of their own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.images import list_images, read_ahead
from samfeat_hloc.progress import progress
from training.records import Image, Teacher, TeacherRow
from training.teachers.labels import is_photograph
from training.teachers.rendered import RenderedTeacher
from training.teachers.segmentation import SegmentationTeacher
from training.teachers.shards import PER_SHARD, Entry, ShardWriter, read_index, read_row, unfinished_rows

logger = logging.getLogger(__name__)
MANIFEST = "teacher.json"
SKIPPED = "skipped.json"
FORMAT_VERSION = 1
MAP_TEACHERS: dict[str, Callable[[], Teacher]] = {"segmentation": SegmentationTeacher, "rendered": RenderedTeacher}
"""Teachers that read maps beside the photographs, by name."""


def open_teacher(name: str | None, images: Path | None = None) -> Teacher | None:
    """The teacher of a source's configuration.

    Args:
        name: "segmentation", "rendered", the folder of a store, or None.
        images: the folder that the names of a store are relative to; None: the one it was made from, or wherever its
            images are now.

    Raises:
        ConfigError: neither a name of a teacher nor a folder.
        InputError: a folder that is no store, or a damaged one.
    """
    if name is None:
        return None
    if name in MAP_TEACHERS:
        return MAP_TEACHERS[name]()
    if not Path(name).is_dir():
        known = ", ".join(MAP_TEACHERS)
        raise ConfigError(f"there is no teacher '{name}'; expected {known}, or a folder written by training.teacher")
    return StoredTeacher(Path(name), images)


class StoredTeacher:
    """What a teacher said about a folder of images, from a store.

    An image is found by its name below the folder the store was made from. Where that folder is another one now, it is
    found by the longest end of its path that the store has.

    Args:
        folder: of the store.
        images: the folder the names are relative to, when it is known.

    Raises:
        InputError: the folder is no store, or a shard is damaged.
    """

    def __init__(self, folder: Path, images: Path | None = None) -> None:
        self.folder = folder
        manifest = _read_manifest(folder)
        if manifest is None:
            raise InputError(f"{folder} is no teacher's store: it has no {MANIFEST}; write one with training.teacher")
        self._signature: dict[str, Any] = manifest["signature"]
        self._root = images or Path(manifest["images"])
        self._index = read_index(folder, self._signature)
        unfinished = unfinished_rows(folder)
        if unfinished:
            logger.warning(
                "warning: %s is not finished: its journal has rows that are not used yet (%d); run the command that "
                "made it again",
                folder,
                unfinished,
            )

    @property
    def signature(self) -> dict[str, Any]:
        """That of the teacher the rows are from."""
        return self._signature

    def __len__(self) -> int:
        return len(self._index)

    def row(self, path: Path, image: Image) -> TeacherRow | None:
        """The row of an image file; None when the store has none.

        Raises:
            InputError: the store's row of this name is of another file or of another size, or a shard is damaged.
        """
        name = self._name(path)
        if name is None:
            return None
        shard, entry = self._index[name]
        height, width = image.shape[:2]
        if (entry.width, entry.height) != (width, height):
            raise InputError(
                f"{self.folder} has a row of '{name}' with {entry.width}x{entry.height} pixels, and {path} was given "
                f"with {width}x{height}; expected the image the row was made from, at its full size"
            )
        if file_sha256(path) != entry.sha256:
            raise InputError(
                f"{self.folder} has a row of '{name}' that was made from another file than {path}; expected the same "
                "content; write another store from these images"
            )
        return read_row(shard, name)

    def _name(self, path: Path) -> str | None:
        for file, root in ((path.absolute(), self._root.absolute()), (path.resolve(), self._root.resolve())):
            if file.is_relative_to(root):
                name = file.relative_to(root).as_posix()
                return name if name in self._index else None
        return next((name for name in _ends(path.absolute()) if name in self._index), None)


def write_store(teacher: Teacher, images: Path, folder: Path, per_shard: int = PER_SHARD) -> int:
    """Write what a teacher says about every photograph below a folder; goes on where an earlier run stopped.

    Images that cannot be read, whose maps do not fit, or about which the teacher says nothing are counted and listed
    with the reason in `skipped.json`; the rest goes on. They are tried again in the next run.

    Args:
        teacher: any; its signature becomes that of the store.
        images: the folder that names are relative to.
        folder: of the store.
        per_shard: rows of a file.

    Returns:
        rows the store has now.

    Raises:
        InputError: no image, none with a row, an image that changed since its row was written, a folder that holds a
            store of another teacher or something else, or another process that is writing it.
    """
    names = [name for name in list_images(images) if is_photograph(name)]
    _prepare(folder, teacher.signature, images)
    skipped: dict[str, str] = {}
    with ShardWriter(folder, teacher.signature, per_shard) as writer:
        _check_unchanged(folder, images, writer.done)
        todo = [name for name in names if name not in writer.done]
        if len(todo) < len(names):
            logger.info("%s has %d of %d images already", folder, len(names) - len(todo), len(names))
        items = read_ahead(images, todo)
        for name, image, _, reason in progress(items, total=len(todo), desc="teacher", unit="image"):
            if image is None:
                skipped[name] = reason
                continue
            try:
                row = teacher.row(images / name, image)
            except InputError as error:
                skipped[name] = str(error)
                continue
            if row is None:
                skipped[name] = "the teacher has nothing about it"
                continue
            file = images / name
            entry = Entry(file_sha256(file), file.stat().st_size, image.shape[1], image.shape[0])
            writer.add(name, entry, row)
        rows = len(writer.done)
    _report(folder, rows, skipped)
    return rows


def _prepare(folder: Path, signature: Mapping[str, Any], images: Path) -> None:
    """Make the store's folder and manifest, or check that they are of the same teacher."""
    found = _read_manifest(folder)
    signature = json.loads(json.dumps(signature))
    if found is not None:
        if found["signature"] != signature:
            differences = "; ".join(_differences(found["signature"], signature))
            raise InputError(f"{folder} was made by another teacher: {differences}; give another folder with --output")
        return
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise InputError(f"{folder} is no teacher's store and not empty; give a new folder with --output")
    manifest = {"format_version": FORMAT_VERSION, "signature": signature, "images": str(images.absolute())}
    with replace_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        known = manifest["format_version"] == FORMAT_VERSION and {"signature", "images"} <= manifest.keys()
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise InputError(f"{path} is damaged or of another version of this program; write the store again elsewhere")
    return manifest


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            yield f"{key} is {json.dumps(found.get(key))} there and {json.dumps(wanted.get(key))} now"


def _check_unchanged(folder: Path, images: Path, done: Mapping[str, Entry]) -> None:
    """Rows of an image that was replaced since are not silently kept."""
    for name, entry in done.items():
        file = images / name
        if file.is_file() and file.stat().st_size != entry.size_bytes:
            raise InputError(
                f"{file} is another file than the one whose row is in {folder} ({file.stat().st_size} bytes, then "
                f"{entry.size_bytes}); give another folder with --output"
            )


def _ends(path: Path) -> Iterator[str]:
    """The ends of a path, from the longest to the file's name."""
    parts = path.parts[1:]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _report(folder: Path, rows: int, skipped: Mapping[str, str]) -> None:
    """Write the list of skipped images, say how many there are, and refuse a store without any row."""
    path = folder / SKIPPED
    if skipped:
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps([{"name": n, "reason": r} for n, r in skipped.items()], indent=1) + "\n")
        first, reason = next(iter(skipped.items()))
        if not rows:
            raise InputError(f"none of the {len(skipped)} images has a row; the first, {first}: {reason}")
        logger.warning("warning: left out %d images, listed in %s; first: %s: %s", len(skipped), path, first, reason)
    else:
        path.unlink(missing_ok=True)
    logger.info("%s has %d rows", folder, rows)
