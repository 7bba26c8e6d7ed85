"""The inference form of the network equals the trained one: every attention, size, batch, strip and precision."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import torch.nn.functional as F

import samfeat_hloc.inference as inference
import samfeat_hloc.inference_stages as stages
from samfeat_hloc.errors import InputError
from samfeat_hloc.inference import InferenceNetwork
from samfeat_hloc.inference_ops import Convolution, ThinHead, onednn_fuses
from samfeat_hloc.inference_stages import Stages
from samfeat_hloc.keypoints import _window_max_by_shifts
from samfeat_hloc.model import Architecture, SAMFeat
from samfeat_hloc.sampling import sample


def network(**switches: str | int) -> SAMFeat:
    torch.manual_seed(0)
    model = SAMFeat(Architecture(**switches)).eval()  # type: ignore[arg-type]
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.3)  # biases, so that a forgotten one shows
    return model


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(1)
    coarse = torch.rand(batch, 3, height // 6, width // 6) * 2 - 1
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(-1, 1)


def corners_and_inside(width: int, height: int) -> torch.Tensor:
    torch.manual_seed(2)
    inside = torch.rand(60, 2) * torch.tensor([width - 1.0, height - 1.0])
    edges = torch.tensor([[0.0, 0.0], [width - 1.0, 0.0], [0.0, height - 1.0], [width - 1.0, height - 1.0], [0.3, 9.0]])
    return torch.cat([edges, inside])


SWITCHES = [*((way, 1) for way in ("released", "rows", "pixels", "off")), ("rows", 2), ("rows", 4), ("off", 4)]
SHAPES = [(1, 96, 64), (2, 64, 88), (1, 97, 131), (1, 66, 68), (1, 99, 33)]


@pytest.mark.parametrize(("attention", "phases"), SWITCHES)
@pytest.mark.parametrize(("batch", "height", "width"), SHAPES)
def test_maps_and_descriptors_equal_the_trained_form(
    attention: str, phases: int, batch: int, height: int, width: int
) -> None:
    model = network(attention=attention, phases=phases)
    images, points = pictures(batch, height, width), corners_and_inside(width, height)
    with torch.inference_mode():
        expected = model(images)
    fast = InferenceNetwork(model)
    maps = fast(images)
    torch.testing.assert_close(maps.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.edges, expected.edges, atol=1e-5, rtol=1e-4)
    for index in range(batch):
        descriptors = fast.describe(maps, index, points, (width, height))
        attended = fast.attend(maps, index, points, (width, height))
        for got, whole in ((descriptors, expected.descriptors), (attended[:, None], expected.attention)):
            read = sample(whole[index : index + 1], points[None], (width, height), "released")[0]
            torch.testing.assert_close(got, read, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("sampling", ["released", "exact"])
def test_both_ways_to_describe_read_the_same(sampling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = InferenceNetwork(network(attention="rows", sampling=sampling))
    maps, points = fast(pictures(1, 64, 80)), corners_and_inside(80, 64)
    monkeypatch.setattr(inference, "DENSE_FROM", 100.0)
    monkeypatch.setattr(inference, "CHUNK", 7)
    at_points = fast.describe(maps, 0, points, (80, 64))
    monkeypatch.setattr(inference, "DENSE_FROM", 0.0)
    everywhere = fast.describe(maps, 0, points, (80, 64))
    torch.testing.assert_close(at_points, everywhere, atol=1e-4, rtol=1e-4)
    assert len(fast.describe(maps, 0, points[:0], (80, 64))) == 0
    assert len(fast.attend(maps, 0, points[:0], (80, 64))) == 0


@pytest.mark.parametrize("phases", [1, 4])
@pytest.mark.parametrize("rows", [4, 12, 32])
def test_strips_do_not_show(rows: int, phases: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, images = InferenceNetwork(network(phases=phases)), pictures(2, 72, 64)
    monkeypatch.setattr(stages, "STRIP_PIXELS", 10**9)
    whole = fast(images)
    monkeypatch.setattr(stages, "STRIP_PIXELS", rows * 2 * 64)
    for got, expected in zip(fast(images), whole, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_close_as_autocast(dtype: torch.dtype) -> None:
    model, images = network(attention="rows"), pictures(1, 64, 96)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", dtype):
            cast = model(images)
    fast = InferenceNetwork(model)
    maps = fast(images.to(dtype))
    assert maps.logits.dtype == maps.edges.dtype == torch.float32
    error, allowed = (maps.logits - exact.logits).std(), (cast.logits - exact.logits).std()
    assert error < 1.5 * allowed
    points = corners_and_inside(96, 64)
    descriptors = fast.describe(maps, 0, points, (96, 64))
    read = sample(exact.descriptors, points[None], (96, 64), "released")[0]
    assert F.cosine_similarity(descriptors, read, dim=1).min() > 0.99


def test_fused_convolution_and_thin_head_are_the_plain_ones() -> None:
    torch.manual_seed(3)
    layer, maps = torch.nn.Conv2d(16, 24, 3, padding=1), torch.randn(2, 16, 9, 11)
    maps = maps.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = F.relu(layer(maps))
        for fused in {False, onednn_fuses(torch.device("cpu"), torch.float32)}:
            convolution = Convolution(layer, torch.float32, relu=True, fused=fused)
            torch.testing.assert_close(convolution(maps), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(convolution(maps, rows_padded=False), expected[:, :, 1:-1], atol=1e-5, rtol=1e-5)
        head = torch.nn.Conv2d(16, 1, 3, padding=1)
        for plain in (False, True):
            thin = ThinHead(head, torch.float32, torch.tensor([0.5]), plain)
            torch.testing.assert_close(thin(maps), head(maps) * 0.5, atol=1e-5, rtol=1e-5)


def test_a_moved_module_takes_its_weights_anew_and_copies_are_independent() -> None:
    model, images = network(), pictures(1, 32, 40)
    fast = InferenceNetwork(model)
    before = fast(images).logits
    other = copy.deepcopy(fast)
    with torch.no_grad():
        model.heatmap1.bias += 1
    after = fast.to("cpu")(images).logits
    torch.testing.assert_close(after, before + model.fuse_weight_1.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other(images).logits, before)


def test_what_cannot_be_compiled_runs_without_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fails)
    model, images = network(), pictures(1, 32, 40)
    fast = InferenceNetwork(model, compiled=True)
    with caplog.at_level(logging.WARNING):
        first, second = fast(images).logits, fast(images).logits
    torch.testing.assert_close(first, InferenceNetwork(model)(images).logits)
    torch.testing.assert_close(first, second)
    assert [record.message for record in caplog.records] == [
        "torch.compile failed, the network runs without it: no C++ compiler"
    ]


def test_the_form_for_gpus_and_compilers_is_the_same() -> None:
    model, images = network(attention="rows"), pictures(2, 64, 72)
    with torch.inference_mode():
        expected = Stages(model, torch.float32).run(images)
        plain = Stages(model, torch.float32, plain=True).run(images)
    for a, b in zip(plain, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_compiled_equals_plain() -> None:
    model, images = network(attention="rows"), pictures(1, 64, 64)
    fast = InferenceNetwork(model, compiled=True)
    maps = fast(images)
    for got, expected in zip(maps, InferenceNetwork(model)(images), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="expected"):
        InferenceNetwork(network())(torch.zeros(1, 1, 64, 64))


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 7])
def test_maxima_by_shifts_are_max_pooling(radius: int) -> None:
    torch.manual_seed(radius)
    scores = torch.randn(2, 1, 17, 23)
    expected = F.max_pool2d(scores, 2 * radius + 1, stride=1, padding=radius)
    assert torch.equal(_window_max_by_shifts(scores, radius), expected)
    bytes_ = (scores > 1).to(torch.uint8)
    assert torch.equal(_window_max_by_shifts(bytes_, radius) > 0, _window_max_by_shifts(bytes_.float(), radius) > 0)
