"""Ours against hloc, stage by stage: seconds, peak memory, and whether both give the same.

    python -m benchmarks.vs_hloc --dataset ../shared/data/south_building --hloc HLOC --json vs_hloc.json
    python -m benchmarks.vs_hloc --num-database 8 --num-queries 3 --max-keypoints 512   # the embedded town, ours alone

Both sides get the same images, features file, pairs, matches and model. Each stage runs in a process of its own, in
turns, several times; the median counts. Imports and the loading of the network are outside the clock and shown apart.
What is measured is kept (`--outputs`, by setting and by the code of the side), so an interrupted command goes on where
it was.

hloc's triangulation writes pairs that pycolmap 4 takes for UNDEFINED, and finds no point: they are marked CALIBRATED
for it here. With `--hloc-pycolmap FOLDER` (pip install --no-deps --target FOLDER pycolmap==3.13.0) this one stage of
hloc runs as written, on the older pycolmap. `--estimated` adds a row with estimate_two_view_geometries=True on both
sides, which takes many times longer: measured once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.vs_hloc_colmap import colmap_options
from benchmarks.vs_hloc_report import format_report
from benchmarks.vs_hloc_run import Benchmark
from benchmarks.vs_hloc_setting import Setting
from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import ConfigError, InputError, run_cli


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    defaults = Setting()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vs_hloc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, help="folder in Aachen's layout; default: the embedded town")
    parser.add_argument("--hloc", type=Path, help="hloc's checkout; default: ours alone")
    parser.add_argument("--hloc-pycolmap", type=Path, help="folder with pycolmap 3.13, for hloc's triangulation")
    parser.add_argument("--estimated", action="store_true", help="also triangulate by robust estimation, once")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/vs_hloc"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    parser.add_argument("--runs", type=int, default=3, help="of each stage (%(default)s)")
    for name in ("num_database", "num_queries", "num_retrieved", "num_extract", "max_keypoints"):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=getattr(defaults, name), help="%(default)s")
    parser.add_argument("--aliked", type=Path, help="COLMAP's ONNX file aliked-n16rot, for a row of its features")
    parser.add_argument("--lightglue", type=Path, help="COLMAP's ONNX file aliked-lightglue")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        raise ConfigError(f"--runs is {options.runs}; expected at least 1")
    if (options.aliked is None) != (options.lightglue is None):
        raise ConfigError("ALIKED is measured with LightGlue; give both --aliked and --lightglue, or neither")
    for name in ("aliked", "lightglue"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            raise InputError(f"--{name} {path} does not exist; give COLMAP's ONNX file")
    if options.dataset is not None and not options.dataset.is_dir():
        raise InputError(f"the dataset {options.dataset} does not exist; give a folder in the layout of Aachen")
    if options.hloc_pycolmap is not None and options.hloc is None:
        raise ConfigError("--hloc-pycolmap is for hloc's triangulation; give --hloc too")
    return options


def main() -> None:
    """Command line."""
    options = parse()
    setting = Setting(
        dataset=str(options.dataset.resolve()) if options.dataset else None,
        num_database=options.num_database,
        num_queries=options.num_queries,
        num_retrieved=options.num_retrieved,
        num_extract=options.num_extract,
        max_keypoints=options.max_keypoints,
    )
    models = {"aliked": str(options.aliked), "lightglue": str(options.lightglue)} if options.aliked else {}
    if models:
        colmap_options("aliked", setting.max_keypoints, models)  # whether this pycolmap can, before hours of work
    benchmark = Benchmark(setting, options.outputs, options.hloc, options.hloc_pycolmap, options.estimated, models)
    report = benchmark.run(options.runs)
    print(format_report(report))
    if options.json:
        with replace_file(options.json) as path:
            path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
