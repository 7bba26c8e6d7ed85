"""Importing the package makes large tensors cost few page faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource
import samfeat_hloc
import torch

torch.ones(80 * 2**18)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(80 * 2**18)  # 80 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def _faults(**environment: str) -> int:
    inherited = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**inherited, **environment}, check=True
    )
    return int(done.stdout)


def test_large_tensors_are_laid_on_large_pages() -> None:
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not switch.is_file() or "[madvise]" not in switch.read_text():
        pytest.skip("the kernel does not leave the choice of large pages to the program")
    assert _faults(THP_MEM_ALLOC_ENABLE="0") > 10_000  # what the user set is kept
    assert _faults() < 2_000
