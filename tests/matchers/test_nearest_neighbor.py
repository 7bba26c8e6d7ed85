"""The fast matcher equals the plain one and kornia, for unit and attention-weighted descriptors, whole or in blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from samfeat_hloc.config import resolve
from samfeat_hloc.errors import ConfigError, InputError
from samfeat_hloc.formats.features import Features
from samfeat_hloc.matchers import MODULES, byte_product, candidates, dense, get_matcher, operands, products, tiles
from samfeat_hloc.matchers.nearest_neighbor import NearestNeighbor
from samfeat_hloc.matchers.operands import make_operand
from samfeat_hloc.matchers.reference import match_reference
from samfeat_hloc.quantized_ops import cpu_multiplies_bytes

CONFS: list[dict[str, Any]] = [
    {"name": "nn-mutual"},
    {"name": "nn-mutual", "mutual": False},
    {"name": "nn-ratio", "ratio": 0.8},
    {"name": "nn-ratio", "ratio": 0.95, "mutual": False},
    {"name": "nn-ratio", "weighting": "attention"},
    {"name": "nn-mutual", "distance": 0.8},
    {"name": "nn-mutual", "distance": 0.8, "weighting": "attention"},
    {"name": "nn-attention", "ratio": 0.9, "distance": 1.2},
    {"name": "released"},
]


def make(count: int, seed: int, like: Features | None = None, noise: float = 0.8) -> Features:
    """Random descriptors; the first ones resemble those of `like`."""
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, 24)).astype(np.float32)
    if like is not None:
        shared = min(count, len(like))
        descriptors[:shared] = like.descriptors[:shared] * 24**0.5 + noise * descriptors[:shared]
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
    ones = np.ones(count, np.float32)
    attention = rng.uniform(0.3, 2, count).astype(np.float32)
    return Features(np.zeros((count, 2), np.float32), descriptors, ones, attention, (10, 10))


FORMATS = [torch.bfloat16, torch.float32, *([torch.int8] if cpu_multiplies_bytes() else [])]
FIRST = make(230, 0)
OTHERS = [make(180, 1, FIRST), make(0, 2), make(1, 3), make(300, 4, FIRST), make(2, 5, FIRST)]


def matchers(conf: dict[str, Any]) -> list[Any]:
    """The same settings by a product in each format this CPU has, and last by whole matrices as on CUDA."""
    name, resolved = resolve("matcher", conf, MODULES, {})
    ways: list[dict[str, Any]] = [*({"product": dtype} for dtype in FORMATS), {"dense": True}]
    return [NearestNeighbor(name, resolved, device="cpu", **way) for way in ways]


@pytest.mark.parametrize("tile", [2**22, 1], ids=["whole", "tiles"])
@pytest.mark.parametrize("conf", CONFS, ids=str)
def test_equals_the_reference(conf: dict[str, Any], tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", tile)
    monkeypatch.setattr(dense, "LIMIT", tile)
    for matcher in matchers(conf):
        for first in (FIRST, make(0, 9), make(1, 10)):
            found = matcher.match_many(matcher.prepare(first), [matcher.prepare(other) for other in OTHERS])
            for other, matches in zip(OTHERS, found, strict=True):
                wanted = match_reference(first, other, matcher.conf)
                np.testing.assert_array_equal(matches.matches0, wanted)
                assert matches.matches0.dtype == np.int32
                assert matches.num_keypoints1 == len(other)
                used = matches.indices()
                cosine = (first.descriptors[used[:, 0]] * other.descriptors[used[:, 1]]).sum(axis=1)
                np.testing.assert_allclose(matches.scores0[used[:, 0]], 0.5 + 0.5 * cosine, atol=1e-4)
                assert not matches.scores0[matches.matches0 < 0].any()


def crowd(count: int, seed: int, spread: float) -> Features:
    """Descriptors so near to a few centres that no fast format orders them; every 7th is repeated exactly."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(5, 24))
    descriptors = (centres[np.arange(count) % 5] + spread * rng.normal(size=(count, 24))).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    descriptors[7::7] = descriptors[: len(descriptors[7::7])]
    attention = rng.uniform(0.3, 2, count).astype(np.float32)
    return Features(np.zeros((count, 2), np.float32), descriptors, np.ones(count, np.float32), attention, (10, 10))


