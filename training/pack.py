"""One compact file of everything a training run reads, small enough to travel with the code to a machine with a GPU.

python -m training.pack --output data.h5 --source kind=photos,path=PHOTOS --source kind=rgbd,path=FRAMES,weight=0.5

A source is given by the fields of training.records.SourceConfig, or as JSON: '{"kind": "photos", "path": "a,b"}'.
A pack larger than its limit gets its photographs at a lower quality, and if that is not enough, fewer of them: the same
share of every source's.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.config import from_dict
from samfeat_hloc.errors import ConfigError, run_cli
from samfeat_hloc.progress import progress
from training.packing.chapters import walk_order
from training.packing.codec import encode_image
from training.packing.reader import Indices, Pack
from training.packing.writer import PackOptions, PackWriter, copy_part
from training.records import SourceConfig
from training.sources import open_source
from training.sources.views import Skipped, describe

logger = logging.getLogger(__name__)
LIMIT_MIB = 45.0
MIB = 1 << 20
BYTES_A_VIEW, BYTES_A_PAIR, BYTES_A_FILE = 160, 24, 1 << 17
"""What names, tables and the file itself take, counted generously."""


def pack(
    sources: Sequence[SourceConfig],
    output: Path | str,
    limit_mib: float | None = LIMIT_MIB,
    options: PackOptions | None = None,
) -> Path:
    """Pack the views and pairs of the sources; one view is in memory at a time.

    Args:
        sources: what to pack, in this order.
        output: the file; it is there when it is whole, and a killed run leaves it as it was.
        limit_mib: largest size in MiB; None: whatever it takes.
        options: how much of each part to keep.

    Returns:
        the file.

    Raises:
        ConfigError: no source, or a limit under which nothing fits.
        InputError: a source has no usable view, or no usable pair where it should have some.
    """
    options, output = options or PackOptions(), Path(output)
    if not sources:
        raise ConfigError("no source to pack; give at least one --source kind=photos,path=FOLDER")
    if limit_mib is not None and limit_mib <= 0:
        raise ConfigError(f"the limit is {limit_mib:g} MiB; expected a positive number")
    opened = [(config, open_source(config)) for config in sources]  # what is not there is said before hours of work
    with replace_file(output) as final, _scratch(output) as scratch:
        whole = scratch / "whole.h5"
        with PackWriter(whole, options) as writer:
            for config, source in opened:
                _add_source(writer, config, source)
        best = whole if limit_mib is None else _fit(whole, limit_mib, options, scratch)
        best.replace(final)
    _report(output)
    return output


def _add_source(writer: PackWriter, config: SourceConfig, source: Any) -> None:
    teacher = _teacher_signature(config)
    entry = writer.begin(config, teacher)
    desc = f"{config.kind} {Path(config.path).name}"
    for view in progress(source.views(), total=getattr(source, "num_files", None), desc=desc, unit="view"):
        writer.add_view(view)
    for pair in progress(source.pairs(), total=getattr(source, "num_pairs", None), desc=desc, unit="pair"):
        writer.add_pair(pair)
    entry.skipped = dict(source.skipped)


def _teacher_signature(config: SourceConfig) -> dict[str, Any] | None:
    if config.teacher is None:
        return None
    from training.teachers.store import open_teacher

    teacher = open_teacher(config.teacher)
    return None if teacher is None else dict(teacher.signature)


def _fit(whole: Path, limit_mib: float, options: PackOptions, scratch: Path) -> Path:
    """The pack, made smaller as far as the limit demands."""
    limit = int(limit_mib * MIB)
    if whole.stat().st_size <= limit:
        return whole
    tight = scratch / "tight.h5"
    with Pack(whole) as pack:

        def reencoded(view: int) -> bytes:
            kept = pack.encoded(view)
            return min(kept, encode_image(pack.image(view), options.tight_quality), key=len)

        def watch(views: Any) -> Iterator[int]:
            return progress(views, total=len(views), desc=f"quality {options.tight_quality}", unit="view")

        copy_part(pack, tight, options, np.arange(len(pack)), reencoded, watch)
    logger.info("over %g MiB: photographs at quality %d", limit_mib, options.tight_quality)
    room = limit - BYTES_A_FILE
    while tight.stat().st_size > limit:
        with Pack(tight) as pack:
            kept = _sample(pack, room, options.seed)
            if not len(kept):
                raise ConfigError(f"nothing fits in {limit_mib:g} MiB; give a larger --limit-mib")
            smaller = scratch / "part.h5"
            copy_part(pack, smaller, options, kept, pack.encoded)
        smaller.replace(tight)
        room = int(room * 0.98)
    return tight


def _sample(pack: Pack, room: int, seed: int) -> Indices:
    """Views of the largest equal share of every source that takes no more than `room` bytes; partners stay together."""
    rng = np.random.default_rng([seed, 4005])
    rank = np.zeros(len(pack))
    pair_source = pack.pair_source
    for source in range(len(pack.sources)):
        views, pairs = np.flatnonzero(pack.view_source == source), np.flatnonzero(pair_source == source)
        order = walk_order(views, pairs, pack.pair_views, rng)
        rank[order] = (np.arange(len(order)) + 1) / len(order)
    cost = (pack.view_bytes() + BYTES_A_VIEW).astype(np.float64)
    later = pack.pair_views[np.arange(pack.num_pairs), rank[pack.pair_views].argmax(axis=1)]
    np.add.at(cost, later, pack.pair_bytes() + BYTES_A_PAIR)
    by_rank = np.argsort(rank, kind="stable")
    return np.sort(by_rank[np.cumsum(cost[by_rank]) <= room])


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A hidden folder beside the output; those of killed runs are removed."""
    prefix = f".{output.name}.packing-"
    for left in output.parent.glob(f"{prefix}*"):
        if not _alive(left.name.removeprefix(prefix)):
            shutil.rmtree(left, ignore_errors=True)
    folder = output.parent / f"{prefix}{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _report(output: Path) -> None:
    with Pack(output) as pack:
        for source in pack.sources:
            left = f", {source.left_out} views left out for the size" if source.left_out else ""
            error = "" if source.relation_error is None else f", relations within {source.relation_error:.4f}"
            what = describe(Skipped(source.skipped)) if source.skipped else "nothing skipped"
            logger.info(
                "%s %s: %d views, %d pairs, %s%s%s",
                source.config.kind, source.config.path, source.views, source.pairs, what, left, error,
            )  # fmt: skip
        logger.info("%s: %d views, %d pairs, %.1f MiB", output, len(pack), pack.num_pairs, output.stat().st_size / MIB)


