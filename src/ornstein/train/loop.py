# SPDX-License-Identifier: Apache-2.0
"""The one training loop.

    batch k  = examples at the draws k B .. (k+1) B - 1 of an endless keyed shuffle, B the global batch
    noise    = keyed by (seed, draw)
    update   = AdamW on the mean gradient of B examples, clipped, at the learning rate of this update; then the average

Nothing random is consumed, so a run is resumed by two integers (seed and k), and micro-batches and ranks are only ways of
cutting B. Loss and gradient norm are looked at before every update: a batch that is not finite changes nothing. The loop
yields records; what it writes to `metrics.jsonl` holds no times, so an interrupted log ends byte-equal to an unbroken one.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.base.errors import Interrupted, NonFiniteError, UsageError
from ornstein.base.files import remove_leftovers
from ornstein.base.keys import Keys, seed_of
from ornstein.codec.pixels import Codec
from ornstein.data.dataset import Split
from ornstein.data.order import indices
from ornstein.model.denoiser import Model
from ornstein.objective.record import LossRecord, Objective
from ornstein.train import checkpoint
from ornstein.train.device import check_precision, resolve_device
from ornstein.train.heldout import Heldout, batch_of, finite_or_none
from ornstein.train.journal import Journal
from ornstein.train.lock import Lock
from ornstein.train.ranks import Ranks
from ornstein.train.rate import learning_rate
from ornstein.train.settings import TrainSettings
from ornstein.train.signals import Signals
from ornstein.train.state import TrainState

Record = dict[str, Any]
Preview = Callable[[Model, int], Mapping[str, Any] | None]

_NAMED = 16  # examples named for a batch that was not finite


class Trainer:
    """A run in training: `start` or `restore`, then iterate over `records`.

    Args:
        model: what is trained; its weights are moved to the device of the settings.
        objective: gives the loss of a batch.
        codec: raw data to x_0.
        split: training and held-out data.
        settings: how to train.
        folder: the run folder.
        identity: what manifests say of the run beside their files (recipe hash, versions).
        preview: called with the averaged model and the step at every evaluation; "memorised" of what it returns (median
            distance of samples to their nearest training example, over that example's own) goes into the record. It must
            depend on nothing else, or a resumed log differs.
        lock: the lock of the run folder, where the caller holds it already.

    Raises UsageError where device, precision or batch cannot be had, or another trainer is at work in the folder.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        codec: Codec,
        split: Split,
        settings: TrainSettings,
        folder: Path,
        identity: Mapping[str, Any],
        preview: Preview | None = None,
        lock: Lock | None = None,
    ) -> None:
        self.ranks = Ranks.present()
        self.accumulation = settings.accumulation(self.ranks.count)
        self.micro_batch = settings.batch_size // (self.accumulation * self.ranks.count)
        self.device = resolve_device(settings.device)
        check_precision(model.precision, self.device)
        self.model, self.objective, self.codec, self.split, self.settings = model, objective, codec, split, settings
        self.folder, self.checkpoints, self.identity, self.preview = folder, folder / "checkpoints", dict(identity), preview
        self.weights = model.weights.to(self.device)
        self.state = TrainState(self.weights, objective, settings, model.precision, split.train)
        self.averaged = model.holding(self.state.ema.network)
        self.heldout = Heldout(objective, codec, split, settings.seed, self.micro_batch)
        self.warnings: list[str] = []
        self.journal: Journal | None = None
        self._saved: int | None = None
        self._saved_evaluation: int | None = None
        self._lock = lock if lock is not None or not self.ranks.leads else Lock(folder)

    # -- beginning and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin at step 0. Raises UsageError where the folder has checkpoints already."""
        if checkpoint.steps_in(self.checkpoints):
            raise UsageError(f"{self.folder} holds a run already.", "Continue it with --resume, or choose another folder with --out.")
        self._open()

    def restore(self) -> int:
        """Continue from the newest valid checkpoint and return its step; a folder without any starts at step 0.

        Invalid newer ones are named in the first record and set aside under another name. Raises CheckpointError where
        there are some and none is valid, or none fits the network and the data.
        """
        found = checkpoint.newest_valid(self.checkpoints, self.warnings.append, self.state.check)
        if found is not None:
            self.state.load(found)
            self._saved, self._saved_evaluation = found.step, self.state.progress.evaluated
            if found.manifest["torch"] != torch.__version__:
                versions = f"torch {found.manifest['torch']} before, {torch.__version__} now"
                self.warnings.append(f"The run continues, but not bit for bit: {versions}.")
        self._open()
        return self.state.progress.step

    def _open(self) -> None:
        self.ranks.copy_first_([*self.weights.state_dict().values(), *self.state.ema.state_dict().values()])
        if self.ranks.leads:
            progress = self.state.progress
            remove_leftovers(self.folder)
            remove_leftovers(self.checkpoints)
            for path in checkpoint.set_aside(self.checkpoints, -1 if self._saved is None else self._saved):
                self.warnings.append(f"It is kept as {path}.")
            checkpoint.point_to_best(self.folder, progress.overfitting.best_step, progress.overfitting.best_heldout)
            self.journal = Journal(self.folder, progress.log_bytes, progress.step, self.settings.tensorboard)

    def close(self) -> None:
        """Close the logs and give the folder free; `records` does it at its end."""
        if self.journal is not None:
            self.journal.close()
        if self._lock is not None:
            self._lock.release()

    # -- the loop --------------------------------------------------------------------------------------------------------

    def records(self) -> Iterator[Record]:
        """Train to the last step, yielding what happens; call `start` or `restore` first.

        Every record has "event" and "step". "start": steps, device, warnings. "log": loss, grad_norm, lr, skipped, seconds.
        "skip": why a batch made no update, and its examples. "evaluation": heldout, train_fixed, by_level, memorised, note.
        "checkpoint": path. "finished" or "time limit" is the last.

        Raises NonFiniteError after `max_skips` such batches in a row, Interrupted after a signal (the state is saved,
        except on a second Ctrl-C), StorageError where something could not be written.
        """
        progress, settings = self.state.progress, self.settings
        ends = math.inf if settings.max_minutes is None else time.monotonic() + 60.0 * settings.max_minutes
        try:
            with Signals() as signals:
                yield self._event("start", steps=settings.steps, device=str(self.device), warnings=self.warnings)
                while True:
                    called = self.ranks.any(signals.received is not None, self.device)
                    late = self.ranks.any(time.monotonic() >= ends, self.device)
                    if self._is_due(settings.evaluate_every) and progress.evaluated != progress.step and not called:
                        yield from self._evaluate()
                    if called or late or self._is_due(settings.checkpoint_every):
                        yield from self._save()
                    if progress.step >= settings.steps and progress.evaluated == progress.step:
                        yield self._event("finished", best_step=progress.overfitting.best_step)
                        return
                    if called:
                        what = f"A signal stopped the run at step {progress.step}; its state is saved."
                        raise Interrupted(what, "Continue with --resume.", signals.received or signal.SIGTERM)
                    if late:
                        yield self._event("time limit", minutes=settings.max_minutes)
                        return
                    yield from self._step(signals)
        except KeyboardInterrupt as error:
            what = f"The run was left at step {progress.step} without saving it."
            raise Interrupted(what, "Continue from its last checkpoint with --resume.", signal.SIGINT) from error
        except torch.OutOfMemoryError as error:
            fix = f"Set train.micro_batch below {self.micro_batch}."
            raise UsageError("One step needs more memory than the device has.", fix) from error
        finally:
            self.close()

    def _step(self, signals: Signals) -> Iterator[Record]:
        """One batch: gradient, finite check, update, log. A signal between micro-batches leaves the batch undone."""
        progress, remembered = self.state.progress, self.state.objective
        outcome = self._gradient(signals)
        if outcome is None:
            self.state.objective = remembered
            return
        loss, suspects, seen = outcome
        parameters = [parameter for parameter in self.weights.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        rate, size = learning_rate(self.settings, progress.updates), float(norm)
        if math.isfinite(loss) and math.isfinite(size):
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip, norm)
            self._update(rate)
            self.state.objective = self.objective.remember(self.state.objective, *self.ranks.gather(seen, self.device))
            progress.add(loss, size)
        else:
            self.state.objective = remembered
            yield self._skip("gradient" if math.isfinite(loss) else "loss", suspects)
        progress.step += 1
        if self._is_due(self.settings.log_every):
            yield from self._log(rate)

    def _gradient(self, signals: Signals) -> tuple[float, list[int], Tensor] | None:
        """Mean loss of the global batch, with its gradient left in the parameters.

        Beside it the examples whose own loss is not finite, and times and losses of this rank's share, `(2, share)`.
        """
        self.weights.train()
        self.state.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        suspects: list[int] = []
        seen: list[Tensor] = []
        first = self.state.progress.step * self.settings.batch_size + self.ranks.rank * self.accumulation * self.micro_batch
        for draw in range(first, first + self.accumulation * self.micro_batch, self.micro_batch):
            if signals.received is not None and self.ranks.count == 1:
                return None
            rows = indices(self.state.progress.examples, self.settings.seed, draw, self.micro_batch)
            with self._keyed_randomness(draw):
                record = self._loss(rows, draw)
                loss = record.losses["model"] / self.accumulation
                self.state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            seen.append(torch.stack([record.t.cpu(), record.per_example.cpu()]))
            suspects += rows[~seen[-1][1].isfinite()].tolist()
        total = torch.stack(losses).sum()
        self.ranks.mean_([total, *(parameter.grad for parameter in self.weights.parameters() if parameter.grad is not None)])
        self.state.scaler.unscale_(self.state.optimizer)
        return float(total), suspects, torch.cat(seen, 1)

    def _loss(self, rows: Tensor, draw: int) -> LossRecord:
        batch = batch_of(self.split.train, rows, self.codec, self.device)
        keys = Keys.for_draws(self.settings.seed, draw, len(rows), "train")
        share = self.state.progress.step / self.settings.steps
        record, self.state.objective = self.objective(self.model, batch, keys, share, self.state.objective)
        return record

    @contextlib.contextmanager
    def _keyed_randomness(self, draw: int) -> Iterator[None]:
        """Make what a network draws by itself (dropout takes no generator) a function of the draw number as well.

        The global generators of CPU and CUDA are seeded inside and put back after, so nothing else in the process notices.
        """
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_of(self.settings.seed, "network", draw))
            yield

    def _update(self, rate: float) -> None:
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.scaler.step(self.state.optimizer)
        self.state.scaler.update()
        self.state.ema.update(self.weights)
        self.state.progress.ema_updates = self.state.ema.updates

    # -- what is written and yielded -------------------------------------------------------------------------------------

    def _is_due(self, every: int) -> bool:
        step = self.state.progress.step
        return step > 0 and (step % every == 0 or step == self.settings.steps)

    def _event(self, event: str, **values: Any) -> Record:
        return {"event": event, "step": self.state.progress.step, **values}

    def _skip(self, why: str, suspects: list[int]) -> Record:
        """Count a batch that made no update; raises NonFiniteError after too many in a row."""
        progress, scaler = self.state.progress, self.state.scaler
        # With loss scaling an overflowing gradient is how the scale is found: it is halved until only the loss can be at fault.
        progress.skipped_in_row += not (why == "gradient" and scaler.is_enabled() and scaler.get_scale() > 1.0)
        progress.skipped += 1
        scaler.update()
        first = progress.step * self.settings.batch_size
        named = suspects or indices(progress.examples, self.settings.seed, first, self.settings.batch_size).tolist()
        record = {"step": progress.step + 1, "skip": why, "examples": named[:_NAMED]}
        if self.journal is not None:
            self.journal.write(record)
        if progress.skipped_in_row >= self.settings.max_skips:
            raise NonFiniteError(
                f"The {why} was not finite for {progress.skipped_in_row} batches in a row, the last at step {progress.step + 1} "
                f"(training examples {', '.join(map(str, named[:_NAMED]))}); {self._last_good()}.",
                "Look at these examples, or lower train.learning_rate, or use train.precision=fp32.",
            )
        return {"event": "skip", **record}

    def _log(self, rate: float) -> Iterator[Record]:
        progress = self.state.progress
        loss, norm = progress.take_means()
        if self.journal is not None:
            record = {"step": progress.step, "loss": loss, "grad_norm": norm, "lr": rate, "skipped": progress.skipped}
            self.journal.write(record)
            yield {"event": "log", **record, "seconds": self.journal.clock(progress.step)}

    def _evaluate(self) -> Iterator[Record]:
        """Measure the averaged weights, and save them where they are the best so far."""
        progress = self.state.progress
        progress.evaluated = progress.step
        if self.journal is None:
            return
        measure = self.heldout.measure(self.averaged, self.device, progress.step / self.settings.steps, self.state.objective)
        told = (self.preview(self.averaged, progress.step) if self.preview is not None else None) or {}
        progress.overfitting = progress.overfitting.after(progress.step, measure)
        memorised = finite_or_none(told.get("memorised"))
        note = progress.overfitting.note(measure, memorised)
        record = {"step": progress.step, **measure.to_json(), "memorised": memorised, "note": note}
        self.journal.write(record)
        yield {"event": "evaluation", **record}
        if progress.overfitting.best_step == progress.step:
            yield from self._save()

    def _save(self) -> Iterator[Record]:
        """Write a checkpoint unless this state has one; raises NonFiniteError instead of saving broken weights."""
        if self.journal is None:
            return
        progress, best = self.state.progress, self.state.progress.overfitting
        if (self._saved, self._saved_evaluation) != (progress.step, progress.evaluated):
            broken = self.state.broken()
            if broken is not None:
                what = f"{broken} is not finite at step {progress.step} and was not saved; {self._last_good()}."
                raise NonFiniteError(what, "Resume from there with a lower train.learning_rate or with train.precision=fp32.")
            progress.log_bytes = self.journal.settle()
            if self._saved == progress.step:  # saved by a signal that came before the evaluation
                checkpoint.withdraw(self.checkpoints, progress.step)
            path = checkpoint.save(self.checkpoints, progress.step, self.state.tensors(), self.state.numbers(), self.identity)
            self._saved, self._saved_evaluation = progress.step, progress.evaluated
            yield self._event("checkpoint", path=str(path))
        checkpoint.point_to_best(self.folder, best.best_step, best.best_heldout)
        checkpoint.prune(self.checkpoints, self.settings.keep, [] if best.best_step is None else [best.best_step])

    def _last_good(self) -> str:
        return "no checkpoint was saved before" if self._saved is None else f"the last good checkpoint is of step {self._saved}"