@pytest.mark.parametrize("crowded", [candidates.CROWDED, 2])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.02, 0.2])
@pytest.mark.parametrize("conf", CONFS, ids=str)
def test_bounds_decide_nothing_wrongly(
    conf: dict[str, Any], spread: float, crowded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a fast format leaves everything open, the exact costs decide as in float64, ties included."""
    monkeypatch.setattr(operands, "WORTH", np.inf)
    monkeypatch.setattr(candidates, "CROWDED", crowded)
    first, other = crowd(333, 1, spread), crowd(401, 2, spread)
    for matcher in matchers(conf)[:-1]:
        wanted = match_reference(first, other, matcher.conf)
        if spread == 0 and "ratio" not in conf["name"]:
            assert (wanted >= 0).any()
        np.testing.assert_array_equal(matcher(first, other).matches0, wanted)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("scale", [1.0, 0.05, 7.0])
def test_the_bounds_hold_and_candidates_are_few(scale: float, metric: str, dtype: torch.dtype) -> None:
    """Every true cost lies within the bounds of the computed one, and all that is near enough is a candidate."""
    rng = np.random.default_rng(3)
    pair = [rng.normal(size=(count, 128)).astype(np.float32) for count in (500, 300)]
    if dtype == torch.int8:
        uneven = [rng.uniform(0.998, 1, (len(each), 1)).astype(np.float32) for each in pair]
        pair = [
            part * each / np.linalg.norm(each, axis=1, keepdims=True) for part, each in zip(uneven, pair, strict=True)
        ]
    pair = [scale * each for each in pair]
    first, other = (make_operand(each, metric, dtype, torch.float32) for each in pair)
    assert first.dtype == other.dtype == dtype
    product = products.make_product(first)
    of_rows, of_columns = product.bounds(other)
    true = other.halves[:, None] + first.halves - pair[1].astype(np.float64) @ pair[0].T
    codes = np.concatenate([tile.numpy().copy() for _, tile in product.tiles(other)])[:300, :500]
    computed = product.values(codes, other)
    places = np.nonzero(np.ones(true.shape, bool))
    for bound, index in zip((of_rows, of_columns), places, strict=True):
        assert (true.ravel() >= bound.low(computed.ravel(), index) - 1e-12).all()
        assert (true.ravel() <= bound.high(computed.ravel(), index) + 1e-12).all()
        assert (computed.ravel() <= bound.largest(true.ravel(), index)).all()
    assert (product.codes(computed, other) == codes).all()
    for reach in (1.0, 1.1):
        found, listed = candidates.scan(product, other, reach, rows_too=True)
        assert listed is not None
        assert len(listed.rows) < 300 * (3 if dtype != torch.int8 and reach == 1 else 40)
        nearest, second = np.sort(true, axis=1)[:, :2].T
        passing = reach * nearest <= second  # of rows that fail the ratio test, nothing is wanted
        wanted = set(zip(*np.nonzero((true <= reach * nearest[:, None]) & passing[:, None]), strict=True))
        assert wanted
        assert wanted <= set(zip(listed.rows, listed.columns, strict=True))
        np.testing.assert_array_equal(listed.least, computed.min(axis=1))
        np.testing.assert_array_equal(found.least(), computed.min(axis=0))
        some = np.where(np.arange(500) % 3 == 0, reach * true.min(axis=0), -np.inf)
        near, own, crowded = found.within(some)
        assert not len(crowded)
        assert set(zip(*np.nonzero(true <= some), strict=True)) <= set(zip(near, own, strict=True))


def test_bytes_allow_for_lengths_that_differ_a_little() -> None:
    """Where rounding to bytes loses nothing, the lengths alone make the computed costs wrong."""
    if not cpu_multiplies_bytes():
        pytest.skip("this CPU has no products of bytes")
    pair = [np.eye(64, dtype=np.float32) for _ in range(2)]
    for each in pair:
        each[::2] *= 126.5 / 127
    first, other = (make_operand(each, "l2", torch.int8, torch.float32) for each in pair)
    product = products.make_product(first)
    bound = product.bounds(other)[0]
    true = other.halves[:, None] + first.halves - pair[1].astype(np.float64) @ pair[0].T
    codes = np.concatenate([tile.numpy().copy() for _, tile in product.tiles(other)])
    places = np.nonzero(np.ones(true.shape, bool))[0]
    assert (true.ravel() >= bound.low(product.values(codes, other).ravel(), places)).all()


def test_descriptors_of_unequal_lengths_or_much_alike_are_not_put_in_bytes() -> None:
    """One image with an empty descriptor, one without: they are matched in one format all the same."""
    first, other = make(90, 0), make(80, 1, FIRST)
    first.descriptors[3] = 0
    for matcher in matchers({"name": "nn-mutual"}):
        np.testing.assert_array_equal(matcher(first, other).matches0, match_reference(first, other, matcher.conf))
        np.testing.assert_array_equal(matcher(other, first).matches0, match_reference(other, first, matcher.conf))
    if cpu_multiplies_bytes():
        alike = (np.abs(FIRST.descriptors) + 0.5).astype(np.float32)
        alike /= np.linalg.norm(alike, axis=1, keepdims=True)
        assert make_operand(alike, "l2", torch.int8, torch.bfloat16).dtype == torch.bfloat16
        assert make_operand(first.descriptors, "l2", torch.int8, torch.float32).dtype == torch.float32
        assert make_operand(other.descriptors, "l2", torch.int8, torch.float32).dtype == torch.int8


def test_an_operator_that_fails_or_lies_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of bytes are a private operator of torch's: another version may lack it, or mean something else."""
    if not cpu_multiplies_bytes():
        pytest.skip("this CPU has no products of bytes")
    right = byte_product._multiply
    for wrong in (lambda *_: (_ for _ in ()).throw(TypeError("another signature")), lambda *given: right(*given) + 1):
        byte_product.bytes_are_right.cache_clear()
        assert products.fast_format()[0] == torch.int8
        byte_product.bytes_are_right.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(byte_product, "_multiply", wrong)
            assert products.fast_format()[0] != torch.int8
    byte_product.bytes_are_right.cache_clear()


@pytest.mark.parametrize("weighting", ["unit", "attention"])
def test_equals_kornia(weighting: str) -> None:
    """kornia's own distances are the reference: true L2, whatever the descriptors' lengths."""
    kornia_feature = pytest.importorskip("kornia.feature")
    other = OTHERS[0]
    pick = (lambda f: f.weighted_descriptors) if weighting == "attention" else (lambda f: f.descriptors)
    desc0, desc1 = torch.from_numpy(pick(FIRST)), torch.from_numpy(pick(other))
    _, mutual = kornia_feature.match_mnn(desc0, desc1)
    found = get_matcher("nn-mutual", weighting=weighting)(FIRST, other)
    np.testing.assert_array_equal(found.indices(), mutual[mutual[:, 0].argsort()].numpy())
    for ratio in (0.7, 0.85, 0.95):
        _, both = kornia_feature.match_smnn(desc0, desc1, ratio)
        found = get_matcher("nn-ratio", weighting=weighting, ratio=ratio)(FIRST, other)
        np.testing.assert_array_equal(found.indices(), both[both[:, 0].argsort()].numpy())
        _, one_way = kornia_feature.match_snn(desc0, desc1, ratio)
        found = get_matcher("nn-ratio", weighting=weighting, ratio=ratio, mutual=False)(FIRST, other)
        np.testing.assert_array_equal(found.indices(), one_way.numpy())
    assert len(both) > 20  # the test has something to compare


def test_attention_changes_the_match_and_dot_is_not_l2() -> None:
    """The released rule prefers long descriptors; the true distance does not."""
    first = Features(
        np.zeros((1, 2), np.float32),
        np.array([[1, 0]], np.float32),
        np.ones(1, np.float32),
        np.ones(1, np.float32),
        (1, 1),
    )
    near, long = [0.98, 0.199], [0.8, 0.6]
    second = Features(
        np.zeros((2, 2), np.float32),
        np.array([near, long], np.float32),
        np.ones(2, np.float32),
        np.array([1, 3], np.float32),
        (1, 1),
    )
    assert get_matcher("released")(first, second).matches0[0] == 1
    assert get_matcher("nn-attention")(first, second).matches0[0] == 0
    assert get_matcher("nn-mutual")(first, second).matches0[0] == 0


def test_duplicates_are_ambiguous() -> None:
    """Two equal descriptors: one is matched, or none with a ratio test."""
    one = make(1, 0)
    two = np.ones(2, np.float32)
    twice = Features(np.zeros((2, 2), np.float32), np.repeat(one.descriptors, 2, axis=0), two, two, (1, 1))
    assert len(get_matcher("nn-mutual")(twice, make(1, 0)).indices()) == 1
    np.testing.assert_array_equal(get_matcher("nn-ratio")(twice, twice).matches0, [-1, -1])


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"name": "nn-mutua"}, "no matcher called 'nn-mutua'; did you mean 'nn-mutual'"),
        ({"name": "nn-ratio", "metric": "dot"}, "need distances"),
        ({"name": "nn-ratio", "ratio": 1.5}, "ratio is 1.5"),
        ({"name": "nn-mutual", "ration": 0.8}, "did you mean 'ratio'"),
    ],
)
def test_bad_confs(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_matcher(conf)


def test_hlocs_form() -> None:
    conf = {"output": "matches-NN-ratio", "model": {"name": "nn-ratio", "ratio": 0.7}}
    assert get_matcher(conf).conf.ratio == 0.7


def test_descriptors_of_two_extractors() -> None:
    matcher = get_matcher("nn-mutual")
    other = replace(FIRST, descriptors=FIRST.descriptors[:, :8].copy())
    with pytest.raises(InputError, match="one extractor must make both"):
        matcher(FIRST, other)
