# SPDX-License-Identifier: Apache-2.0
"""How a network is told the noise level and the condition: one vector per sample.

A number t becomes sines and cosines of t at frequencies falling geometrically from 1 to 1/max_period (Vaswani et al.
2017, arXiv 1706.03762, section 3.5), and a two-layer perceptron mixes them (Ho et al. 2020, arXiv 2006.11239). The class
and any features are added. A dropped class has a learned row of its own, so "no class" is a condition like any other.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ornstein.base.errors import UsageError
from ornstein.network.condition import NULL_LABEL, Condition


class Sinusoids(nn.Module):
    """Numbers `(batch, k)` to `(batch, k * width)`: per number, `width / 2` cosines and as many sines.

    Args:
        width: even, >= 4.
        scale: factor on the number first; 1000 lets a time in [0, 1] act like DDPM's integer steps.
        max_period: the longest period divided by 2 pi.
        sine_first: whether sines come before cosines (diffusers' `flip_sin_to_cos=False`).
        frequency_shift: the exponents are i / (width/2 - shift); at 1 the last period is exactly `max_period`.
    """

    def __init__(
        self, width: int, scale: float = 1000.0, max_period: float = 10000.0, sine_first: bool = False, frequency_shift: float = 0.0
    ) -> None:
        super().__init__()
        self.width, self.scale, self.max_period = width, scale, max_period
        self.sine_first, self.frequency_shift = sine_first, frequency_shift

    def forward(self, numbers: Float[Tensor, "batch k"]) -> Float[Tensor, "batch k_width"]:
        """At least float32, whatever precision the network computes in: the angles reach 1000."""
        half = self.width // 2
        dtype = torch.promote_types(numbers.dtype, torch.float32)
        exponents = torch.arange(half, dtype=dtype, device=numbers.device) / (half - self.frequency_shift)
        angles = numbers[..., None].to(dtype) * (self.scale * torch.exp(-math.log(self.max_period) * exponents))
        waves = [angles.sin(), angles.cos()] if self.sine_first else [angles.cos(), angles.sin()]
        return torch.cat(waves, dim=-1).flatten(1)


class ClassEmbedding(nn.Module):
    """A learned row per class and one more, row `classes`, for `NULL_LABEL`."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.weight = nn.Parameter(torch.empty(classes + 1, width))
        nn.init.normal_(self.weight)  # as large as the embedded time: at 0.02 classes are learnt late

    def forward(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """Rows of the labels. A label that is neither a class nor `NULL_LABEL` is an IndexError."""
        # Label `classes` would land on the null row unnoticed; it is sent beyond the table instead.
        row = torch.where(label == NULL_LABEL, self.classes, torch.where(label == self.classes, self.classes + 1, label))
        return functional.embedding(row, self.weight)


class ConditionEmbedding(nn.Module):
    """Noise-level features and condition to one vector per sample.

    Args:
        width: of the result.
        waves: sines and cosines per feature.
        features: numbers per sample that tell the noise level (1; 2 for networks of two times).
        classes: number of classes; 0 for a network that takes no label.
        vector: width of the condition's vector; 0 for a network that takes none.
        time_scale: factor on the features before they become waves.
    """

    def __init__(
        self, width: int, waves: int, features: int = 1, classes: int = 0, vector: int = 0, time_scale: float = 1000.0
    ) -> None:
        super().__init__()
        self.sinusoids = Sinusoids(waves, time_scale)
        self.first = nn.Linear(features * waves, width)
        self.second = nn.Linear(width, width)
        self.classes = ClassEmbedding(classes, width) if classes else None
        self.vector = nn.Linear(vector, width, bias=False) if vector else None

    def forward(self, features: Float[Tensor, "batch k"], cond: Condition | None = None) -> Float[Tensor, "batch width"]:
        """Raises UsageError for a condition that the network was not built for; an absent one counts as its null."""
        label, vector = (cond.label, cond.vector) if cond is not None else (None, None)
        embedding: Tensor = self.second(functional.silu(self.first(self.sinusoids(features))))
        if self.classes is not None:
            null = torch.full((len(features),), NULL_LABEL, device=features.device)
            embedding = embedding + self.classes(null if label is None else label)
        elif label is not None:
            raise UsageError("A label was given to a network without classes.", "Build it with classes=K, or give no label.")
        if vector is not None:
            if self.vector is None:
                raise UsageError("A vector was given to a network that takes none.", "Build it with vector=D, or give no vector.")
            embedding = embedding + self.vector(vector)
        return embedding
