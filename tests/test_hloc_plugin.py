"""SAMFeat inside hloc: registration, models, command lines; on a stand-in for hloc's loading, and on hloc where it is.

PYTHONPATH=HLOC python -m pytest tests/test_hloc_plugin.py
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import samfeat_hloc
from samfeat_hloc.digests import file_sha256
from samfeat_hloc.errors import ConfigError, InputError, MissingDependencyError, run_cli
from samfeat_hloc.extractors import get_extractor
from samfeat_hloc.hloc_plugin import EXTRACTORS, MATCHERS, cli, run_stage
from samfeat_hloc.hloc_plugin_models import DEFAULT_CODEBOOK, MAX_INDEX
from samfeat_hloc.matchers import get_matcher
from samfeat_hloc.vlad import Codebook
from tests.hloc_picture import picture

BASE_MODEL = """
import torch
class BaseModel(torch.nn.Module):
    default_conf, required_inputs = {}, []
    def __init__(self, conf):
        super().__init__()
        self.conf = {**self.default_conf, **conf}
        self._init(self.conf)
    def forward(self, data):
        return self._forward(data)
"""
STAGE = """
import argparse
confs = {"own": {"model": {"name": "own"}}}
ran = []
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", choices=list(confs.keys()))
    ran.append(confs[parser.parse_args().conf])
"""


@pytest.fixture
def no_hloc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """hloc as never imported; what was there is back afterwards."""
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "hloc"}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "hloc"]:
        del sys.modules[name]
    sys.modules.update(ours)


@pytest.fixture
def stand_in(no_hloc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package called hloc that loads its models as hloc does."""
    root = tmp_path / "standin" / "hloc"
    for package in ("", "extractors", "matchers", "utils"):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
    (root / "utils/base_model.py").write_text(BASE_MODEL)
    for stage in ("extract_features", "match_features"):
        (root / f"{stage}.py").write_text(STAGE)
    (root / "silent.py").write_text("confs = {}\n")
    monkeypatch.syspath_prepend(str(root.parent))
    return root


def load(package: str, conf: dict[str, Any]) -> torch.nn.Module:
    """A model as hloc makes it: the one class of the module that was defined there."""
    path = f"hloc.{package}.{conf['model']['name']}"
    module = __import__(path, fromlist=[""])
    base = importlib.import_module("hloc.utils.base_model").BaseModel
    classes = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == path]
    (kind,) = [kind for kind in classes if issubclass(kind, base)]
    return kind(conf["model"]).eval().to("cpu")


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 255


