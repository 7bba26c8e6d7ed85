"""The network: released keys and arithmetic, any size, every attention, every precision of this machine."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.model import Architecture, EdgeAttention, SAMFeat, _resize

BACKBONE = [f"conv{level}{letter}" for level in (1, 2, 3, 4) for letter in "ab"]
HEADS = ["dist_conv_feat", "dist_conv_fushion", "scalemap", "conv_des", "conv_det", "conv_edg"]
CONVOLUTIONS = [
    *BACKBONE,
    *HEADS,
    *(f"heatmap{level}" for level in (1, 2, 3, 4)),
    *(f"egde_module.{name}_conv" for name in ("query", "key", "value")),
]


@pytest.fixture(scope="module")
def model() -> SAMFeat:
    torch.manual_seed(0)
    return SAMFeat().eval()


def test_state_dict_has_the_released_keys_and_size(model: SAMFeat) -> None:
    expected = {f"{name}.{kind}" for name in CONVOLUTIONS for kind in ("weight", "bias")}
    expected |= {f"fuse_weight_{i}" for i in (1, 2, 3, 4)}
    state = model.state_dict()
    assert set(state) == expected
    assert all(state[f"fuse_weight_{i}"].shape == (1,) for i in (1, 2, 3, 4))
    assert sum(value.numel() for value in state.values()) == 2_109_652


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 57), (97, 131), (64, 120)])
@pytest.mark.parametrize("attention", ["released", "rows", "pixels", "off"])
def test_every_size_gives_maps_of_the_documented_shapes(height: int, width: int, attention: str) -> None:
    network = SAMFeat(Architecture(attention=attention)).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        maps = network(torch.rand(2, 3, height, width) * 2 - 1, every_scale=True)
    quarter = (height // 2 // 2, width // 2 // 2)
    assert maps.logits.shape == (2, 1, height, width)
    assert maps.descriptors.shape == (2, 128, *quarter)
    assert maps.attention.shape == maps.edges.shape == (2, 1, *quarter)
    assert maps.student.shape == (2, 256, quarter[0] // 2, quarter[1] // 2)
    assert maps.attention.min() >= 0
    assert maps.edges.min() >= 0
    assert maps.edges.max() <= 1
    assert maps.scales is not None and maps.scales.shape == (2, 4, height, width)
    fused = sum(getattr(network, f"fuse_weight_{i + 1}").item() * maps.scales[:, i : i + 1] for i in range(4))
    torch.testing.assert_close(maps.logits, fused)
    assert all(torch.isfinite(value).all() for value in maps if value is not None)


@pytest.mark.parametrize("bad", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 31, 64)])
def test_wrong_shapes_are_refused(model: SAMFeat, bad: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        model(torch.zeros(bad))


def test_row_attention_is_the_released_formula() -> None:
    torch.manual_seed(1)
    module = EdgeAttention(6, "released")
    features, edges = torch.randn(1, 6, 5, 9), torch.randn(1, 6, 5, 9)
    query, key, value = module.query_conv(edges)[0], module.key_conv(edges)[0], module.value_conv(edges)[0]
    expected = features[0].clone()
    for channel in range(6):
        for row in range(5):
            scores = torch.stack([(query[channel, row] * key[channel, other]).sum() * 0.01 for other in range(5)])
            weights = torch.softmax(scores, 0)
            expected[channel, row] += sum(weights[other] * value[channel, other] for other in range(5))
    torch.testing.assert_close(module(edges, features)[0], expected)


def test_rows_equal_released_at_the_training_width_only() -> None:
    torch.manual_seed(2)
    released, rows = EdgeAttention(4, "released"), EdgeAttention(4, "rows")
    rows.load_state_dict(released.state_dict())
    same, other = torch.randn(1, 4, 7, 100) * 3, torch.randn(1, 4, 7, 30) * 3
    torch.testing.assert_close(rows(same, same), released(same, same))
    assert not torch.allclose(rows(other, other), released(other, other), atol=1e-3)


def test_pixel_attention_is_softmax_over_all_pixels() -> None:
    torch.manual_seed(3)
    module = EdgeAttention(8, "pixels")
    features = torch.randn(1, 8, 4, 5)
    convolutions = (module.query_conv, module.key_conv, module.value_conv)
    query, key, value = (conv(features)[0].flatten(1) for conv in convolutions)
    expected = features[0].flatten(1) + value @ torch.softmax(query.T @ key / 8**0.5, dim=1).T
    torch.testing.assert_close(module(features, features)[0].flatten(1), expected, atol=1e-5, rtol=1e-4)


def test_pixel_attention_refuses_large_images() -> None:
    network = SAMFeat(Architecture(attention="pixels")).eval()
    with pytest.raises(InputError, match="at most"), torch.inference_mode():
        network(torch.zeros(1, 3, 520, 520))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_fast_resize_equals_bilinear(factor: int) -> None:
    maps, like = torch.randn(2, 3, 6 * factor, 5 * factor), torch.zeros(1, 1, 6, 5)
    torch.testing.assert_close(_resize(maps, like), F.interpolate(maps, (6, 5), mode="bilinear", align_corners=False))


def test_batch_does_not_change_the_result(model: SAMFeat) -> None:
    images = torch.rand(3, 3, 48, 64) * 2 - 1
    with torch.inference_mode():
        together, alone = model(images), model(images[1:2])
    for a, b in zip(together[:5], alone[:5], strict=True):
        torch.testing.assert_close(a[1:2], b, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_close_to_float32(model: SAMFeat) -> None:
    images = (torch.rand(1, 3, 64, 96) * 2 - 1).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            fast = model(images)
    cosine = F.cosine_similarity(exact.descriptors.float(), fast.descriptors.float(), dim=1)
    assert cosine.min() > 0.99


def test_unknown_switches_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention"):
        Architecture(attention="columns")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sampling"):
        Architecture(sampling="nearest")  # type: ignore[arg-type]
