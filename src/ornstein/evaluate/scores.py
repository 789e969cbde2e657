# SPDX-License-Identifier: Apache-2.0
r"""Scores of the classes that a classifier sees in images, without a reference.

    score = exp( E_x KL( p(c | x) || p(c) ) ),      p(c) = E_x p(c | x)      (Salimans et al. 2016, arXiv 1606.03498, section 4)

1 where every image has the same class law, the number of classes where all are sure and equally frequent. It is a score
of the classifier as much as of the images; only Inception's own makes it the inception score.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def class_score(log_probabilities: Float[Tensor, "n classes"]) -> float:
    """The score of n >= 1 images from the logarithms of their class probabilities; between 1 and the number of classes."""
    log_p = log_probabilities.double()
    marginal = log_p.logsumexp(0) - torch.log(torch.tensor(float(len(log_p)), dtype=torch.float64))
    terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - marginal), 0.0)
    return float(terms.sum(1).mean().exp())


def class_score_of_splits(log_probabilities: Float[Tensor, "n classes"], splits: Sequence[Tensor]) -> tuple[float, float]:
    """Mean and standard deviation of the score over groups of rows: the usual form, with ten groups, which lowers the score a little."""
    values = torch.tensor([class_score(log_probabilities[rows]) for rows in splits], dtype=torch.float64)
    return float(values.mean()), float(values.std())
