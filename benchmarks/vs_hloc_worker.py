"""One stage of one side of `benchmarks.vs_hloc`, alone in its process so that the peak memory is its own.

    python -m benchmarks.vs_hloc_worker SETTING.json FOLDER SIDE JOB RUN

The clock starts after imports and after the network was loaded, and stops when the stage's files are written.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.vs_hloc_jobs import Job, find_job
from benchmarks.vs_hloc_setting import Files, Setting, prepare
from samfeat_hloc.atomic import replace_file


def measure(files: Files, side: str, job_name: str, output: Path, models: dict[str, str]) -> dict[str, Any]:
    """Run one job in this process.

    Returns:
        seconds, and CPU seconds with those of helper processes; load_s, what loading the network took besides;
        import_s; peak_mb of this process, imports_mb of that before the clock started, and helpers_mb of its largest
        helper process.
    """
    job = Job(files, output, models)
    start = time.perf_counter()
    run = find_job(side, job_name)(job)
    setup_s = time.perf_counter() - start
    before_s, before_cpu_s, imports_mb = job.load_s, job.load_cpu_s, peak_memory_mb()
    cpu, start = _cpu_s(), time.perf_counter()
    run()
    wall, spent = time.perf_counter() - start, _cpu_s() - cpu
    return {
        "seconds": wall - (job.load_s - before_s),  # hloc loads its models while the clock runs
        "cpu_s": spent - (job.load_cpu_s - before_cpu_s),
        "load_s": job.load_s,
        "import_s": setup_s - before_s,
        "peak_mb": peak_memory_mb(),
        "imports_mb": imports_mb,
        "helpers_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "load_average": os.getloadavg()[0],
        **job.more,
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process.

    Linux's ru_maxrss starts at what the parent held when it forked, so the program's own high-water mark goes first.
    """
    with suppress(OSError, StopIteration, IndexError, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main(arguments: list[str]) -> None:
    """Command line of the child; the result goes to the file that `Files.result` names."""
    setting_file, folder, side, job, run = arguments
    given = json.loads(Path(setting_file).read_text())
    files = Files(Path(folder))
    setting = Setting(**given["setting"])
    output = files.output(side, job, int(run))
    if job == "prepare":
        prepare(setting, files)
        result: dict[str, Any] = {}
    elif job == "compare":
        from benchmarks.vs_hloc_compare import compare

        result = compare(files)
    else:
        output.mkdir(parents=True)
        result = measure(files, side, job, output, given["models"])
    with replace_file(files.result(side, job, int(run))) as path:
        path.write_text(json.dumps({"code": given["code"], **result}, indent=1))


if __name__ == "__main__":
    if sys.argv[3] == "ours":
        from samfeat_hloc.errors import run_cli

        run_cli(lambda: main(sys.argv[1:]))  # as our command lines run
    else:
        main(sys.argv[1:])
