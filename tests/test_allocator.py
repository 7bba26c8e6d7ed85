"""Importing the package makes large tensors cost few page faults."""

from __future__ import annotations

import os
import platform
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


RESIDENT = """
import sys, torch
from samfeat_hloc.allocator import give_back_large_blocks
if sys.argv[1] == "yes":
    give_back_large_blocks()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20
for _ in range(3):  # glibc raises its limit when it sees large blocks come and go
    torch.ones(6 * 2**20).sum()
before = resident()
blocks = [torch.ones(5 * 2**20) for _ in range(10)]  # 20 MB each
last = torch.ones(5 * 2**20)
del blocks
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_large_blocks_are_given_back() -> None:
    kept = {
        asked: int(subprocess.run([sys.executable, "-c", RESIDENT, asked], capture_output=True, text=True).stdout)
        for asked in ("no", "yes")
    }
    assert kept["no"] > 100  # the last block keeps those below it
    assert kept["yes"] < 20
