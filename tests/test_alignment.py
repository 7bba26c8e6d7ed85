"""Similarity between camera centres."""

from __future__ import annotations

import numpy as np
import pytest

from samfeat_hloc._pycolmap import pycolmap
from samfeat_hloc.alignment import Similarity, align_centers, umeyama
from samfeat_hloc.errors import InputError

RNG = np.random.default_rng(3)
TRUE = Similarity(
    2.5, np.array(pycolmap.Rotation3d(np.array([0.3, -0.8, 1.1])).matrix()), np.array([10.0, -4.0, 300.0])
)
SOURCE = RNG.normal(size=(12, 3))


def test_exact_centres_give_the_transform_and_pycolmap_applies_it_alike() -> None:
    for found in (umeyama(SOURCE, TRUE.apply(SOURCE)), align_centers(SOURCE, TRUE.apply(SOURCE))):
        assert found.scale == pytest.approx(2.5)
        assert np.allclose(found.rotation, TRUE.rotation) and np.linalg.det(found.rotation) > 0
        assert np.allclose(found.translation, TRUE.translation)
    assert np.allclose(np.asarray(TRUE.to_sim3d() * SOURCE), TRUE.apply(SOURCE))


def test_a_camera_gone_astray_does_not_pull_the_others_along() -> None:
    target = TRUE.apply(SOURCE) + RNG.normal(0, 1e-3, SOURCE.shape)
    target[4] += [0, 50, 0]
    robust = np.linalg.norm(align_centers(SOURCE, target).apply(SOURCE) - target, axis=1)
    plain = np.linalg.norm(umeyama(SOURCE, target).apply(SOURCE) - target, axis=1)
    assert np.median(plain) > 1
    assert np.delete(robust, 4).max() < 0.01
    assert robust[4] == pytest.approx(50, abs=0.1)


def test_a_mirrored_set_gets_a_rotation_all_the_same() -> None:
    found = umeyama(SOURCE, SOURCE * [1, 1, -1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)


@pytest.mark.parametrize(
    ("source", "message"),
    [(SOURCE[:2], "at least three"), (np.outer(np.arange(5.0), [1, 2, 3]), "on one line"), (np.ones((4, 3)), "line")],
)
def test_what_leaves_the_rotation_open_is_refused(source: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        align_centers(source, TRUE.apply(source))
