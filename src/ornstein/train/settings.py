# SPDX-License-Identifier: Apache-2.0
"""What a training run is asked to do: the recipe's `train` section, key for key, and which keys a resumed run may change."""

from __future__ import annotations

from dataclasses import dataclass

from ornstein.base.errors import UsageError


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one run. The recipe checks types and ranges; here they are used.

    Args:
        steps: global batches to train on.
        batch_size: examples in a global batch = micro_batch x accumulation x ranks.
        micro_batch: examples in one forward pass; None for the whole share of a rank.
        learning_rate: after warm-up.
        warmup: optimiser updates until the learning rate is reached.
        decay: "cosine" (to zero at `steps`) or "constant".
        weight_decay: AdamW's, on matrices and kernels only.
        beta1: AdamW's decay of the mean gradient.
        beta2: AdamW's decay of the mean squared gradient.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights, after their own warm-up.
        precision: "fp32", "bf16" or "fp16", the precision inside the network.
        seed: of data order and noise.
        device: "auto", "cpu", "cuda" or "mps".
        threads: of the CPU; None leaves torch's choice. Set by the command line, kept here for the record.
        checkpoint_every: steps between checkpoints.
        keep: checkpoints that stay, beside the best.
        evaluate_every: steps between held-out evaluations.
        log_every: steps between log lines.
        max_minutes: wall time after which the run saves and leaves; None for no limit.
        max_skips: batches in a row that may be non-finite before the run stops.
        gradient_checkpointing: whether the network trades time for memory.
        tensorboard: whether TensorBoard logs are written too.
    """

    steps: int = 2000
    batch_size: int = 64
    micro_batch: int | None = None
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: str = "cosine"
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    ema_decay: float = 0.999
    precision: str = "fp32"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    checkpoint_every: int = 500
    keep: int = 2
    evaluate_every: int = 250
    log_every: int = 10
    max_minutes: float | None = None
    max_skips: int = 10
    gradient_checkpointing: bool = False
    tensorboard: bool = False

    def accumulation(self, ranks: int = 1) -> int:
        """Micro-batches per rank and update. Raises UsageError where they do not multiply to the global batch."""
        micro = self.micro_batch if self.micro_batch is not None else self.batch_size // ranks
        if micro < 1 or self.batch_size % (micro * ranks):
            raise UsageError(
                f"A global batch of {self.batch_size} cannot be formed from micro-batches of {micro} on {ranks} rank(s).",
                "Choose train.batch_size as a multiple of train.micro_batch x ranks.",
            )
        return self.batch_size // (micro * ranks)


CHANGEABLE = frozenset(
    f"train.{key}"
    for key in (
        *("steps", "checkpoint_every", "keep", "evaluate_every", "log_every", "max_minutes", "max_skips", "tensorboard"),
        *("micro_batch", "gradient_checkpointing", "device", "threads"),
    )
)
"""Recipe keys that `--resume` may change; every other key would make it a different run."""

INEXACT = frozenset({"train.micro_batch", "train.gradient_checkpointing", "train.device", "train.threads"})
"""Those of them that change the order of sums, so that the continuation is equal only up to rounding."""
