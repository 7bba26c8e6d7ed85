"""What a run will take, before it starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines import estimate
from samfeat_hloc.matchers import get_matcher


def test_a_pair_is_timed_on_every_core_and_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    matcher, threads = get_matcher("nn-mutual"), torch.get_num_threads()
    features = [estimate._random_features(np.random.default_rng(seed), 200) for seed in range(2)]
    assert 0 < estimate._seconds_per_pair(matcher, features) < 5
    assert torch.get_num_threads() == threads

    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(matcher, "match_many", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        estimate._seconds_per_pair(matcher, features)
    assert torch.get_num_threads() == threads
