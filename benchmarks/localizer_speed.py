"""How long does one photograph take, in a map held in memory?

python -m benchmarks.localizer_speed --map outputs/aachen/samfeat/map --dataset outputs/aachen/town-seed0
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import InputError, run_cli
from samfeat_hloc.images import read_image
from samfeat_hloc.layout import CONDITIONS, AachenLayout
from samfeat_hloc.localizer import Localizer


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=Path, required=True, help="folder of write_map")
    parser.add_argument("--dataset", type=Path, required=True, help="folder in Aachen's layout, for its queries")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    layout = AachenLayout.find(options.dataset)
    queries = [query for condition in CONDITIONS for query in layout.queries(condition)]
    if len(queries) < 2:
        raise InputError(f"{options.dataset} has {len(queries)} queries; expected at least 2, the first warms up")
    start = time.perf_counter()
    localizer = Localizer(options.map)
    load_s = time.perf_counter() - start
    times, localized = [], 0
    for query in queries:
        image = read_image(layout.images / query.name)[0]
        start = time.perf_counter()
        pose = localizer.localize(image, vars(query.camera))
        times.append(time.perf_counter() - start)
        localized += pose.status == "localized"
    figures = {
        "queries": len(queries),
        "localized": localized,
        "load_s": round(load_s, 2),
        "first_s": round(times[0], 3),
        "median_s": round(float(np.median(times[1:])), 3),
        "slowest_s": round(max(times[1:]), 3),
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        with replace_file(options.json) as path:
            path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
