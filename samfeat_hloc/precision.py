"""Which device and number format the network runs in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from samfeat_hloc.errors import ConfigError
from samfeat_hloc.quantized_ops import cpu_multiplies_bytes

Model = TypeVar("Model", bound=nn.Module)
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FAST_FLAGS = {"amx_bf16", "avx512_bf16"}


@dataclass(frozen=True)
class Runtime:
    """A device and the dtype of the convolutions on it; results are float32 either way.

    Attributes:
        device: where the network runs.
        dtype: of the convolutions, or of what is not in 8 bits.
        quantized: convolutions in 8 bits, for inference only.
    """

    device: torch.device
    dtype: torch.dtype
    quantized: bool = False

    @property
    def precision(self) -> str:
        """The setting's name, which features files record."""
        return "int8" if self.quantized else str(self.dtype).removeprefix("torch.")

    def prepare(self, model: Model) -> Model:
        """Move a model there, in the memory format that is fast there."""
        model.to(self.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def images(self, images: Tensor) -> Tensor:
        """Move images (B, 3, H, W) there."""
        return images.to(self.device, memory_format=torch.channels_last, non_blocking=True)

    def autocast(self) -> AbstractContextManager[object]:
        """The context to run the network in."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def choose_runtime(device: str | None = None, precision: Precision = "auto") -> Runtime:
    """The fastest setting of this machine that keeps the results, or the given one.

    ``auto``: float16 on CUDA, bfloat16 on CPUs with AMX or AVX512-BF16, float32 elsewhere. ``int8`` is for CPUs that
    multiply bytes (AVX512-VNNI, AMX) and changes the results a little (docs/speed.md).

    Raises:
        ConfigError: an unknown precision, a device that is not there, or int8 where it is not computed.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device is {device!r}; expected cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device is {device!r} but torch sees no CUDA device; use --device cpu")
    if precision == "int8":
        if chosen.type != "cpu" or not cpu_multiplies_bytes():
            where = "this CPU or this torch lacks it" if chosen.type == "cpu" else f"the device is {chosen}"
            raise ConfigError(
                f"precision is int8, but {where}; expected a CPU with AVX512-VNNI or AMX and torch 2.13; use auto"
            )
        return Runtime(chosen, _fastest(chosen), quantized=True)
    if precision != "auto" and precision not in DTYPES:
        raise ConfigError(f"precision is {precision!r}; expected auto, {', '.join(DTYPES)}, int8")
    return Runtime(chosen, DTYPES[precision] if precision != "auto" else _fastest(chosen))


def _fastest(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_fast_bfloat16() else torch.float32


def cpu_has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return not FAST_FLAGS.isdisjoint(flags.split())
