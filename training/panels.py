"""Pictures side by side, with titles, from numpy and Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samfeat_hloc.images import RGBImage

if TYPE_CHECKING:
    from PIL import ImageDraw

GAP, TITLE_HEIGHT, FONT_SIZE = 6, 22, 13
COLOURS = np.array(
    [
        [0, 0, 8], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39],
        [255, 255, 190],
    ]
)  # fmt: skip
"""Dark to bright, equal steps of lightness."""


def titled_row(pictures: Mapping[str, RGBImage]) -> RGBImage:
    """Pictures of one size side by side, (H, W, 3) RGB, each with its title above."""
    height, width = next(iter(pictures.values())).shape[:2]
    row = np.full((TITLE_HEIGHT + height, len(pictures) * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures.values()):
        row[TITLE_HEIGHT:, number * (width + GAP) :][:, :width] = picture
    return _with_titles(row, list(pictures), width + GAP)


def stacked(rows: Sequence[RGBImage]) -> RGBImage:
    """Rows of one width below each other."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def colour(values: npt.NDArray[np.floating[Any]]) -> RGBImage:
    """(H, W) values in [0, 1] as (H, W, 3) RGB, dark to bright."""
    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, stops, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def resized(picture: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """A picture at another size, bilinear."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _with_titles(row: RGBImage, titles: Sequence[str], step: int) -> RGBImage:
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(row)
    draw = ImageDraw.Draw(canvas)
    for number, title in enumerate(titles):
        draw.text((number * step + 2, 3), _shortened(draw, title, step - GAP), fill=(40, 40, 40), font=_font())
    return np.asarray(canvas)


def _font() -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(FONT_SIZE)
    except (TypeError, ImportError):  # Pillow before 10.1, or built without FreeType
        return ImageFont.load_default()


def _shortened(draw: ImageDraw.ImageDraw, title: str, width: int) -> str:
    while len(title) > 4 and draw.textlength(title, font=_font()) > width:
        title = title[:-4] + "..."
    return title
