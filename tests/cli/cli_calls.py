# SPDX-License-Identifier: Apache-2.0
"""What the tests of commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

_SHORT = {
    **{"data.n": 200, "network.width": 16, "network.depth": 1, "evaluate.draws": 2, "evaluate.steps": 4},
    **{"train.steps": 12, "train.batch_size": 32, "train.warmup": 1, "train.device": "cpu", "train.threads": 1},
    **{"train.checkpoint_every": 6, "train.evaluate_every": 6, "train.log_every": 3},
}


def short(**train: object) -> list[str]:
    """Overrides that make a run of the shipped recipe `points` a matter of a second, with other `train` keys."""
    return [f"{key}={value}" for key, value in {**_SHORT, **{f"train.{key}": value for key, value in train.items()}}.items()]


class Outcome(NamedTuple):
    """What a command left with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object that stdout holds, and nothing else."""
        value, end = json.JSONDecoder().raw_decode(self.out)
        assert isinstance(value, dict)
        assert self.out[end:] == "\n"
        return value


Call = Callable[..., Outcome]
