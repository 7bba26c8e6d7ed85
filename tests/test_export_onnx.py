"""ONNX files: equal to torch at sizes they were not made at, run without torch, and bad ones are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from samfeat_hloc import export_onnx
from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError, SamfeatError
from samfeat_hloc.extractors import extractor_signature, get_extractor
from samfeat_hloc.model import Architecture, SAMFeat
from samfeat_hloc.onnx_form import KeypointsForm, MapsForm

WITHOUT_TORCH = """
import sys
import numpy as np
from samfeat_hloc.extractors import get_extractor
extractor = get_extractor({"name": "samfeat-onnx", "weights": sys.argv[1], "threads": 1})
print(len(extractor(np.zeros((40, 50, 3), np.uint8)).keypoints), "torch" in sys.modules)
"""


def picture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in export_onnx.PACKAGES:
        pytest.importorskip(name)
    path = tmp_path_factory.mktemp("onnx") / "samfeat.onnx"
    differences = export_onnx.main(path, max_keypoints=300)
    assert set(differences) == {"keypoints", "scores", "descriptors", "attention"}
    assert max(differences.values()) < export_onnx.TOLERANCE
    return path


def test_the_file_finds_what_the_extractor_finds(exported: Path) -> None:
    image = picture(150, 211)
    torch_features = get_extractor("samfeat", max_keypoints=300, precision="float32", device="cpu")(image)
    extractor = get_extractor({"name": "samfeat-onnx", "weights": str(exported), "threads": 1})
    features = extractor(image)
    assert features.image_size == torch_features.image_size == (211, 150)
    assert 20 < len(features.keypoints) <= 300
    distance = np.linalg.norm(features.keypoints[:, None] - torch_features.keypoints, axis=2)
    assert abs(len(features.keypoints) - len(torch_features.keypoints)) <= 2
    assert (distance.min(axis=1) < 1e-2).mean() > 0.99
    same = distance.argmin(axis=1)
    near = distance.min(axis=1) < 1e-2
    cosine = (features.descriptors * torch_features.descriptors[same]).sum(axis=1)
    assert cosine[near].min() > 0.9999
    assert (np.diff(features.scores) <= 0).all()
    assert extractor.weights_sha256 == load_weights().sha256
    assert extractor_signature(extractor)["name"] == "samfeat-onnx"


def test_a_blank_image_has_no_keypoints_and_fewer_can_be_asked_for(exported: Path) -> None:
    conf = {"name": "samfeat-onnx", "weights": str(exported), "threads": 1}
    assert len(get_extractor(conf)(np.full((64, 80, 3), 128, np.uint8)).keypoints) == 0
    assert len(get_extractor(conf, max_keypoints=7)(picture(96, 96)).keypoints) == 7


def test_it_runs_without_torch(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(exported)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["0", "False"], done.stderr


def test_other_weights_than_the_files_are_noticed(exported: Path) -> None:
    weights = load_weights()
    weights.state["conv_des.weight"] += 0.05
    with pytest.raises(SamfeatError, match="differs from torch"):
        export_onnx.check(KeypointsForm(weights.build(), 300).eval(), exported, weights)
    weights.state["heatmap1.bias"] -= 30
    with pytest.raises(SamfeatError, match="keypoints"):
        export_onnx.check(KeypointsForm(weights.build(), 300).eval(), exported, weights)


def test_bad_images_and_files_are_refused_in_one_line(exported: Path, tmp_path: Path) -> None:
    extractor = get_extractor({"name": "samfeat-onnx", "weights": str(exported), "threads": 1})
    for bad in (np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3), np.float32), np.zeros((31, 40, 3), np.uint8)):
        with pytest.raises(InputError, match="expected"):
            extractor(bad)
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for weights, message in (
        (None, "export_onnx"),
        ("missing.onnx", "export_onnx"),
        ("broken.onnx", "export it again"),
    ):
        path = None if weights is None else str(tmp_path / weights)
        with pytest.raises(InputError, match=message):
            get_extractor({"name": "samfeat-onnx", "weights": path})


@pytest.mark.slow
def test_maps_equal_the_network(tmp_path: Path) -> None:
    for name in export_onnx.PACKAGES:
        pytest.importorskip(name)
    path = tmp_path / "maps.onnx"
    differences = export_onnx.main(path, outputs="maps", opset=20)
    assert set(differences) == {"logits", "descriptors", "attention", "edges"}
    with pytest.raises(InputError, match="--outputs keypoints"):
        get_extractor({"name": "samfeat-onnx", "weights": str(path)})


@pytest.mark.parametrize("attention", ["released", "rows", "off"])
def test_the_graphs_maps_are_the_networks_at_any_size(attention: str) -> None:
    torch.manual_seed(0)
    model = SAMFeat(Architecture(attention=attention)).eval()  # type: ignore[arg-type]
    images = torch.rand(1, 3, 48, 56)
    with torch.inference_mode():
        expected, got = model(images * 2 - 1), MapsForm(model)(images)
    for a, b in zip(got, (expected.logits, expected.descriptors, expected.attention, expected.edges), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: object())
    output = tmp_path / "x.onnx"
    with pytest.raises(ConfigError, match="outputs"):
        export_onnx.main(output, outputs="matches")
    with pytest.raises(ConfigError, match="opset"):
        export_onnx.main(output, opset=11)
    with pytest.raises(ConfigError, match="border"):
        export_onnx.main(output, border=0)
    with pytest.raises(ConfigError, match="pixel attention"):
        MapsForm(SAMFeat(Architecture(attention="pixels")))
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingDependencyError, match=r"needs onnxscript; run: pip install 'samfeat-hloc\[onnx\]'"):
        export_onnx.main(output)
    assert not output.exists()
