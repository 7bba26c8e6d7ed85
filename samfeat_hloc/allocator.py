"""Large pages for large tensors on Linux.

glibc maps every large block anew and unmaps it when it is freed, so that each feature map of a network is paid for in
page faults, a sizeable part of an image's time on one core (docs/speed.md). torch asks the kernel for pages of
2 MB instead of 4 kB where the environment says so when it makes its first tensor.
"""

from __future__ import annotations

import os

VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""Read by torch; see c10/core/impl/alloc_cpu.cpp there."""


def ask_for_large_pages() -> None:
    """Set torch's switch, unless the user has; it acts when torch has not made a tensor yet."""
    os.environ.setdefault(VARIABLE, "1")
