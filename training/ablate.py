"""Train the rows of an ablation table under one budget and print it with the accuracy that each reached.

python -m training.ablate --table IV --steps 300 --source kind=photos,path=BSDS,teacher=segmentation --validation DIR

Every row sees the same photographs, steps, batches and seeds. Finished rows are kept in OUTPUT and not trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.config import to_dict
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.precision import Runtime
from training.ablation_tables import TABLES, Row
from training.config import TrainingConfig
from training.feed import pack_once
from training.packing.writer import PackOptions
from training.presets import read_config
from training.records import SourceConfig
from training.team import Team
from training.train import parse_source, training_runtime, with_changes
from training.trainer import Trainer
from training.validation import matching_accuracy

logger = logging.getLogger(__name__)
TIMES = {"seconds": 0, "pairs_per_s": 1}
"""Columns of a run's cost, and their digits."""


def train_row(
    row: Row, config: TrainingConfig, validation: Sequence[str], folder: Path, runtime: Runtime, seed: int
) -> dict[str, Any]:
    """Train one row with one seed, or go on with it, and measure it; a finished one is read.

    Returns:
        the validation's figures, ``seconds`` of training and ``pairs_per_s``.
    """
    config = replace(row.of(config), seed=seed, output=str(folder))
    signature = {"config": to_dict(config), "validation": list(validation), "precision": str(runtime.dtype)}
    done = folder / "result.json"
    if done.is_file():
        result: dict[str, Any] = json.loads(done.read_text())
        if result["signature"] != json.loads(json.dumps(signature)):
            raise InputError(f"{done} was made with other settings; give another --output, or remove it")
        return result
    trainer = Trainer(config, runtime, Team())
    if (folder / "state.pt").is_file():
        trainer.resume()
    path = trainer.run()
    measured = matching_accuracy(load_weights(path).build(), validation, runtime)
    rate = config.pairs * config.steps / trainer.seconds if trainer.seconds else 0.0
    result = {**measured, "seconds": trainer.seconds, "pairs_per_s": rate, "signature": signature}
    with replace_file(done) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    (folder / "state.pt").unlink(missing_ok=True)
    return result


def ablate(
    table: str,
    config: TrainingConfig,
    output: Path,
    runtime: Runtime,
    seeds: Sequence[int],
    only: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Train every row of a table with every seed; ``only`` names some of the rows by their number, from 0.

    Returns:
        one entry a row: ``row``, ``paper``, and the list ``runs`` over seeds.

    Raises:
        ConfigError: no validation folder, no source, or a row that is not there.
    """
    if not config.validation:
        raise ConfigError("no --validation; give folders of homography sequences in HPatches layout to measure on")
    if not config.sources:
        raise ConfigError("no --source; give photographs with a teacher: kind=photos,path=DIR,teacher=segmentation")
    named, rows = rows_of(table, config), list[dict[str, Any]]()
    if only is not None and not set(only) <= set(range(len(named))):
        raise ConfigError(f"table {table} has rows 0 to {len(named) - 1}; --rows names {max(only, key=abs)}")
    for index, row in enumerate(named):
        if only is not None and index not in only:
            continue
        sources = [_taught(source, row.teachers) for source in config.sources]
        path = pack_once(sources, output, PackOptions(channels=256))  # all channels, for direct feature distillation
        shared = replace(config, sources=(SourceConfig("pack", str(path)),), validation=())
        runs = []
        for seed in seeds:
            logger.info("table %s, %s, seed %d", table, row.name, seed)
            folder = output / table / f"{index:02d}-seed{seed}"
            runs.append(train_row(row, shared, config.validation, folder, runtime, seed))
        rows.append({"row": row.name, "paper": row.paper, "runs": runs})
    return rows


def rows_of(table: str, config: TrainingConfig) -> list[Row]:
    """The rows of a table; that of teachers gets one for each store of `training.teacher` among the sources."""
    rows = list(TABLES[table][1])
    if table == "teachers":
        named = {teacher for row in rows for teacher in row.teachers or ()}
        stores = {source.teacher for source in config.sources if source.teacher is not None} - named
        rows += [Row(f"SAM, {store}", {}, teachers=(store,)) for store in sorted(stores)]
    return rows


def _taught(source: SourceConfig, teachers: Sequence[str] | None) -> SourceConfig:
    keep = teachers is None or source.teacher is None or source.teacher in teachers
    return source if keep else replace(source, teacher=None)


def format_table(table: str, rows: Sequence[dict[str, Any]], steps: int) -> str:
    """A Markdown table: mean and, of several seeds, range."""
    title = TABLES[table][0]
    names = [name for name in rows[0]["runs"][0] if name.startswith("mma@3/")]
    paper = "hours in the paper" if table == "VIII" else "MMA@3 in the paper"
    sets = [name.replace("mma@3/", "MMA@3 ") for name in names]
    head = ["row", *sets, "correct", "seeds", "seconds", "pairs/s", paper]
    lines = [f"Table {table}: {title}; {steps} steps", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        runs = row["runs"]
        cells = [row["row"], *(_spread([run[name] for run in runs], 3) for name in names)]
        cells += [_spread([run["correct"] for run in runs], 0), str(len(runs))]
        cells += [f"{np.mean([run[name] for run in runs]):.{digits}f}" for name, digits in TIMES.items()]
        cells.append("" if row["paper"] is None else f"{row['paper']:g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int) -> str:
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, train what is missing, print the table."""
    parser = argparse.ArgumentParser(prog="python -m training.ablate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", required=True, choices=list(TABLES))
    parser.add_argument("--steps", type=int, required=True, help="of every row")
    parser.add_argument("--config", default="photos", help="what the rows change: a preset or a JSON file")
    parser.add_argument("--source", action="append", default=[], metavar="KEY=VALUE,...", help="as for training.train")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of the rows to train, from 0; default: all")
    parser.add_argument("--validation", nargs="+", default=[], help="folders in HPatches layout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("outputs/ablate"))
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="fields of TrainingConfig"
    )
    parser.add_argument("--json", type=Path, help="also write all figures here")
    parser.add_argument("--device")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    config = with_changes(read_config(options.config), options.set)
    config = replace(config, steps=options.steps, tensorboard=False)
    if options.source:
        config = replace(config, sources=tuple(parse_source(text) for text in options.source))
    if options.validation:
        config = replace(config, validation=tuple(options.validation))
    runtime = training_runtime(options.device, options.precision)
    rows = ablate(options.table, config, options.output, runtime, options.seeds, options.rows)
    print(format_table(options.table, rows, config.steps))
    if options.json:
        report = {"table": options.table, "steps": config.steps, "machine": platform.processor(), "rows": rows}
        with replace_file(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
