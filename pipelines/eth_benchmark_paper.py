"""Table III of SAMFeat's paper (arXiv 2309.16992), on three collections of the 2017 local-feature benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One printed row; points in thousands, dense points in millions."""

    method: str
    registered: int
    sparse_thousands: int
    track: float
    reprojection_px: float
    dense_millions: float


def _rows(*rows: tuple[str, int, int, float, float, float]) -> tuple[PaperRow, ...]:
    return tuple(PaperRow(*row) for row in rows)


TABLE: dict[str, tuple[int, tuple[PaperRow, ...]]] = {
    "Madrid_Metropolis": (
        1344,
        _rows(
            ("SuperPoint", 438, 29, 9.03, 1.02, 1.55),
            ("D2-Net", 495, 144, 6.39, 1.35, 1.46),
            ("ASLFeat", 613, 96, 8.76, 0.90, 2.00),
            ("DISK", 677, 213, 7.89, 1.14, 1.87),
            ("AWDesc-CA", 864, 278, 9.52, 0.96, 1.65),
            ("SAMFeat", 892, 282, 9.84, 0.93, 1.90),
        ),
    ),
    "Gendarmenmarkt": (
        1463,
        _rows(
            ("SuperPoint", 967, 93, 7.22, 1.03, 3.81),
            ("D2-Net", 965, 310, 5.55, 1.28, 3.15),
            ("ASLFeat", 1040, 221, 8.72, 1.00, 4.01),
            ("DISK", 1218, 588, 6.02, 0.98, 3.62),
            ("AWDesc-CA", 1354, 548, 6.94, 0.95, 3.86),
            ("SAMFeat", 1370, 596, 7.02, 0.93, 3.91),
        ),
    ),
    "Tower_of_London": (
        1576,
        _rows(
            ("SuperPoint", 681, 52, 8.76, 0.96, 2.77),
            ("D2-Net", 708, 287, 5.20, 1.34, 2.86),
            ("ASLFeat", 821, 222, 12.52, 0.92, 3.06),
            ("DISK", 985, 517, 5.90, 1.02, 3.00),
            ("AWDesc-CA", 1414, 563, 12.88, 0.88, 2.89),
            ("SAMFeat", 1443, 587, 13.01, 0.84, 2.91),
        ),
    ),
}
"""Folder of a dataset -> its number of images, and the rows."""


def paper_rows(dataset: str) -> tuple[int, tuple[PaperRow, ...]] | None:
    """Images and rows of a dataset by its folder's name, whatever its case and separators; None: not in the table."""
    wanted = _plain(dataset)
    return next((entry for name, entry in TABLE.items() if _plain(name) == wanted), None)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
