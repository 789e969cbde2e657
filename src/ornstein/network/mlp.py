# SPDX-License-Identifier: Apache-2.0
"""A residual multilayer perceptron for points: h <- h + W2 silu(W1 norm(h) + U e), e the activated
embedding of level and condition, norm a layer normalisation.

The last map of each residual branch and the output map start at zero, so an untrained network returns 0 and every block
starts as the identity. Only smooth operations with forward derivatives are used: exact divergences go through
`torch.func.jvp`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ornstein.network.blocks import zeroed
from ornstein.network.condition import Condition
from ornstein.network.embedding import ConditionEmbedding


class ResidualLayer(nn.Module):
    """One block of the perceptron, `(batch, width)` to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.embedding = nn.Linear(width, width, bias=False)
        self.second = zeroed(nn.Linear(width, width))

    def forward(self, h: Float[Tensor, "batch width"], embedding: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """`embedding` comes activated."""
        branch: Tensor = self.second(functional.silu(self.first(self.norm(h)) + self.embedding(embedding)))
        return h + branch


class MLP(nn.Module):
    """Points `(batch, dim)` to `(batch, out)`.

    Args:
        dim: coordinates of a point.
        width: hidden width.
        depth: number of residual blocks.
        classes: number of classes; 0 for no label.
        vector: width of the condition's vector; 0 for none.
        features: numbers per sample that tell the noise level.
        time_scale: factor on them before they become waves; small where derivatives along the noise level are taken.
        out: numbers put out per point; None for as many as there are coordinates.
    """

    def __init__(
        self,
        dim: int = 2,
        width: int = 128,
        depth: int = 4,
        classes: int = 0,
        vector: int = 0,
        features: int = 1,
        time_scale: float = 1000.0,
        out: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding(width, width, features, classes, vector, time_scale)
        self.input = nn.Linear(dim, width)
        self.layers = nn.ModuleList(ResidualLayer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = zeroed(nn.Linear(width, dim if out is None else out))

    def forward(
        self, x: Float[Tensor, "batch dim"], features: Float[Tensor, "batch k"], cond: Condition | None = None
    ) -> Float[Tensor, "batch out"]:
        """The output in the prediction's space, in the precision of the surrounding `autocast_for`."""
        embedding = functional.silu(self.embedding(features, cond))
        h = self.input(x)
        for layer in self.layers:
            h = layer(h, embedding)
        y: Tensor = self.output(functional.silu(self.norm(h)))
        return y
