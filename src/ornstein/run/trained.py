# SPDX-License-Identifier: Apache-2.0
"""A trained model, read back from its run folder; what sampling and evaluation start from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.base.errors import CheckpointError
from ornstein.model.denoiser import Model
from ornstein.run.build import Facts, model_of
from ornstein.run.folder import RunFolder
from ornstein.run.recipe import Recipe
from ornstein.train.checkpoint import load_weights
from ornstein.train.device import check_precision, resolve_device


class Trained(NamedTuple):
    """A run's model, ready to sample.

    Args:
        recipe: the run's recipe.
        facts: what the model knows of its data.
        model: averaged weights, evaluation mode, on its device.
        step: the checkpoint's step.
        hash: first 12 hexadecimal digits of the SHA-256 of the weights.
        device: where it computes.
    """

    recipe: Recipe
    facts: Facts
    model: Model
    step: int
    hash: str
    device: torch.device

    def identity(self) -> dict[str, Any]:
        """What every artefact of this model carries."""
        return {"model": self.recipe.name, "model_hash": self.hash, "recipe_hash": self.recipe.hash, "checkpoint": self.step}


def trained(run: RunFolder, checkpoint: str, say: Callable[[str], None]) -> Trained:
    """Load a run's averaged weights.

    Args:
        run: the run.
        checkpoint: "newest", "best" (lowest held-out loss) or a step.
        say: is told, in a sentence, of invalid checkpoints that were passed over.

    Raises CheckpointError where there is none, or where its tensors are not those of the recipe's network.
    """
    recipe = run.recipe()
    step: int | str = int(checkpoint) if checkpoint.isdigit() else checkpoint
    weights, state = load_weights(run.path, "ema", step, say)
    facts = Facts.read(run.facts())
    device = resolve_device(recipe.train.device)
    check_precision(recipe.train.precision, device)
    model = model_of(recipe, facts, device)
    take_weights(model.weights, weights, run)
    model.weights.eval().requires_grad_(False)
    return Trained(recipe, facts, model, state["step"], _hash(weights), device)


def take_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], source: RunFolder) -> None:
    """Load weights strictly. Raises CheckpointError naming the first tensor that does not fit."""
    own = network.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in own or name not in weights or own[name].shape != weights[name].shape:
            raise CheckpointError(
                f"The weights of {source.path} do not fit the network: '{name}' is missing on one side or has another shape.",
                "Use the run's own recipe, or a network section equal to the one the weights were trained with.",
            )
    network.load_state_dict(dict(weights))


def _hash(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(
            weights[name].contiguous().view(torch.uint8).numpy().tobytes() if weights[name].ndim else weights[name].numpy().tobytes()
        )
    return digest.hexdigest()[:12]
