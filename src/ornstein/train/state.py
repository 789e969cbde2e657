# SPDX-License-Identifier: Apache-2.0
"""Everything an update changes, as one object that can be taken apart into a checkpoint and put together from one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ornstein.base.errors import CheckpointError
from ornstein.data.dataset import Dataset
from ornstein.objective.record import Objective
from ornstein.train.checkpoint import Checkpoint
from ornstein.train.ema import Ema
from ornstein.train.optimiser import adamw, check_state, load_state, state_tensors
from ornstein.train.progress import Progress
from ornstein.train.settings import TrainSettings
from ornstein.train.tensors import check_like

_OBJECTIVE = "objective/"  # tensors of the objective's state travel in optimizer.safetensors under this prefix


class TrainState:
    """Network, average, optimiser, loss scale, the objective's memory and the counters.

    Args:
        network: the weights in training (a network, with a learned schedule beside it), on the device where they will stay.
        objective: gives the first state of itself.
        settings: of the run.
        precision: inside the network; only "fp16" needs a loss scale.
        data: the training split.
    """

    def __init__(self, network: nn.Module, objective: Objective, settings: TrainSettings, precision: str, data: Dataset) -> None:
        kind = next(network.parameters()).device.type
        self.network, self.settings = network, settings
        self.optimizer = adamw(network, settings)
        self.scaler = torch.amp.GradScaler(kind, enabled=precision == "fp16")
        self.ema = Ema(network, settings.ema_decay)
        self.objective: dict[str, Any] = objective.init()
        self.progress = Progress(examples=len(data), data=data.identity)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Tensors of every part of a checkpoint."""
        held = {_OBJECTIVE + name: value for name, value in self.objective.items() if isinstance(value, Tensor)}
        return {
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": state_tensors(self.optimizer, self.network) | held,
        }

    def numbers(self) -> dict[str, Any]:
        """What `state.json` holds beside the step."""
        plain = {name: value for name, value in self.objective.items() if not isinstance(value, Tensor)}
        return {**self.progress.to_json(), "seed": self.settings.seed, "objective": plain, "scaler": self.scaler.state_dict()}

    def broken(self) -> str | None:
        """The first tensor that holds a number that is not finite, None where all are sound."""
        for part, named in self.tensors().items():
            for name, tensor in named.items():
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    return f"'{name}' of the {part}"
        return None

    def check(self, found: Checkpoint) -> None:
        """Raise CheckpointError unless the checkpoint fits this run in every part."""
        numbers = found.path / "state.json"
        for part in ("model", "ema"):
            check_like(found.path / f"{part}.safetensors", found.tensors[part], self.network.state_dict())
        slots, kept = _apart(found.tensors["optimizer"])
        check_state(found.path / "optimizer.safetensors", slots, self.network)
        progress = Progress.from_json(numbers, found.state)
        if progress.data != self.progress.data:
            raise CheckpointError(
                f"{numbers} is of a run on other data ({progress.examples} training examples; now {self.progress.examples}).",
                "Restore the data, or start a new run from these weights with --init-from.",
            )
        for key in ("objective", "scaler"):
            if not isinstance(found.state.get(key), dict):
                raise CheckpointError(f"{numbers} has no usable '{key}'.", "Use another checkpoint.")
        for name in self.objective.keys() - {*found.state["objective"], *kept}:
            raise CheckpointError(f"{numbers} lacks '{name}' of the objective's state.", "Use another checkpoint.")
        tensors = {name: value for name, value in self.objective.items() if isinstance(value, Tensor)}
        check_like(found.path / "optimizer.safetensors", {name: kept[name] for name in tensors.keys() & kept.keys()}, tensors)
        if self.scaler.is_enabled() and found.state["scaler"].keys() != self.scaler.state_dict().keys():
            raise CheckpointError(f"{numbers} has no loss scale.", "Resume in the precision of the run.")

    def load(self, found: Checkpoint) -> None:
        """Take up a checkpoint that `check` has let pass."""
        slots, held = _apart(found.tensors["optimizer"])
        self.progress = Progress.from_json(found.path, found.state)
        self.network.load_state_dict(found.tensors["model"])
        self.ema.load_state_dict(found.tensors["ema"], self.progress.ema_updates)
        load_state(self.optimizer, self.network, slots)
        self.objective = found.state["objective"] | held
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(found.state["scaler"])


def _apart(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The optimiser's tensors and the objective's."""
    held = {name.removeprefix(_OBJECTIVE): tensor for name, tensor in tensors.items() if name.startswith(_OBJECTIVE)}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_OBJECTIVE)}, held
