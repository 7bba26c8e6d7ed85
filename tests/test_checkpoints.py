"""Weights: round trips, the authors' format, wrong files, and the shipped checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samfeat_hloc.checkpoints import find_weights, load_weights, save_weights, shipped_weights
from samfeat_hloc.errors import InputError
from samfeat_hloc.model import Architecture, SAMFeat


def test_safetensors_keep_state_and_architecture(tmp_path: Path) -> None:
    model = SAMFeat(Architecture(attention="rows", sampling="exact", phases=4))
    save_weights(tmp_path / "w.safetensors", model, {"steps": "7"})
    weights = load_weights(tmp_path / "w.safetensors")
    assert weights.architecture == model.architecture
    assert weights.metadata["steps"] == "7"
    assert len(weights.sha256) == 64
    assert all(torch.equal(weights.state[key], value) for key, value in model.state_dict().items())
    assert not weights.build().training
    (tmp_path / "plain.txt").write_text("readable by whom the umask lets")
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_released_format_loads_with_no_conversion(tmp_path: Path, prefix: str) -> None:
    model = SAMFeat()
    torch.save({prefix + key: value for key, value in model.state_dict().items()}, tmp_path / "model_29.pt")
    weights = load_weights(tmp_path / "model_29.pt")
    assert weights.architecture == Architecture(attention="released", sampling="released")
    assert torch.equal(weights.state["conv1a.weight"], model.conv1a.weight)


def test_another_network_is_refused_by_its_keys(tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in SAMFeat().state_dict().items() if key != "conv1a.bias"}
    save_file({**state, "fc.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"missing keys: conv1a\.bias; unexpected keys: fc\.weight"):
        load_weights(tmp_path / "w.safetensors")
    state["conv1a.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"conv1a\.bias has shape"):
        load_weights(tmp_path / "w.safetensors")


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.pt"):
        (tmp_path / name).write_bytes(b"not a checkpoint at all")
        with pytest.raises(InputError, match=r"checkpoint|safetensors"):
            load_weights(tmp_path / name)
    torch.save([1, 2, 3], tmp_path / "list.pt")
    with pytest.raises(InputError, match="state dict"):
        load_weights(tmp_path / "list.pt")
    with pytest.raises(InputError, match="no weights called"):
        load_weights(tmp_path / "absent.pt")


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "ran"),)  # type: ignore[return-value]

    torch.save({"conv1a.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="loads safely"):
        load_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_the_shipped_weights_are_small_and_load() -> None:
    assert shipped_weights()
    assert find_weights(None).stat().st_size < 12_000_000
    weights = load_weights()
    assert weights.architecture.attention == "rows"
    assert int(weights.metadata["steps"]) > 0
