"""How a product is cut into tiles, and its factors padded."""

from __future__ import annotations

TILE_BYTES = 3 * 2**20
MULTIPLE = 64  # rows are padded to it: the product is compiled once a shape, so few shapes are wanted


def tile_height(width: int, cell: int) -> int:
    """Rows of a tile whose rows have `width` cells of so many bytes."""
    return max(MULTIPLE, TILE_BYTES // (width * cell) // MULTIPLE * MULTIPLE)


def padded(count: int) -> int:
    """Rows with the padding."""
    return -(-count // MULTIPLE) * MULTIPLE
