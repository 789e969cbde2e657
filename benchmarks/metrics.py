# SPDX-License-Identifier: Apache-2.0
"""Figures on equal features beside torchmetrics: how far apart they are, and how long each takes.

Features of a diagonal-plus-noise law stand in for Inception's, at its 2,048 dimensions and at 64; both sides get the very same
numbers, torchmetrics through a network that passes them on. The promise: Frechet distances within 1e-4 of one another,
kernel distances, by the subset scheme too, within 1e-6, inception scores within 1e-4, all relative.

    python benchmarks/metrics.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _peers import in_bench_environment

PROMISES = {"frechet": 1e-4, "kernel": 1e-6, "kernel, subsets": 1e-6, "class score": 1e-4}


def features(n: int, dim: int, seed: int, shift: float) -> Any:
    """Rectified, correlated features, as a network's."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=torch.Generator().manual_seed(7), dtype=torch.float64) / dim**0.5
    return (torch.randn(n, dim, generator=generator, dtype=torch.float64) @ mix + shift).relu()


def timed(work: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = work()
    return value, time.perf_counter() - start


def cases(n: int, dim: int, subsets: int, size: int) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """By figure: ours and theirs, as calls."""
    import torch
    from torch import nn
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    from ornstein.evaluate.distances import frechet, kernel_distance, kernel_distance_of_subsets
    from ornstein.evaluate.scores import class_score_of_splits

    real, fake = features(n, dim, 0, 0.2), features(n, dim, 1, 0.25)
    logits = 3 * real[:, :10]

    class Given(nn.Module):
        """Hands on the features it is asked for by their row numbers."""

        num_features = dim

        def __init__(self, table: Any) -> None:
            super().__init__()
            self.table = table

        def forward(self, rows: Any) -> Any:
            return self.table[rows.flatten(1)[:, 0].long()]

    both = torch.cat([real, fake])
    rows = torch.arange(2 * n, dtype=torch.float64).view(-1, 1, 1, 1)

    def fed(metric: Any) -> float:
        metric.update(rows[:n], real=True)
        metric.update(rows[n:], real=False)
        found = metric.compute()
        return float(found[0] if isinstance(found, tuple) else found)

    def their_frechet() -> float:
        return fed(FrechetInceptionDistance(feature=Given(both), normalize=False, input_img_size=(1, 1, 1)).set_dtype(torch.float64))

    def their_kernel(count: int, rows_each: int) -> float:
        torch.manual_seed(3)
        return fed(KernelInceptionDistance(feature=Given(both), subsets=count, subset_size=rows_each).set_dtype(torch.float64))

    def our_subsets() -> float:
        torch.manual_seed(3)  # their subsets come from the global generator, in this order
        chosen = [(torch.randperm(n)[:size], torch.randperm(n)[:size]) for _ in range(subsets)]
        return kernel_distance_of_subsets(real, fake, chosen).value

    def their_score() -> float:
        torch.manual_seed(4)
        metric = InceptionScore(feature=Given(logits), splits=10).set_dtype(torch.float64)
        metric.update(rows[:n])
        return float(metric.compute()[0])

    def our_score() -> float:
        torch.manual_seed(4)
        order = torch.randperm(n)
        return class_score_of_splits(logits.log_softmax(1), order.chunk(10))[0]

    return {
        "frechet": (lambda: frechet(fake, real), their_frechet),
        "kernel": (lambda: kernel_distance(fake, real).value, lambda: their_kernel(1, n)),
        "kernel, subsets": (our_subsets, lambda: their_kernel(subsets, size)),
        "class score": (our_score, their_score),
    }


def main() -> None:
    """Measure, print, and fail where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="64 dimensions only, fewer points")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    in_bench_environment("torchmetrics", "torch", "ornstein")
    import torch

    torch.set_num_threads(1)
    settings = [(600, 64, 10, 200)] if options.quick else [(5000, 64, 100, 1000), (3000, 2048, 20, 1000), (1000, 2048, 20, 500)]
    rows, broken = [], False
    print(f"{'figure':<18}{'n':>6}{'dim':>6}{'ours':>14}{'torchmetrics':>14}{'apart':>10}{'ours s':>9}{'theirs s':>9}")
    for n, dim, subsets, size in settings:
        for name, (ours, theirs) in cases(n, dim, subsets, size).items():
            (value, seconds), (peer, peer_seconds) = timed(ours), timed(theirs)
            apart = abs(value - peer) / abs(peer)
            broken |= not apart <= PROMISES[name]
            row = {"figure": name, "n": n, "dim": dim, "ours": value, "torchmetrics": peer, "apart": apart}
            rows.append(row | {"ours_s": seconds, "torchmetrics_s": peer_seconds})
            print(f"{name:<18}{n:>6}{dim:>6}{value:>14.8g}{peer:>14.8g}{apart:>10.1e}{seconds:>9.2f}{peer_seconds:>9.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if broken:
        sys.exit("Figures are further apart than promised.")


if __name__ == "__main__":
    main()
