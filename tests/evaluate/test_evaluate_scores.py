# SPDX-License-Identifier: Apache-2.0
"""The class score against laws whose score is known."""

from __future__ import annotations

import math

import pytest
import torch

from ornstein.evaluate.scores import class_score, class_score_of_splits


def test_sure_and_even_classes_score_their_number() -> None:
    sure = torch.eye(4, dtype=torch.float64).repeat(3, 1).log()  # -inf off the class: 0 log 0 is 0
    assert class_score(sure) == pytest.approx(4)


def test_equal_laws_score_one() -> None:
    assert class_score(torch.tensor([[0.2, 0.3, 0.5]]).log().repeat(6, 1)) == pytest.approx(1)


def test_two_laws_of_known_divergence() -> None:
    p = 0.9  # against the even marginal: log 2 minus the entropy of p
    laws = torch.tensor([[p, 1 - p], [1 - p, p]], dtype=torch.float64).log()
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert class_score(laws) == pytest.approx(2 * math.exp(-entropy))


def test_splits_are_scored_apart() -> None:
    sure = torch.eye(2, dtype=torch.float64).log()
    rows = torch.cat([sure, sure[:1], sure[:1]])
    mean, spread = class_score_of_splits(rows, [torch.tensor([0, 1]), torch.tensor([2, 3])])
    assert (mean, spread) == (pytest.approx(1.5), pytest.approx(math.sqrt(0.5)))
