# SPDX-License-Identifier: Apache-2.0
"""Learning rate against its closed form, its independence of how a batch is cut, and what a change of steps does to it."""

from __future__ import annotations

import dataclasses
import math

import pytest
from train_world import settings

from ornstein.base.errors import UsageError
from ornstein.train.rate import learning_rate, rate_change
from ornstein.train.settings import CHANGEABLE, INEXACT, TrainSettings


def test_warm_up_then_cosine() -> None:
    chosen = settings(steps=110, warmup=10, learning_rate=2.0)
    assert [learning_rate(chosen, n) for n in range(10)] == pytest.approx([0.2 * (n + 1) for n in range(10)], rel=1e-15)
    for n in (10, 35, 60, 109):
        assert learning_rate(chosen, n) == pytest.approx(1.0 + math.cos(math.pi * (n - 10) / 100), rel=1e-12)
    assert learning_rate(chosen, 10) == 2.0
    assert learning_rate(chosen, 110) == 0.0
    assert learning_rate(chosen, 500) == 0.0


def test_constant_stays() -> None:
    chosen = settings(steps=50, warmup=4, decay="constant", learning_rate=0.5)
    assert [learning_rate(chosen, n) for n in (0, 3, 4, 49, 500)] == [0.125, 0.5, 0.5, 0.5, 0.5]


def test_without_warm_up_the_first_update_has_the_full_rate() -> None:
    assert learning_rate(settings(warmup=0, learning_rate=0.1), 0) == 0.1


def test_warm_up_longer_than_the_run() -> None:
    chosen = settings(steps=5, warmup=10, learning_rate=1.0)
    assert [learning_rate(chosen, n) for n in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_the_effect_of_extending_is_said_in_numbers() -> None:
    old = settings(steps=100, warmup=0, learning_rate=1.0)
    said = rate_change(old, dataclasses.replace(old, steps=200), 100)
    assert "becomes 0.5 instead of 0" in said
    assert "at update 199" in said
    assert "unchanged" in rate_change(old, dataclasses.replace(old, keep=9), 50)
    constant = dataclasses.replace(old, decay="constant")
    assert "unchanged: 1 " in rate_change(constant, dataclasses.replace(constant, steps=300), 100)


def test_a_global_batch_that_cannot_be_formed_is_refused() -> None:
    assert settings(batch_size=12, micro_batch=2).accumulation(3) == 2
    assert settings(batch_size=12).accumulation(2) == 1
    for batch, micro, ranks in ((12, 5, 1), (12, 4, 2), (2, None, 3)):
        with pytest.raises(UsageError, match=r"train\.batch_size"):
            settings(batch_size=batch, micro_batch=micro).accumulation(ranks)


def test_changeable_keys_are_settings_and_keep_the_run_the_same() -> None:
    known = {f"train.{field.name}" for field in dataclasses.fields(TrainSettings)}
    assert INEXACT < CHANGEABLE < known
    defining = ["batch_size", "seed", "learning_rate", "decay", "warmup", "weight_decay", "beta1", "beta2"]
    defining += ["clip", "ema_decay", "precision"]
    assert known - CHANGEABLE == {f"train.{key}" for key in defining}
