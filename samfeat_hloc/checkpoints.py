"""Reading and writing weights: safetensors with metadata, or a torch checkpoint such as ``model_29.pt``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from samfeat_hloc.atomic import replace_file
from samfeat_hloc.config import from_dict, to_dict
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError
from samfeat_hloc.model import Architecture, SAMFeat

SHIPPED_FOLDER = Path(__file__).parent / "weights"
DEFAULT_WEIGHTS = "samfeat-photos-10"


@dataclass(frozen=True)
class Weights:
    """A checkpoint read from disk.

    Attributes:
        state: the state dict, float32.
        architecture: the network's switches, from the metadata; those of the release where there is none.
        metadata: everything else the file says about itself.
        sha256: of the file.
    """

    state: dict[str, Tensor]
    architecture: Architecture
    metadata: dict[str, str]
    sha256: str

    def build(self) -> SAMFeat:
        """The network with these weights, in evaluation mode."""
        with torch.device("cpu"):
            model = SAMFeat(self.architecture)
        model.load_state_dict(self.state)
        return model.eval()


def shipped_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in SHIPPED_FOLDER.glob("*.safetensors"))


def find_weights(name: str | Path | None) -> Path:
    """Path of weights given by the name of a shipped checkpoint or by a file's path.

    Raises:
        InputError: neither a file nor a shipped name.
    """
    name = DEFAULT_WEIGHTS if name is None else name
    shipped = SHIPPED_FOLDER / f"{name}.safetensors"
    for path in (Path(name), shipped):
        if path.is_file():
            return path
    raise InputError(
        f"no weights called {name}; expected a checkpoint file or one of the shipped: {', '.join(shipped_weights())}"
    )


def load_weights(name: str | Path | None = None) -> Weights:
    """Read a checkpoint; None reads the shipped default.

    Raises:
        InputError: no such file, no checkpoint, or the checkpoint of another network (names the keys).
    """
    path = find_weights(name)
    state, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    try:
        architecture = from_dict(Architecture, json.loads(metadata.get("architecture", "{}")))
    except (json.JSONDecodeError, ConfigError) as error:
        raise InputError(f"{path}: its metadata describes no architecture this version knows: {error}") from error
    _check_keys(path, state, architecture)
    return Weights({key: value.float() for key, value in state.items()}, architecture, metadata, file_sha256(path))


def save_weights(
    path: Path | str, model: SAMFeat, metadata: dict[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Write a model, atomically: safetensors, or a torch file for another suffix; the architecture is added."""
    path = Path(path)
    state = {key: value.detach().cpu().to(dtype).contiguous() for key, value in model.state_dict().items()}
    metadata = {**metadata, "architecture": json.dumps(to_dict(model.architecture))}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, temporary, metadata=metadata)
        else:
            torch.save({"state": state, "metadata": metadata}, temporary)


def weights_suffix() -> str:
    """``.safetensors``, or ``.pt`` where that package is not installed, as on a bare training machine."""
    return ".safetensors" if find_spec("safetensors") else ".pt"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingDependencyError(f"reading {path} needs safetensors; run: pip install safetensors") from None
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}); download or export it again") from error


def _read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        kind = type(error).__name__
        raise InputError(f"{path} is no checkpoint that loads safely ({kind}); expected a state dict") from error
    metadata: dict[str, str] = {}
    if isinstance(content, dict) and content.keys() == {"state", "metadata"}:  # written by save_weights
        content, metadata = content["state"], content["metadata"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds no state dict; expected a dictionary of tensors, as released or as exported")
    return {key.removeprefix("module."): value for key, value in content.items()}, metadata


def _check_keys(path: Path, state: dict[str, Tensor], architecture: Architecture) -> None:
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in SAMFeat(architecture).state_dict().items()}
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    wrong = [key for key in expected if key in state and tuple(state[key].shape) != expected[key]]
    if missing or unexpected:
        raise InputError(
            f"{path} is the checkpoint of another network; missing keys: {_list(missing)}; unexpected keys: "
            f"{_list(unexpected)}; give SAMFeat weights"
        )
    if wrong:
        key = wrong[0]
        raise InputError(
            f"{path} is the checkpoint of another network: {key} has shape {tuple(state[key].shape)}, "
            f"expected {expected[key]}; give SAMFeat weights"
        )


def _list(keys: list[str], limit: int = 6) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return (", ".join(keys[:limit]) + more) or "none"