def parse_source(text: str) -> SourceConfig:
    """A source from `key=value,key=value` or JSON; `overlap=0.2:0.7`.

    Raises:
        ConfigError: an unknown key, a value of another type, or no kind or path.
    """
    if text.lstrip().startswith("{"):
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"--source {text} is not JSON ({error}); expected an object") from None
    else:
        items = [item.partition("=") for item in text.split(",")]
        if any(not separator for _, separator, _ in items):
            raise ConfigError(f"--source {text} is not key=value,key=value; a path with a comma needs JSON")
        values = {key.strip(): _value(key.strip(), value) for key, _, value in items}
    missing = {"kind", "path"} - values.keys()
    if missing:
        raise ConfigError(f"--source {text} has no {' and no '.join(sorted(missing))}; expected kind=KIND,path=PATH")
    return from_dict(SourceConfig, values)


def _value(key: str, text: str) -> Any:
    if key in ("path", "kind", "teacher", "keypoints", "images"):
        return text
    try:
        numbers = [json.loads(part) for part in text.split(":")]
    except json.JSONDecodeError:
        raise ConfigError(f"--source: {key} is '{text}'; expected a number, or two with a colon between") from None
    return numbers[0] if len(numbers) == 1 else numbers


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--source", action="append", default=[], metavar="KEY=VALUE,...", help="may be repeated")
    parser.add_argument("--limit-mib", type=float, default=LIMIT_MIB, help="largest size (default: %(default)s)")
    parser.add_argument("--no-limit", action="store_true", help="whatever size it takes")
    for name, value in vars(PackOptions()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help="(default: %(default)s)")
    given = vars(parser.parse_args())
    options = PackOptions(**{name: given[name] for name in vars(PackOptions())})
    limit = None if given["no_limit"] else given["limit_mib"]
    pack([parse_source(text) for text in given["source"]], given["output"], limit, options)


if __name__ == "__main__":
    run_cli(main)
