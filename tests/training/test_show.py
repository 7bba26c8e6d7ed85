"""The network's maps as a picture: the right size, the right place, and one line for bad input."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError, InputError, run_cli
from samfeat_hloc.model import Maps
from samfeat_hloc.precision import choose_runtime
from tests.kill import run
from tests.training.photographs import smooth_photo
from training import show as command
from training.panels import GAP, TITLE_HEIGHT, colour, titled_row
from training.show import draw_row, look, show

CPU = choose_runtime("cpu", "float32")


class Painter(torch.nn.Module):
    """Fires at one pixel of the image (red) and marks the left half of it as edges."""

    def forward(self, images: torch.Tensor) -> Maps:
        height, width = images.shape[2:]
        coarse = torch.zeros(1, 1, height // 4, width // 4)
        edges = coarse.clone()
        edges[..., : width // 8] = 1
        logits = torch.where(images[:, :1] > 0.9, 6.0, -6.0)
        return Maps(logits, coarse.expand(-1, 8, -1, -1), coarse + 2, coarse, edges)


def photograph(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[40, 61] = 255
    return image


def test_maps_cover_the_photograph_and_not_the_padding() -> None:
    seen = look(photograph(101, 122), Painter(), CPU)
    assert seen.photo.shape == (101, 122, 3) and (seen.photo == photograph(101, 122)).all()
    assert seen.heat.shape == (101, 122) and seen.edges.shape == seen.attention.shape == (26, 31)
    np.testing.assert_allclose(seen.keypoints, [[61, 40]])
    assert seen.scores[0] > 0.9
    assert np.unravel_index(seen.heat.argmax(), seen.heat.shape) == (40, 61)


def test_large_photographs_are_reduced() -> None:
    seen = look(np.full((300, 600, 3), 128, np.uint8), Painter(), CPU, max_side=200)
    assert seen.photo.shape == (100, 200, 3)
    assert len(seen.keypoints) == 0


def test_row_shows_each_map_in_its_place() -> None:
    seen = look(photograph(96, 128), Painter(), CPU)
    row = draw_row(seen, "a very long name of a photograph.jpg", width=64)
    assert row.shape == (TITLE_HEIGHT + 48, 5 * 64 + 4 * GAP, 3) and row.dtype == np.uint8
    panels = [row[TITLE_HEIGHT:, number * (64 + GAP) :][:, :64] for number in range(5)]
    assert panels[1][:, :30].min() > 240 and panels[1][:, 34:].max() < 15  # edges, white at the left
    heat = panels[2].astype(int).sum(axis=2)
    assert np.unravel_index(heat.argmax(), heat.shape) == (20, 30)  # a peak of one pixel survives the reduction
    dot = panels[4].max(axis=2) > 120
    assert dot[20, 30] and dot.sum() < 30
    assert (row[:TITLE_HEIGHT] < 128).any()  # titles are there


def test_colours_go_from_dark_to_bright() -> None:
    light = colour(np.linspace(0, 1, 64)[None]).astype(int).sum(axis=2)[0]
    assert light[0] < 30 and light[-1] > 650
    assert (np.diff(light) > 0).all()
    assert titled_row({"a": np.zeros((5, 9, 3), np.uint8)}).shape == (TITLE_HEIGHT + 5, 9, 3)


def test_shipped_weights_several_photographs(tmp_path: Path) -> None:
    paths = []
    for number, (height, width) in enumerate([(64, 96), (80, 60)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(smooth_photo(number, height, width)).save(path)
        paths.append(path)
    output = show(paths, tmp_path / "out" / "show.png", width=48, device="cpu", max_keypoints=5)
    picture = np.asarray(Image.open(output))
    assert picture.shape == (2 * TITLE_HEIGHT + GAP + 32 + 64, 5 * 48 + 4 * GAP, 3)
    network = CPU.prepare(load_weights().build())
    assert 0 < len(look(np.asarray(Image.open(paths[0])), network, CPU, max_keypoints=5).keypoints) <= 5


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="does not exist"):
        show([tmp_path / "none.jpg"], tmp_path / "o.png")
    photo = tmp_path / "a.png"
    Image.fromarray(photograph(96, 128)).save(photo)
    with pytest.raises(InputError, match="no weights called"):
        show([photo], tmp_path / "o.png", weights="nothing")
    with pytest.raises(ConfigError, match="keypoints is 0"):
        show([photo], tmp_path / "o.png", max_keypoints=0)
    broken = Painter()
    broken.forward = lambda images: Maps(*[torch.full((1, 1, 8, 8), torch.nan)] * 5)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="not finite"):
        look(photograph(96, 128), broken, CPU)
    monkeypatch.setattr(sys, "argv", ["show", str(tmp_path / "none.jpg"), "--output", str(tmp_path / "o.png")])
    with pytest.raises(SystemExit) as caught:
        run_cli(command.main)
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_needs_neither_matplotlib_nor_opencv() -> None:
    done = run(
        "import sys; sys.modules.update(cv2=None, matplotlib=None, pycolmap=None, torchvision=None, faiss=None)\n"
        "import numpy as np\n"
        "from training.show import draw_row, look\n"
        "from samfeat_hloc.checkpoints import load_weights\n"
        "from samfeat_hloc.precision import choose_runtime\n"
        "r = choose_runtime('cpu')\n"
        "print(draw_row(look(np.zeros((40, 40, 3), np.uint8), r.prepare(load_weights().build()), r), 't', 40).shape)"
    )
    assert done.returncode == 0, done.stderr
