"""The doctor: a healthy installation, a broken checksum, datasets good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from samfeat_hloc import checkpoints, doctor
from samfeat_hloc.errors import InputError
from tests.datasets.test_layout import write_dataset


def test_a_healthy_installation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    doctor.main([str(write_dataset(tmp_path))])
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith("all good")
    for word in ("torch", "pycolmap", "device", "hloc", "samfeat-photos-1", "vlad.npz", "layout v1.1"):
        assert word in printed


def test_damaged_weights_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    zeros = "0" * 64
    (tmp_path / "SHA256SUMS").write_text(f"{zeros}  w.safetensors\n{zeros}  w.vlad.npz\n")
    monkeypatch.setattr(checkpoints, "SHIPPED_FOLDER", tmp_path)
    with pytest.raises(SystemExit) as stop:
        doctor.main([])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "listed 000000000000" in printed
    assert "w.vlad.npz is missing" in printed
    assert "2 broken" in printed


def test_a_broken_dataset_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        doctor.main([str(tmp_path)])
    assert "images_upright" in capsys.readouterr().out
    with pytest.raises(InputError, match="is no folder"):
        doctor.main([str(tmp_path / "absent")])
