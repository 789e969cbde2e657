# SPDX-License-Identifier: Apache-2.0
"""TensorBoard beside the metrics on disk. It is a spectator: whatever it does, the run goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ornstein.base.errors import MissingExtra


class Board:
    """Curves for `tensorboard --logdir RUN/tensorboard`.

    Args:
        folder: where its event files go.
        step: curves beyond this step, left by an interrupted session, are hidden.

    Raises MissingExtra where the package is absent, which is before the first step.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("tensorboard", "tensorboard", "to write TensorBoard logs") from error
        self._writer: Any = None
        with contextlib.suppress(Exception):
            self._writer = SummaryWriter(str(folder), purge_step=step)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of a record under their names; failures are swallowed."""
        with contextlib.suppress(Exception):
            for name, value in record.items():
                if isinstance(value, float) and self._writer is not None:
                    self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write what is pending."""
        with contextlib.suppress(Exception):
            self._writer.close()
