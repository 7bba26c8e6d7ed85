"""A folder of photographs as people have them: two cameras, turned ones, a copy, a torn file, a panorama."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.pipelines.wall import DATABASE, FOCAL, HEIGHT, WIDTH, painted_wall, photograph
from tests.world import look_at

ORIENTATION, MAKE, MODEL, EXIF_IFD, FOCAL_35 = 0x0112, 0x010F, 0x0110, 0x8769, 0xA405
FOCAL_35_MM = round(FOCAL / np.hypot(WIDTH, HEIGHT) * np.hypot(36, 24))
"""Off by more than a per cent, as EXIF is: it has whole millimetres."""

CENTRES = {f"IMG_{number}.jpg": centre for number, centre in enumerate(DATABASE, 5)}
TURNED = ("IMG_7.jpg", "IMG_10.jpg")
PHONE = ("IMG_8.jpg", "IMG_9.jpg")


def save(path: Path, pixels: np.ndarray, device: str = "", orientation: int = 1, focal_35: int = 0) -> None:
    """Write a photograph whose upright pixels these are, with EXIF."""
    exif = Image.Exif()
    if device:
        exif[MAKE], exif[MODEL] = "Maker", device
    if focal_35:
        exif.get_ifd(EXIF_IFD)[FOCAL_35] = focal_35
    if orientation == 6:  # stored a quarter turn to the left of upright
        pixels = np.rot90(pixels)
    elif orientation == 8:
        pixels = np.rot90(pixels, -1)
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=97, exif=exif)


def view(centre: tuple[float, float, float]) -> np.ndarray:
    """A photograph of the painted corner from a place."""
    walls = [painted_wall(0, 10, 6), painted_wall(1, 5, 6)]
    return photograph(look_at(centre, (0.6 * centre[0] + 0.8, 0.0, 5.0)), walls)


def stranger(seed: int) -> np.ndarray:
    """A photograph of nothing that others show."""
    coarse = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def write_clean(root: Path, count: int = 8) -> Path:
    """The corner's photographs alone."""
    for name, centre in list(CENTRES.items())[:count]:
        save(root / name, view(centre), "Camera", focal_35=FOCAL_35_MM)
    return root


def write_messy(root: Path) -> Path:
    """Eight photographs of one corner and five files that cannot be in its model."""
    for number, (name, centre) in enumerate(CENTRES.items()):
        pixels = view(centre)
        if name in PHONE:
            small = Image.fromarray(pixels).resize((256, 192), Image.Resampling.LANCZOS)
            save(root / name, np.asarray(small), "Phone", focal_35=FOCAL_35_MM)
        else:
            save(root / name, pixels, "Camera", (6, 8)[number % 2] if name in TURNED else 1, FOCAL_35_MM)
    (root / "copies").mkdir()
    (root / "copies/IMG_6.jpg").write_bytes((root / "IMG_6.jpg").read_bytes())
    (root / "garbage.jpg").write_bytes(b"not an image at all")
    whole = (root / "IMG_5.jpg").read_bytes()
    (root / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    save(root / "wide.jpg", np.hstack([view(centre) for centre in DATABASE[:4]]))
    save(root / "stranger.png", stranger(0))
    return root
