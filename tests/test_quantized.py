"""The network in 8 bits: each operation against its plain form, the whole against the float32 network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import samfeat_hloc.precision as precision
from samfeat_hloc.calibration import LAYERS, dead_leaves, measure_ranges
from samfeat_hloc.checkpoints import load_weights
from samfeat_hloc.errors import ConfigError
from samfeat_hloc.extractors import get_extractor
from samfeat_hloc.inference import InferenceNetwork
from samfeat_hloc.inference_guidance import Guidance
from samfeat_hloc.inference_ops import ThinHead
from samfeat_hloc.inference_stages import Stages
from samfeat_hloc.model import EdgeAttention
from samfeat_hloc.precision import choose_runtime
from samfeat_hloc.quantized_ops import (
    QuantizedConvolution,
    QuantizedHead,
    Scale,
    cpu_multiplies_bytes,
    halve_by_maximum,
    signed,
)
from samfeat_hloc.quantized_stages import QuantizedGuidance, QuantizedStages

needs_bytes = pytest.mark.skipif(not cpu_multiplies_bytes(), reason="this CPU has no products of bytes")


def maps(channels: int, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (2, channels, height, width), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )


def test_signed_bytes_and_maxima() -> None:
    everything = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(signed(everything).int(), everything.int() - 128)
    some = maps(8, 11, 14)
    assert torch.equal(halve_by_maximum(some).float(), F.max_pool2d(some.float(), 2))


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(12, 16), (11, 14), (10, 9), (13, 15)])
def test_maxima_on_a_moved_grid(height: int, width: int, shift: int, above: bool) -> None:
    some = maps(8, height, width)
    got = QuantizedStages._halve_moved(object(), some, shift, above)  # type: ignore[arg-type]
    expected = Stages._halve_moved(object(), some.float(), shift, above)  # type: ignore[arg-type]
    assert torch.equal(got.float(), expected)
    assert got.is_contiguous(memory_format=torch.channels_last)


@needs_bytes
@pytest.mark.parametrize("source", [Scale(0.01), Scale(0.02, 128)])
@pytest.mark.parametrize("rows_padded", [True, False])
def test_convolution_equals_that_of_the_values(source: Scale, rows_padded: bool) -> None:
    torch.manual_seed(1)
    layer, given = nn.Conv2d(16, 24, 3, padding=1), maps(16, 12, 20)
    values = source.values(given, torch.float32)
    padding = (1, 1) if rows_padded else (0, 1)
    with torch.inference_mode():
        expected = F.relu(F.conv2d(values, layer.weight, layer.bias, padding=padding))
        got = QuantizedConvolution(layer, source, None, True, torch.float32)(given, rows_padded)
        target = Scale.up_to(float(expected.amax()))
        in_bytes = QuantizedConvolution(layer, source, target, True, torch.float32)(given, rows_padded)
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) < 0.01 * float(expected.max())
    assert in_bytes.dtype == torch.uint8
    assert float((target.values(in_bytes, torch.float32) - got).abs().max()) < 0.51 * target.scale


@needs_bytes
def test_a_shift_is_added_to_what_the_convolution_sees_but_not_to_its_border() -> None:
    torch.manual_seed(1)
    layer, given, source = nn.Conv2d(3, 8, 3, padding=1), maps(3, 12, 20), Scale(0.02, 128)
    with torch.inference_mode():
        plain = QuantizedConvolution(layer, source, None, False, torch.float32)(given)
        shifted = QuantizedConvolution(layer, source, None, False, torch.float32, shift=0.5)(given)
        expected = 0.5 * layer.weight.sum(dim=(1, 2, 3))[:, None, None].expand(2, -1, 12, 20)
    torch.testing.assert_close(shifted - plain, expected, atol=1e-4, rtol=1e-4)


@needs_bytes
def test_thin_head_in_bytes() -> None:
    torch.manual_seed(2)
    layer, given, scale = nn.Conv2d(32, 1, 3, padding=1), maps(32, 10, 12), torch.tensor([0.3])
    plain = ThinHead(layer, torch.float32, scale)
    with torch.inference_mode():
        expected = plain(given.float() * 0.01)
        got = QuantizedHead(layer, Scale(0.01), scale)(given)
    assert float((got - expected).abs().max()) < 0.02 * float(expected.abs().max())


@needs_bytes
@pytest.mark.parametrize("attention", ["rows", "released"])
def test_guidance_in_bytes(attention: str) -> None:
    torch.manual_seed(3)
    module = EdgeAttention(64, attention).eval()
    for layer, bias in ((module.query_conv, 3.0), (module.key_conv, 0.3), (module.value_conv, 0.1)):
        nn.init.normal_(layer.bias, std=bias)  # so that a forgotten one shows
    scale = torch.rand(64) * 3 + 0.1  # every channel has its own range
    rows = torch.linspace(0.1, 2, 12)[:, None]  # rows differ, so that it matters which are attended
    features = (torch.rand(2, 64, 12, 16) * scale[:, None, None] * rows).contiguous(memory_format=torch.channels_last)
    edges = torch.rand(2, 1, 12, 16)
    ranges = (features * edges).abs().amax(dim=(0, 2, 3))
    with torch.inference_mode():
        expected = Guidance(module, torch.float32)(features.clone(memory_format=torch.preserve_format), edges)
        got = QuantizedGuidance(module, torch.float32, ranges)(
            features.clone(memory_format=torch.preserve_format), edges
        )
    added = expected - features
    assert float(added.abs().mean()) > 0.1  # the attention adds something
    assert float((got - expected).abs().mean()) < 0.03 * float(added.abs().mean())


def test_dead_leaves_and_ranges_are_the_same_each_time() -> None:
    pictures = dead_leaves(side=64, leaves=60)
    assert pictures.shape == (2, 3, 64, 64)
    assert 0 <= float(pictures.min()) < 0.1
    assert 0.9 < float(pictures.max()) <= 1
    assert torch.equal(pictures, dead_leaves(side=64, leaves=60))
    model = load_weights().build()
    first, second = measure_ranges(model, pictures), measure_ranges(model, pictures)
    assert first.layers == second.layers
    assert set(first.layers) == {*LAYERS, "dist_conv_feat"}
    assert torch.equal(first.features, second.features)
    assert float(first.features.min()) > 0


@needs_bytes
@pytest.mark.parametrize("phases", [1, 4])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 96, 160), (2, 64, 88), (1, 97, 131), (1, 66, 68)])
def test_the_network_in_bytes_is_near_the_float32_one(batch: int, height: int, width: int, phases: int) -> None:
    model = load_weights().build()
    model.architecture = replace(model.architecture, phases=phases)
    images = dead_leaves(batch, max(height, width), seed=5)[:, :, :height, :width] * 2 - 1
    points = torch.rand(80, 2) * torch.tensor([width - 1.0, height - 1.0])
    plain, quantized = InferenceNetwork(model), InferenceNetwork(model, quantized=True)
    expected, got = plain(images), quantized(images)
    error = (got.logits - expected.logits).abs()
    assert got.logits.shape == (batch, 1, height, width)
    assert float(error.mean()) < 0.04 * float(expected.logits.std())
    assert float(error[..., :2, :].mean()) < 0.2 * float(expected.logits.std())  # the image's border, too
    for index in range(batch):
        one = plain.describe(expected, index, points, (width, height))
        other = quantized.describe(got, index, points, (width, height))
        assert float(F.cosine_similarity(one, other).median()) > 0.995


@needs_bytes
def test_most_keypoints_are_found_again_in_bytes() -> None:
    image = (dead_leaves(1, 320, 600, seed=9)[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
    exact = get_extractor("samfeat", precision="float32", max_keypoints=300)(image)
    quick = get_extractor("samfeat", precision="int8", max_keypoints=300)
    found = quick(image)
    apart = torch.cdist(torch.from_numpy(exact.keypoints), torch.from_numpy(found.keypoints)).amin(dim=1)
    assert quick.precision == "int8"
    assert float((apart < 0.5).float().mean()) > 0.85


def test_where_int8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bytes", lambda: False)
    with pytest.raises(ConfigError, match="this CPU or this torch lacks it; expected a CPU with AVX512-VNNI or AMX"):
        choose_runtime("cpu", "int8")
    with pytest.raises(ConfigError, match="compile and precision int8 exclude each other"):
        get_extractor("samfeat", precision="int8", compile=True)
    with pytest.raises(ConfigError, match="expected auto, float32, bfloat16, float16, int8"):
        choose_runtime("cpu", "int4")  # type: ignore[arg-type]