def test_without_hloc_one_line_says_how_to_get_it(
    no_hloc: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hloc", None)
    with pytest.raises(MissingDependencyError, match=r"git clone .*Hierarchical-Localization"):
        samfeat_hloc.register_with_hloc()
    monkeypatch.setattr(sys, "argv", ["hloc_plugin", "extract_features", "--conf", "samfeat"])
    with pytest.raises(SystemExit) as stopped:
        run_cli(cli)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_broken_hloc_names_what_it_needs(stand_in: Path) -> None:
    (stand_in / "match_features.py").write_text("import no_such_package\n")
    with pytest.raises(MissingDependencyError, match="needs no_such_package"):
        samfeat_hloc.register_with_hloc()


def test_registration_adds_confs_and_one_class_a_module_once(stand_in: Path) -> None:
    samfeat_hloc.register_with_hloc()
    extract, match = (importlib.import_module(f"hloc.{name}") for name in ("extract_features", "match_features"))
    assert set(extract.confs) == {"own", *EXTRACTORS}
    assert set(match.confs) == {"own", *MATCHERS}
    before = dict(sys.modules)
    extract.confs["samfeat"]["model"]["max_keypoints"] = 7
    samfeat_hloc.register_with_hloc()
    assert extract.confs["samfeat"]["model"]["max_keypoints"] == 7
    assert EXTRACTORS["samfeat"]["model"]["max_keypoints"] == 4096
    assert sys.modules["hloc.extractors.samfeat"] is before["hloc.extractors.samfeat"]
    assert {f"{kind}.{conf['model']['name']}" for kind, confs in
            (("extractors", EXTRACTORS), ("matchers", MATCHERS)) for conf in confs.values()} == {
                "extractors.samfeat", "extractors.samfeat_vlad", "matchers.samfeat"}  # fmt: skip


def test_outputs_do_not_collide(stand_in: Path) -> None:
    outputs = [conf["output"] for conf in (*EXTRACTORS.values(), *MATCHERS.values())]
    assert len(set(outputs)) == len(outputs)


def test_features_are_those_of_our_own_extractor(stand_in: Path) -> None:
    samfeat_hloc.register_with_hloc()
    model, image = load("extractors", EXTRACTORS["samfeat"]), picture()
    found, direct = model({"image": tensor(image)}), get_extractor("samfeat")(image)
    assert found["keypoints"].dtype == torch.float64  # hloc halves float32
    assert found["descriptors"].shape == (1, 128, len(direct))
    np.testing.assert_allclose(found["keypoints"][0], direct.keypoints, atol=1e-4)
    np.testing.assert_allclose(found["descriptors"][0].T, direct.descriptors, atol=1e-4)
    np.testing.assert_allclose(found["attention"][0], direct.attention, atol=1e-4)
    assert model.detection_noise == direct.uncertainty
    flat = model({"image": torch.full((1, 1, 64, 64), 0.5)})  # grey, and nothing to see
    assert flat["keypoints"].shape == (1, 0, 2)
    assert flat["descriptors"].shape == (1, 128, 0)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"max_keypoint": 5}, ConfigError, "max_keypoints"),
        ({"preset": "sift"}, ConfigError, "preset"),
        ({"preset": "no-such"}, ConfigError, "no-such"),
        ({"max_keypoints": 40_000}, ConfigError, "int16"),
        ({"weights": "no-such.pt"}, InputError, "no-such.pt"),
    ],
)
def test_bad_confs_are_refused(stand_in: Path, fields: dict[str, Any], error: type[Exception], message: str) -> None:
    samfeat_hloc.register_with_hloc()
    with pytest.raises(error, match=message):
        load("extractors", {"model": {"name": "samfeat", **fields}})


def test_two_images_a_call_are_refused(stand_in: Path) -> None:
    samfeat_hloc.register_with_hloc()
    with pytest.raises(InputError, match="one image"):
        load("extractors", EXTRACTORS["samfeat"])({"image": torch.zeros(2, 3, 64, 64)})


@pytest.mark.parametrize("name", MATCHERS)
def test_matches_are_those_of_our_own_matcher(stand_in: Path, name: str) -> None:
    samfeat_hloc.register_with_hloc()
    model = load("matchers", MATCHERS[name])
    rng = np.random.default_rng(0)
    data = {f"descriptors{side}": _descriptors(rng, count) for side, count in (("0", 40), ("1", 50))}
    data |= {f"attention{side}": torch.rand(1, count) + 0.5 for side, count in (("0", 40), ("1", 50))}
    found = model(data)
    one, other = (_features(data, side) for side in "01")
    direct = get_matcher(name.removeprefix("samfeat-"))(one, other)
    np.testing.assert_array_equal(found["matches0"][0], direct.matches0)
    np.testing.assert_allclose(found["matching_scores0"][0], direct.scores0)
    none = model({**data, "descriptors1": data["descriptors1"][..., :0], "attention1": torch.zeros(1, 0)})
    assert none["matches0"].shape == (1, 40)
    assert (none["matches0"] == -1).all()
    nothing = model({**data, "descriptors0": data["descriptors0"][..., :0], "attention0": torch.zeros(1, 0)})
    assert nothing["matches0"].shape == (1, 0)


