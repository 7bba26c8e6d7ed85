"""Large arrays apart from the heap.

The C library hands freed memory back only from its end, cannot use an aligned block's place for an equal one, and
carves small arrays out of large freed ones: preparing 60 images' descriptors grew the heap by 200 MiB where 66 were in
use (measured, glibc). Arrays in pages of their own go back to the system; a thread's scratch is used again.
"""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_local = threading.local()


def own_pages(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A zeroed, writable array in private memory of its own."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    memory = mmap.mmap(-1, max(1, count * kind.itemsize), access=mmap.ACCESS_COPY)
    return np.frombuffer(memory, kind, count).reshape(shape)


def scratch(role: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """This thread's tensor for one purpose, with what was left in it; the next call with the same role takes it back.

    What is needed before the first tile is made and after the last is searched is laid in the "tile", too.
    Memory: of the largest shape asked for in each role, until the thread ends.
    """
    held: dict[str, torch.Tensor] = _local.__dict__
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if role not in held or len(held[role]) < size:
        with torch.inference_mode(False):  # or it could be written in inference mode only
            held[role] = torch.from_numpy(own_pages((max(1, size),), np.uint8))
    return held[role][:size].view(dtype).view(shape)
