# SPDX-License-Identifier: Apache-2.0
"""Runs of every objective of the room, from recipe to samples, and what their checkpoints hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from run_world import DIGITS, POINTS, recipe

from ornstein.run.draw import DrawOptions, draw
from ornstein.run.folder import RunFolder
from ornstein.run.train import dry_run, train
from ornstein.run.trained import trained

CASES = {
    "learned schedule": ["schedule={kind: learned}", "prediction.kind=edm", "objective.weighting.kind=elbo"],
    "learned variance": ["schedule.kind=cosine", "prediction.kind=v", "objective={kind: hybrid, steps: 20}", "sample.solver.kind=ddpm"],
    "loss-aware": ["objective={kind: hybrid, times: {kind: loss-aware, bins: 2, history: 3}}"],
    "sliced": ["schedule.kind=geometric", "prediction.kind=edm", "objective={kind: sliced-score, times: {kind: levels, count: 10}}"],
    "paired": ["objective.coupling.kind=optimal-transport", "sample.solver.kind=euler"],
    "nested": ["schedule={kind: truncated, base: {kind: shifted, factor: 3}}"],
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_it_trains_and_samples(words: list[str], tmp_path: Path) -> None:
    made = recipe(POINTS, *words)
    assert train(made, tmp_path / "run", resume=False, init_from=None, show=lambda _: None)["finished"]
    draw(tmp_path / "run", DrawOptions(out=tmp_path / "out", count=5), lambda _: None)
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        assert np.isfinite(stored["samples"]).all()


def test_a_learned_schedule_is_read_back_with_its_weights_and_starts_another_run(tmp_path: Path) -> None:
    made = recipe(POINTS, *CASES["learned schedule"])
    train(made, tmp_path / "run", resume=False, init_from=None, show=lambda _: None)
    found = trained(RunFolder.open(tmp_path / "run"), "newest", lambda _: None)
    fresh = trained_start(made)
    now = found.model.process.schedule.at(0.5)
    assert now.log_snr != fresh.at(0.5).log_snr
    assert isinstance(now.alpha, float)
    notes = []
    train(
        recipe(POINTS, *CASES["learned schedule"], "train.seed=4"),
        tmp_path / "next",
        resume=False,
        init_from=tmp_path / "run",
        show=notes.append,
    )
    assert dry_run(made)["parameters"] == sum(parameter.numel() for parameter in found.model.weights.parameters())


def trained_start(made):  # type: ignore[no-untyped-def]
    from ornstein.run.build import schedule_of

    return schedule_of(made)


def test_learned_variance_doubles_the_channels_of_images_and_reaches_the_estimate(tmp_path: Path) -> None:
    made = recipe(DIGITS, "objective={kind: hybrid, condition_drop: 0.1}", "sample.solver.kind=ddpm")
    train(made, tmp_path / "run", resume=False, init_from=None, show=lambda _: None)
    found = trained(RunFolder.open(tmp_path / "run"), "newest", lambda _: None)
    x = torch.zeros(2, 1, 8, 8)
    estimate = found.model(x, found.model.process.schedule.at(0.5))
    assert estimate.x0.shape == x.shape
    assert isinstance(estimate.spread, torch.Tensor)
    assert estimate.spread.shape == x.shape
    draw(tmp_path / "run", DrawOptions(out=tmp_path / "out", count=3), lambda _: None)
