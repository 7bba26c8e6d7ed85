"""Which photographs of a folder can be reconstructed, and why the others cannot."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samfeat_hloc.errors import InputError
from samfeat_hloc.formats.names import check_names
from samfeat_hloc.images import EXTENSIONS, ORIENTATION_TAG
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


def scan_folder(root: Path, max_aspect: float = MAX_ASPECT, outputs: Path | None = None) -> Scan:
    """Look at the header of every photograph below a folder.

    Left out are files that are no image, copies of another file (the first name is kept), panoramas, and photographs in
    formats that are not read. A file that ends too early is found later, when its features are extracted.

    Args:
        root: the folder.
        max_aspect: longer over shorter side beyond which a photograph is a panorama.
        outputs: see `find_files`.

    Raises:
        InputError: no such folder, fewer than two photographs that can be used, or a name that pair lists cannot hold.
    """
    names = sorted(find_files(root, EXTENSIONS, outputs), key=natural_key)
    check_names(names, str(root))
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
    for name in find_files(root, UNREADABLE_SUFFIXES, outputs):
        scan.left_out[name] = f"{Path(name).suffix.lower()[1:]} files are not read; convert it to JPEG or PNG"
    if not names and not scan.left_out:
        raise InputError(f"{root} has no photograph ({', '.join(sorted(EXTENSIONS))}); check the folder")
    if len(scan.kept) < 2:
        example = next(iter(scan.left_out.items()), None)
        because = f"; {len(scan.left_out)} left out, for example {example[0]}: {example[1]}" if example else ""
        raise InputError(f"{root} has {len(scan.kept)} usable photographs; expected at least 2{because}")
    return scan


def find_files(root: Path, suffixes: Collection[str], outputs: Path | None = None) -> list[str]:
    """Names of the files below a folder that end in one of the suffixes, relative to it, sorted; no hidden ones.

    Args:
        root: the folder.
        suffixes: in lower case, with the dot.
        outputs: where the pipeline writes. When it lies below the folder, nothing in it is a photograph of the folder:
            the pictures that a run draws are not photographs of the next.

    Raises:
        InputError: no such folder, or the outputs are that folder itself.
    """
    if not root.is_dir():
        raise InputError(f"the folder {root} does not exist; give the folder of the photographs")
    here, own = root.resolve(), None if outputs is None else outputs.resolve()
    if own == here:
        raise InputError(f"the outputs are {root}, the folder of the photographs itself; give --outputs elsewhere")
    inside = own is not None and here in own.parents
    names = []
    for path in root.rglob("*"):
        name = path.relative_to(root)
        passed_over = any(part.startswith(".") for part in name.parts) or (inside and own in (here / name).parents)
        if path.suffix.lower() in suffixes and not passed_over and path.is_file():
            names.append(name.as_posix())
    return sorted(names)


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
