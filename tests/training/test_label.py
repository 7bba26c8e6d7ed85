"""Labels: a file that says how it was made; nothing lost when killed; bad input named."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.formats.features import FeatureReader
from samfeat_hloc.formats.h5store import journal_path
from samfeat_hloc.precision import choose_runtime
from tests.kill import kill_after, run
from tests.training.photographs import facade
from training import label as command
from training.adaptation import AdaptationConfig
from training.corners import pixel_map
from training.detector import Detector
from training.label import label, photo_names

CPU = choose_runtime("cpu", "float32")
COUNT = 8
STAGE = """
import sys, time
from pathlib import Path
from training import label
from training.adaptation import AdaptationConfig
inner = label.repeatable_points
def slow(*arguments):
    with Path(sys.argv[3]).open("a") as log:
        log.write("x")
    time.sleep(0.05)
    return inner(*arguments)
label.repeatable_points = slow
label.label(sys.argv[1], sys.argv[2], config=AdaptationConfig(views=2), device="cpu")
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for number in range(COUNT):
        Image.fromarray(facade(number, 100, 120)).save(root / ("sub" if number % 2 else "") / f"{number}.png")
    Image.fromarray(np.zeros((100, 120), np.uint8)).save(root / "0_groups.png")
    (root / "notes.txt").write_text("no photograph")
    return root


def test_killed_twice_and_resumed(photos: Path, tmp_path: Path) -> None:
    whole = label(photos, tmp_path / "whole.h5", config=AdaptationConfig(views=2), device="cpu")
    output, log = tmp_path / "labels.h5", tmp_path / "log"
    assert kill_after(2, journal_path(output), STAGE, photos, output, log) == -signal.SIGKILL
    assert kill_after(5, journal_path(output), STAGE, photos, output, log) == -signal.SIGKILL
    assert not output.exists()
    last = run(STAGE, photos, output, log)
    assert last.returncode == 0, last.stderr
    assert output.read_bytes() == whole.read_bytes()
    assert COUNT <= len(log.read_text()) <= COUNT + 2  # one in flight at each kill
    assert run(STAGE, photos, output, log).returncode == 0
    assert len(log.read_text()) <= COUNT + 2  # a finished one is not labelled again


def test_file_says_how_it_was_made_and_reads_as_features(photos: Path, tmp_path: Path) -> None:
    output = label(photos, tmp_path / "labels.h5", config=AdaptationConfig(views=2), device="cpu")
    with FeatureReader(output) as reader:
        assert sorted(reader.names) == sorted(photo_names(photos))
        assert len(reader.names) == COUNT and "sub/1.png" in reader.names
        assert reader.attrs["kind"] == "keypoint_labels"
        conf = json.loads(reader.attrs["conf"])
        assert (conf["name"], conf["views"], conf["homography"]["rotation_deg"]) == ("corners", 2, 30.0)
        assert reader.read_keypoints("0.png").dtype == np.float32
    with h5py.File(output) as file:
        assert list(file["0.png"]["image_size"]) == [120, 100]
        assert file["0.png"]["scores"].dtype == np.float32
        assert len(file["0.png"]["scores"]) == len(file["0.png"]["keypoints"])
    with pytest.raises(InputError, match=r"conf\.views is 2 there and 3 now"):
        label(photos, output, config=AdaptationConfig(views=3), device="cpu")
    Image.fromarray(facade(77, 110, 130)).save(photos / "0.png")
    with pytest.raises(InputError, match=r"0\.png is another file"):
        label(photos, output, config=AdaptationConfig(views=2), device="cpu")


def test_turned_photographs_have_keypoints_in_stored_pixels(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    upright = facade(3, 100, 130)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(upright).save(root / "upright.png")
    Image.fromarray(np.rot90(upright)).save(root / "turned.png", exif=exif)
    output = label(root, tmp_path / "labels.h5", config=AdaptationConfig(views=3), device="cpu")
    with FeatureReader(output) as reader:
        one, two = reader.read_keypoints("upright.png"), reader.read_keypoints("turned.png")
        assert reader.item_attrs("turned.png")["exif_orientation"] == 6
    np.testing.assert_allclose(two, np.stack([one[:, 1], 129 - one[:, 0]], axis=1), atol=1e-3)


@pytest.mark.parametrize(("weights", "farthest"), [("samfeat-photos-1", 0.5), ("samfeat-photos-2", 2.0)])
def test_the_shipped_detectors_label_their_own_points(
    photos: Path, tmp_path: Path, weights: str, farthest: float
) -> None:
    """The quadratic fit moves a point by half a pixel at most, the soft-argmax by its radius."""
    config = AdaptationConfig(views=4)
    finder = Detector(weights, CPU, 0.5)
    photo = torch.from_numpy(facade(0, 96, 112)).permute(2, 0, 1).float()[None] / 255
    found = finder(photo, torch.ones(1, 1, 96, 112, dtype=torch.bool))
    inside = torch.nonzero(found.mask[0, 0])
    assert len(inside) > 10
    assert (inside >= 5).all() and (inside < torch.tensor([91, 107])).all()
    offset = (found.positions - pixel_map(photo)).abs().amax(dim=1)[found.mask[:, 0]]
    assert 0 < offset.max() <= farthest
    for path in sorted(photos.rglob("*.png"))[1:]:
        path.unlink()
    default = label(photos, tmp_path / "a.h5", weights=weights, config=config, device="cpu")
    with FeatureReader(default) as reader:
        assert json.loads(reader.attrs["conf"])["name"] == "detector"
        assert len(reader.signature["weights_sha256"]) == 64
        assert len(reader.read_keypoints("0.png")) > 10


def test_bad_photographs_are_left_out_and_listed(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "2.png").write_bytes(b"junk")
    Image.fromarray(facade(0, 50, 120)).save(photos / "small.png")
    output = label(photos, tmp_path / "labels.h5", config=AdaptationConfig(views=2), device="cpu")
    with FeatureReader(output) as reader:
        assert len(reader.names) == COUNT - 1
    rows = json.loads((tmp_path / "labels.skipped.json").read_text())
    assert [row["name"] for row in rows] == ["2.png", "small.png"]
    assert "cannot be read" in rows[0]["reason"] and "below 96" in rows[1]["reason"]
    assert "left out 2 photographs" in caplog.text


def test_bad_input(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        label(tmp_path / "none", tmp_path / "l.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no photograph"):
        label(tmp_path / "empty", tmp_path / "l.h5")
    (tmp_path / "empty" / "a.jpg").write_bytes(b"junk")
    with pytest.raises(InputError, match="none of the 1 photographs"):
        label(tmp_path / "empty", tmp_path / "l.h5", device="cpu")
    with pytest.raises(ConfigError, match="uses no weights"):
        label(photos, tmp_path / "l.h5", "corners", "samfeat-photos-1")
    with pytest.raises(InputError, match="no weights called"):
        label(photos, tmp_path / "l.h5", weights="nothing")
    with pytest.raises(ConfigError, match="not made in 8 bits"):
        label(photos, tmp_path / "l.h5", "detector", precision="int8")
    assert not (tmp_path / "l.h5").exists()
    with pytest.raises(ConfigError, match="at least 2"):
        AdaptationConfig(views=1)
    with pytest.raises(ConfigError, match="share"):
        AdaptationConfig(min_agreement=0)
    arguments = ["label", "--images", str(photos), "--output", str(tmp_path / "l.h5"), "--views", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        run_cli(command.main)
    assert caught.value.code == 2
    assert "error: views is 1; expected at least 2" in capsys.readouterr().err
