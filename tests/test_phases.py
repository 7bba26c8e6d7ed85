"""Keypoint logits in the mean over pixel phases: those of the image moved by a pixel, and in one pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samfeat_hloc.checkpoints import load_weights, save_weights
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.extractors.samfeat import SAMFeatConf, SAMFeatExtractor
from samfeat_hloc.model import Architecture, SAMFeat
from samfeat_hloc.phases import CHOICES, PHASES, enlarge, halve, moved
from tests.training.photographs import smooth_photo

close = torch.testing.assert_close
BORDER = 68
"""Pixels that an image's border reaches into the heat maps."""


def network(phases: int, attention: str = "off") -> SAMFeat:
    torch.manual_seed(0)
    return SAMFeat(Architecture(attention=attention, phases=phases)).eval()  # type: ignore[arg-type]


def photo(height: int, width: int) -> Tensor:
    image = torch.from_numpy(smooth_photo(3, height, width).copy()).permute(2, 0, 1).float()
    return (image / image.max())[None] * 2 - 1


def scales_of_the_image_moved(image: Tensor, pixels: int) -> Tensor:
    """(1, 4, h, w) heat maps of the released network, which saw the image down and right by some pixels."""
    shown = F.pad(image, (pixels, 8 - pixels, pixels, 8 - pixels), mode="replicate")
    scales = network(1)(shown, every_scale=True).scales
    assert scales is not None
    return scales[..., pixels : pixels + image.shape[2], pixels : pixels + image.shape[3]]


@torch.inference_mode()
@pytest.mark.parametrize("phases", CHOICES)
def test_the_mean_is_that_of_the_released_network_on_the_image_moved(phases: int) -> None:
    image = photo(192, 224)
    found = network(phases)(image, every_scale=True).scales
    each = [scales_of_the_image_moved(image, phase.pixels) for phase in PHASES[:phases]]
    halves = [scales_of_the_image_moved(image, first)[:, 1:2] for first in range(min(phases, 2))]
    expected = [
        each[0][:, :1],
        sum(halves) / len(halves),
        sum(scale[:, 2:3] for scale in each) / phases,
        each[0][:, 3:],
    ]
    inner = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    assert found is not None
    for index, scale in enumerate(expected):
        close(found[:, index : index + 1][inner], scale[inner], atol=1e-4, rtol=1e-3)
    if phases > 1:  # and it does matter
        assert float((found - each[0])[:, 1:3][inner].abs().mean()) > 0.01 * float(each[0][:, 1:3][inner].std())


@torch.inference_mode()
def test_an_image_moved_by_a_pixel_gives_nearer_logits() -> None:
    weights, image = load_weights("samfeat-photos-7"), photo(192, 224)
    shown = F.pad(image, (1, 7, 1, 7), mode="replicate")
    apart = []
    for phases in CHOICES:
        model = weights.build()
        model.architecture = replace(model.architecture, phases=phases)
        change = model(image).logits - model(shown).logits[..., 1:193, 1:225]
        apart.append(float(change[..., BORDER:-BORDER, BORDER:-BORDER].square().mean()))
    assert apart[1] < 0.5 * apart[0]
    assert apart[2] < 0.5 * apart[0]


def test_only_keypoints_depend_on_phases() -> None:
    image = photo(96, 104)
    one, four = (network(phases, "rows")(image) for phases in (1, 4))
    for name in ("descriptors", "attention", "student", "edges"):
        assert torch.equal(getattr(one, name), getattr(four, name))


@pytest.mark.parametrize(("height", "width"), [(8, 12), (9, 13), (11, 10)])
@pytest.mark.parametrize("shift", [0, 1])
def test_halves_on_a_moved_grid(height: int, width: int, shift: int) -> None:
    maps = torch.rand(2, 3, height, width)
    found = halve(maps, shift)
    for row in range(found.shape[2]):
        for column in range(found.shape[3]):
            top, left = 2 * row - shift, 2 * column - shift
            part = maps[:, :, max(top, 0) : top + 2, max(left, 0) : left + 2]
            close(found[:, :, row, column], part.amax(dim=(2, 3)))
    assert 2 * found.shape[2] - shift >= height
    assert 2 * found.shape[3] - shift >= width


@pytest.mark.parametrize(("height", "width"), [(64, 72), (61, 75), (99, 33)])
def test_values_come_back_to_the_pixels_they_are_of(height: int, width: int) -> None:
    """A ramp over the pixels, its means over cells of 4 on each grid, is the ramp again."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    for phase in PHASES:
        rows, columns = (-(-(side + phase.pixels) // 4) for side in (height, width))
        down, right = (torch.arange(count) * 4 + 1.5 - phase.pixels for count in (rows, columns))
        back = enlarge((2 * down[:, None] + right)[None, None], 4, phase.pixels, (height, width))[0, 0]
        assert back.shape == (height, width)
        close(back[4:-4, 4:-4], (2 * y + x)[4:-4, 4:-4])


@pytest.mark.parametrize("phase", PHASES)
def test_edges_are_read_where_the_other_grid_has_its_cells(phase: tuple[int, int]) -> None:
    down, right = torch.arange(10.0) * 4 + 1.5, torch.arange(12.0) * 4 + 1.5
    read = moved((2 * down[:, None] + right)[None, None], phase, (11, 12))[0, 0]  # type: ignore[arg-type]
    there = [torch.arange(count) * 4 + 1.5 - phase.pixels for count in (11, 12)]  # type: ignore[attr-defined]
    close(read[1:-1, 1:], (2 * there[0][:, None] + there[1])[1:-1, 1:])


def test_the_extractor_takes_as_many_as_the_weights_or_the_conf_say(tmp_path: Path) -> None:
    weights = load_weights("samfeat-photos-7")
    model = weights.build()
    model.architecture = replace(model.architecture, phases=4)
    save_weights(tmp_path / "four.safetensors", model, {})
    four = load_weights(tmp_path / "four.safetensors")
    assert (weights.architecture.phases, four.architecture.phases) == (1, 4)
    image = (photo(128, 160) + 1) / 2
    plain = {"precision": "float32", "device": "cpu"}
    found = {
        name: SAMFeatExtractor(given, SAMFeatConf(phases=phases, **plain))(image)[0]  # type: ignore[arg-type]
        for name, given, phases in (
            ("1", weights, None),
            ("4", four, None),
            ("1 of 4", four, 1),
            ("4 of 1", weights, 4),
        )
    }
    for one, other in (("1", "1 of 4"), ("4", "4 of 1")):
        assert torch.equal(found[one].keypoints, found[other].keypoints)
        assert torch.equal(found[one].descriptors, found[other].descriptors)
    assert found["1"].n > 20
    assert found["1"].n != found["4"].n or not torch.equal(found["1"].keypoints, found["4"].keypoints)


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    for make in (lambda: Architecture(phases=3), lambda: SAMFeatConf(phases=0)):
        with pytest.raises(ConfigError, match=r"phases is \d; expected one of 1, 2, 4"):
            make()
    model = network(1)
    object.__setattr__(model.architecture, "phases", 7)
    save_weights(tmp_path / "seven.safetensors", model, {"steps": "0"})
    with pytest.raises(InputError, match="phases is 7; expected one of 1, 2, 4"):
        load_weights(tmp_path / "seven.safetensors")
    assert json.loads(load_weights("samfeat-photos-5").metadata["architecture"]).get("phases", 1) == 1
