"""`python -m datasets.town OUT`: render a town and write it as a dataset."""

import argparse
import time
from pathlib import Path

from samfeat_hloc.errors import ConfigError, run_cli

from .writer import VERSIONS, write_town


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m datasets.town", description=__doc__)
    parser.add_argument("output", type=Path, help="folder to write, in the layout of Aachen Day-Night")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another town (default: %(default)s)")
    parser.add_argument("--version", choices=VERSIONS, default="v1.1", help="layout to follow (default: %(default)s)")
    parser.add_argument("--database", type=int, default=64, help="database images (default: %(default)s)")
    parser.add_argument("--day", type=int, default=20, help="day queries (default: %(default)s)")
    parser.add_argument("--night", type=int, default=20, help="night queries (default: %(default)s)")
    arguments = parser.parse_args()
    if min(arguments.database, arguments.seed + 1) < 1 or min(arguments.day, arguments.night) < 0:
        raise ConfigError("--database must be at least 1, --seed, --day and --night at least 0")
    start = time.perf_counter()
    write_town(arguments.output, arguments.seed, arguments.version, arguments.database, arguments.day, arguments.night)
    print(
        f"{arguments.output}: town {arguments.seed} as {arguments.version}, {arguments.database} database, "
        f"{arguments.day} day and {arguments.night} night images in {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    run_cli(main)