def test_matches_that_hlocs_int16_cannot_hold_are_left_out(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    samfeat_hloc.register_with_hloc()
    rng = np.random.default_rng(0)
    many = _descriptors(rng, 60)
    data = {"descriptors0": many, "descriptors1": many}
    assert MAX_INDEX == 32767
    monkeypatch.setattr("samfeat_hloc.hloc_plugin_models.MAX_INDEX", 49)
    found = load("matchers", MATCHERS["samfeat-nn-mutual"])(data)
    assert found["matches0"][0].tolist() == [*range(50), *[-1] * 10]
    assert (found["matching_scores0"][0, 50:] == 0).all()
    assert "left out 10 matches" in caplog.text


def test_the_default_codebook_is_the_listed_one_and_retrieves(stand_in: Path, tmp_path: Path) -> None:
    sums = (DEFAULT_CODEBOOK.parent / "SHA256SUMS").read_text()
    assert f"{file_sha256(DEFAULT_CODEBOOK)}  {DEFAULT_CODEBOOK.name}" in sums
    samfeat_hloc.register_with_hloc()
    model = load("extractors", EXTRACTORS["samfeat-vlad"])
    views = [picture(), picture(slice(20, 180)), np.ascontiguousarray(picture()[::-1])]
    one, near, far = (model({"image": tensor(view)})["global_descriptor"][0] for view in views)
    assert one.shape == (64 * 128,)
    assert float(one.norm()) == pytest.approx(1, abs=1e-5)
    assert one @ near > one @ far
    codebook = Codebook.load(DEFAULT_CODEBOOK)
    Codebook(codebook.centroids, codebook.conf, {"weights_sha256": "0" * 64}).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="other weights"):
        load("extractors", {"model": {"name": "samfeat_vlad", "codebook": tmp_path / "other.npz"}})


def test_command_lines_of_hloc_take_our_confs(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = list(sys.argv)
    run_stage("extract_features", ["--conf", "samfeat-aachen"])
    run_stage("match_features", ["--conf", "samfeat-nn-ratio"])
    stages: list[ModuleType] = [sys.modules["hloc.extract_features"], sys.modules["hloc.match_features"]]
    assert [stage.ran for stage in stages] == [[EXTRACTORS["samfeat-aachen"]], [MATCHERS["samfeat-nn-ratio"]]]
    assert sys.argv == argv
    with pytest.raises(SystemExit):
        run_stage("extract_features", ["--conf", "no-such"])
    with pytest.raises(InputError, match="did you mean 'extract_features'"):
        run_stage("extract_feature", [])
    with pytest.raises(InputError, match="no command line 'silent'"):
        run_stage("silent", [])


def test_other_weights_have_files_of_their_own(
    stand_in: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["hloc_plugin", "--weights", "samfeat-photos-1", "extract_features", "--conf", "samfeat-released"]
    for _ in range(2):  # a second call names nothing twice
        monkeypatch.setattr(sys, "argv", command)
        cli()
    (conf, again) = sys.modules["hloc.extract_features"].ran
    assert conf == again
    assert conf["output"] == "feats-samfeat-released-n10000-samfeat-photos-1"
    assert EXTRACTORS["samfeat-released"]["output"] == "feats-samfeat-released-n10000"
    model = load("extractors", conf)
    assert model.extractor.weights_sha256 == get_extractor("samfeat", weights="samfeat-photos-1").weights_sha256
    assert "release's settings" not in caplog.text
    load("extractors", EXTRACTORS["samfeat-released"])
    assert caplog.text.count("samfeat-released has the release's settings") == 1
    monkeypatch.setattr(sys, "argv", [*command[:2], "no-such.pt", *command[3:]])
    with pytest.raises(SystemExit) as stopped:
        run_cli(cli)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "no-such.pt" in said and said.count("\n") == 1


def _descriptors(rng: np.random.Generator, count: int) -> Tensor:
    raw = torch.from_numpy(rng.normal(size=(1, 16, count)).astype(np.float32))
    return raw / raw.norm(dim=1, keepdim=True)


def _features(data: dict[str, Tensor], side: str) -> Any:
    descriptors = data[f"descriptors{side}"][0].T.numpy()
    points = np.zeros((len(descriptors), 2), np.float32)
    return samfeat_hloc.Features(points, descriptors, points[:, 0], data[f"attention{side}"][0].numpy(), (0, 0))
