"""The training benchmark measures what it says."""

from __future__ import annotations

import torch

from benchmarks.training_speed import Setting, flops_of_a_pair, made_up_bank, measure
from training.config import TrainingConfig


def test_a_row_counts_pairs() -> None:
    config = TrainingConfig(size=64, pairs=2, points=20)
    plain = Setting("plain", torch.float32, channels_last=False, with_data=True)
    row = measure(plain, config, torch.device("cpu"), 0.1)
    assert row["steps"] >= 3
    assert row["pairs_per_s"] > 0
    assert row["tflops"] == row["pairs_per_s"] * flops_of_a_pair(64) / 1e12


def test_operations_grow_with_the_area_and_the_teachers_are_there() -> None:
    assert 3.9 < flops_of_a_pair(256) / flops_of_a_pair(128) < 4.6  # row attention grows a little faster
    first = 2 * 2 * 64 * 64 * 9 * 64 * 64  # conv1b of two images of 64 x 64, forward
    assert flops_of_a_pair(64) > 3 * first
    bank = made_up_bank(64, torch.device("cpu"))
    assert bank.teacher.has_embedding.all() and bank.teacher.has_groups.all() and bank.teacher.has_edges.all()
    assert len(bank.pair_views) == len(bank)
