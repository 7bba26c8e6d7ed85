"""Large tensors on Linux: on large pages, and given back when they are freed.

glibc maps every large block anew and unmaps it when it is freed, so that each feature map of a network is paid for in
page faults, a sizeable part of an image's time on one core (docs/speed.md). torch asks the kernel for pages of
2 MB instead of 4 kB where the environment says so when it makes its first tensor.
"""

from __future__ import annotations

import ctypes
import os

VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""Read by torch; see c10/core/impl/alloc_cpu.cpp there."""


def ask_for_large_pages() -> None:
    """Set torch's switch, unless the user has; it acts when torch has not made a tensor yet."""
    os.environ.setdefault(VARIABLE, "1")


_M_MMAP_THRESHOLD = -3
"""See mallopt(3)."""
LARGE = 16 * 2**20
"""Bytes; the largest map of a 640x480 photograph is a little smaller."""


def give_back_large_blocks() -> None:
    """Have glibc map every block of 16 MB or more by itself, so that it is the system's again when it is freed.

    glibc else raises that limit to 32 MB and keeps freed feature maps, in each thread's own arena. A lower limit saves
    more memory, but the system clears what it gives: 4 MB cost a tenth of the time (measured). Nothing happens where
    there is no glibc, or where the user has set the limit.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
