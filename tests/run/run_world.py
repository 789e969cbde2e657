# SPDX-License-Identifier: Apache-2.0
"""Tiny recipes that train in a second, for the tests of the run room and the commands."""

from __future__ import annotations

from ornstein.run import yaml_strict
from ornstein.run.recipe import Recipe

DIGITS = """
name: tiny
data: {kind: digits, size: 8}
schedule: {kind: edm}
prediction: {kind: edm, sigma_data: 0.66}
network: {kind: unet, channels: [8, 8], blocks: 1, attention: [], head_width: 8, groups: 4}
objective: {kind: matching, times: {kind: log-normal-sigma}, weighting: {kind: edm, sigma_data: 0.66}, condition_drop: 0.1}
train: {steps: 6, batch_size: 8, warmup: 2, evaluate_every: 3, checkpoint_every: 2, log_every: 1, keep: 9, device: cpu}
sample: {plan: {kind: karras, sigma_min: 0.02}, steps: 3, guidance: 2.0, micro_batch: 8}
evaluate: {draws: 1, steps: 2, guided_steps: 2, guidance: 2.0, plan: {kind: karras, sigma_min: 0.02}}
"""

POINTS = """
name: tiny-points
data: {kind: points, world: rings, n: 200}
schedule: {kind: flow}
prediction: {kind: velocity}
network: {kind: mlp, width: 16, depth: 1}
train: {steps: 6, batch_size: 16, warmup: 2, evaluate_every: 3, checkpoint_every: 3, log_every: 1, device: cpu}
sample: {steps: 3, micro_batch: 16}
evaluate: {draws: 2, steps: 3}
"""


def recipe(text: str, *words: str) -> Recipe:
    """The recipe of a YAML text with overrides."""
    return Recipe.parse(yaml_strict.read(text.encode()), words)
