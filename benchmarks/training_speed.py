"""How fast does training go? Pairs per second, forward and backward with every loss, in the formats of this machine.

    python -m benchmarks.training_speed --json OUT.json

Pairs of crops of noise with made-up teachers, already in memory: the time is the network's, the losses' and the
optimizer's, and in the rows "with data" that of drawing batches too. TFLOP/s counts the network's forward and backward
pass as torch counts them; on a GPU the share of the chip's dense bfloat16 peak is given where it is known.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.errors import run_cli
from samfeat_hloc.model import SAMFeat
from samfeat_hloc.precision import FAST_FLAGS, Runtime
from training.bank import Bank
from training.batch import Batch
from training.config import TrainingConfig
from training.pairs import PairSampler
from training.records import TeacherRow, View
from training.trainer import Trainer

PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense bfloat16 of a chip, by a part of its name (the maker's data sheets)."""


@dataclass(frozen=True)
class Setting:
    """One row: a number format, the memory format, and whether drawing batches is counted."""

    name: str
    dtype: torch.dtype
    channels_last: bool = True
    compile: bool = False
    with_data: bool = False


class PlainRuntime(Runtime):
    """As `Runtime`, but in torch's default memory format."""

    def prepare(self, model: Any) -> Any:
        """Move a model there."""
        return model.to(self.device)

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Move images there."""
        return images.to(self.device).contiguous()


def made_up_bank(size: int, device: torch.device, views: int = 8) -> Bank:
    """Noise with an embedding, groups and edges, and pairs of it."""
    rng = np.random.default_rng(0)
    side = 2 * size

    def view(index: int) -> View:
        coarse = rng.integers(0, 255, (side // 8, side // 8, 3)).astype(np.uint8)
        image = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        groups = np.kron(rng.integers(1, 30, (8, 8)), np.ones((16, 16), int)).astype(np.int16)
        edges = rng.integers(0, 255, (side // 4, side // 4)).astype(np.uint8)
        embedding = rng.normal(size=(256, 64, 64)).astype(np.float16)
        return View(str(index), image, TeacherRow(embedding, None, groups, edges))

    points = np.repeat(rng.uniform(0, side - 1, (1024, 2)).astype(np.float32), 2, axis=0).reshape(1024, 4)
    ends = np.array([[i, (i + 1) % views] for i in range(views)])
    kept = [view(index) for index in range(views)]
    return Bank(views, kept.__getitem__, np.zeros(views, np.int64), ends, lambda _: points, device)


def measure(setting: Setting, config: TrainingConfig, device: torch.device, seconds: float) -> dict[str, Any]:
    """Pairs per second of one setting, over at least `seconds` and three steps."""
    runtime = (Runtime if setting.channels_last else PlainRuntime)(device, setting.dtype)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(config, output=folder, compile=setting.compile), runtime)
        host, generator = torch.Generator().manual_seed(0), torch.Generator(device=device).manual_seed(0)
        sampler = PairSampler(made_up_bank(config.size, device), (1.0,), config, generator, host)
        batch: Batch = sampler.draw()
        for _ in range(2):
            trainer.train_step(batch)
        _wait(device)
        start, steps = time.perf_counter(), 0
        while steps < 3 or time.perf_counter() - start < seconds:
            trainer.train_step(sampler.draw() if setting.with_data else batch)
            steps += 1
            if steps % 20 == 0:
                _wait(device)
        _wait(device)
        taken = time.perf_counter() - start
    rate = config.pairs * steps / taken
    result: dict[str, Any] = {"setting": setting.name, "pairs_per_s": rate, "steps": steps}
    tflops = rate * flops_of_a_pair(config.size) / 1e12
    result["tflops"] = tflops
    if device.type == "cuda":
        result["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        peak = next((one for chip, one in PEAK_TFLOPS.items() if chip in torch.cuda.get_device_name()), None)
        result["share_of_peak"] = None if peak is None else tflops / peak
    return result


def flops_of_a_pair(size: int) -> int:
    """Floating point operations of the network, forward and backward, for two images."""
    with torch.device("meta"):
        network, images = SAMFeat(), torch.zeros(2, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        maps = network(images)
        sum(part.sum() for part in maps[:5]).backward()  # type: ignore[union-attr]
    return int(counter.get_total_flops())


def settings_of(device: torch.device) -> list[Setting]:
    """What is worth comparing on a device."""
    plain = Setting("float32, contiguous", torch.float32, channels_last=False)
    fast = Setting("bfloat16, channels_last", torch.bfloat16)
    rows = [plain, Setting("float32, channels_last", torch.float32), fast]
    rows.append(replace(fast, name="bfloat16, channels_last, with data", with_data=True))
    if device.type == "cuda":
        rows.append(replace(fast, name="bfloat16, channels_last, compiled", compile=True))
        rows.append(replace(fast, name="bfloat16, channels_last, compiled, with data", compile=True, with_data=True))
    return rows


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> str:
    """The chip, and what it has for matrices."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    has = ", ".join(sorted(FAST_FLAGS.intersection(flags))) or "no bfloat16 instructions"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {has}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=4, help="in a batch")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each row, at least")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    args = parser.parse_args()
    device = torch.device(args.device)
    config = TrainingConfig(size=args.size, pairs=args.pairs)
    rows = list[dict[str, Any]]()
    print(f"{machine(device)}; {args.size}x{args.size}, {args.pairs} pairs a batch, all five losses")
    for setting in settings_of(device):
        row = measure(setting, config, device, args.seconds)
        rows.append({**row, "times_plain": row["pairs_per_s"] / rows[0]["pairs_per_s"] if rows else 1.0})
        share = row.get("share_of_peak")
        peak = "" if share is None else f", {share:.1%} of the peak"
        speed = f"{row['pairs_per_s']:9.2f} pairs/s {rows[-1]['times_plain']:6.2f}x {row['tflops']:8.3f} TFLOP/s{peak}"
        print(f"{setting.name:46s}{speed}", flush=True)
    if args.json:
        report = {"machine": machine(device), "torch": str(torch.__version__), "size": args.size, "pairs": args.pairs}
        with replace_file(args.json) as temporary:
            temporary.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    run_cli(main)
