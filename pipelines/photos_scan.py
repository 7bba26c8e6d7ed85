"""Which photographs of a folder can be reconstructed, and why the others cannot."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samfeat_hloc.errors import InputError
from samfeat_hloc.images import ORIENTATION_TAG, list_images
from samfeat_hloc.progress import progress

MAX_ASPECT = 2.5
"""Longer over shorter side; what is beyond was stitched from several photographs, and no pinhole camera took it."""

UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"})
"""Photographs in formats that Pillow does not read on its own; named in the report, not passed over in silence."""

MAKE, MODEL, EXIF_IFD = 0x010F, 0x0110, 0x8769
FOCAL, FOCAL_35, LENS = 0x920A, 0xA405, 0xA434


@dataclass(frozen=True)
class Photograph:
    """What a photograph's header says.

    Attributes:
        name: relative to the folder.
        width, height: of the stored pixels, before EXIF turns them.
        orientation: EXIF, 1 to 8.
        device: what identifies the camera, its lens and zoom: EXIF make, model, lens, focal length, focal length in
            35 mm; None without EXIF.
    """

    name: str
    width: int
    height: int
    orientation: int = 1
    device: tuple[str, ...] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored pixels."""
        return self.width, self.height


@dataclass
class Scan:
    """A folder's photographs.

    Attributes:
        kept: to be reconstructed, by name, in the order of `natural_key`.
        left_out: name -> why not.
    """

    kept: dict[str, Photograph] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def scan_folder(root: Path, max_aspect: float = MAX_ASPECT) -> Scan:
    """Look at the header of every photograph below a folder.

    Left out are files that are no image, copies of another file (the first name is kept), panoramas, and photographs in
    formats that are not read. A file that ends too early is found later, when its features are extracted.

    Raises:
        InputError: no such folder, no photograph in it, or fewer than two that can be used.
    """
    names = sorted(list_images(root), key=natural_key)
    scan = Scan()
    for name in progress(names, total=len(names), desc="photographs", unit="image"):
        found = _read_header(root, name, max_aspect)
        if isinstance(found, str):
            scan.left_out[name] = found
        else:
            scan.kept[name] = found
    for name, original in _copies(root, list(scan.kept)).items():
        del scan.kept[name]
        scan.left_out[name] = f"a copy of {original}, byte by byte; that one is used"
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in UNREADABLE_SUFFIXES:
            name = path.relative_to(root).as_posix()
            scan.left_out[name] = f"{path.suffix.lower()[1:]} files are not read; convert it to JPEG or PNG"
    if len(scan.kept) < 2:
        example = next(iter(scan.left_out.items()), None)
        because = f"; {len(scan.left_out)} left out, for example {example[0]}: {example[1]}" if example else ""
        raise InputError(f"{root} has {len(scan.kept)} usable photographs; expected at least 2{because}")
    return scan


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `IMG_9.jpg` before `IMG_10.jpg`, and folder by folder."""
    parts = re.split(r"(\d+|/)", name)
    return tuple((0, 0, "") if p == "/" else (1, int(p), "") if p.isdecimal() else (2, 0, p) for p in parts)


def _read_header(root: Path, name: str, max_aspect: float) -> Photograph | str:
    """The photograph, or why it is left out."""
    from PIL import Image

    try:
        with Image.open(root / name) as image:
            width, height = image.size
            exif = image.getexif()
            packet = image.info.get("xmp", b"")
            device = _device(exif)
            orientation = int(exif.get(ORIENTATION_TAG, 1))
    except Exception as error:  # Pillow's decoders raise half a dozen types on damaged files
        return f"cannot be read as an image ({' '.join(str(error).split())})"
    if b"equirectangular" in (packet if isinstance(packet, bytes) else str(packet).encode()):
        return (
            f"a spherical panorama ({width}x{height}): no pinhole camera took it; cut it into perspective views first"
        )
    aspect = max(width, height) / max(min(width, height), 1)
    if aspect > max_aspect:
        return (
            f"a panorama ({width}x{height}, sides {aspect:.1f} to 1, limit {max_aspect:g}): no pinhole camera took it; "
            "cut it into perspective views first, or raise --max-aspect if it is a crop"
        )
    return Photograph(name, width, height, orientation if 1 <= orientation <= 8 else 1, device)


def _device(exif: object) -> tuple[str, ...] | None:
    from PIL import Image

    if not isinstance(exif, Image.Exif):
        return None
    detail = exif.get_ifd(EXIF_IFD)
    values = [exif.get(MAKE), exif.get(MODEL), detail.get(LENS), detail.get(FOCAL), detail.get(FOCAL_35)]
    texts = tuple("" if value is None else str(value).strip().strip("\0") for value in values)
    return texts if any(texts) else None


def _copies(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> the earlier name of a file with the same bytes. Only files of one length are read."""
    by_length: dict[int, list[str]] = defaultdict(list)
    for name in names:
        by_length[(root / name).stat().st_size].append(name)
    copies = {}
    for alike in by_length.values():
        first: dict[str, str] = {}
        for name in alike if len(alike) > 1 else ():
            with (root / name).open("rb") as stream:
                digest = hashlib.sha256()
                while block := stream.read(2**20):
                    digest.update(block)
            original = first.setdefault(digest.hexdigest(), name)
            if original != name:
                copies[name] = original
    return copies
