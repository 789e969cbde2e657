# SPDX-License-Identifier: Apache-2.0
"""One training step (forward, backward, AdamW) of Ornstein's U-Net against two other libraries' of equal size.

    .venv/bin/python benchmarks/train_step.py [--quick] [--json FILE] [--threads 2]

Contestants take turns, step by step, on the same batch in one process; a ratio is the other's time over ours in the same
round, given as median and range over the rounds. Ours runs as `ornstein train` runs it: bf16 and fused AdamW. The others run
as their documentation has them (eager, float32, AdamW), and again in their best setting of a fixed grid (bf16 autocast,
with and without channels_last). Guards: with copied weights our outputs are diffusers', and after N steps from equal
weights on equal batches our bf16 loss is its fp32 loss.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _peers import diffusers_unet, from_diffusers, in_bench_environment, lucidrains_unet

SIZES = ((16, 32), (32, 64))
"""(pixels on a side, batch)."""

CHANNELS, ATTENTION, HEAD_WIDTH = (64, 128), (1,), 32
LUCIDRAINS = (72, (1, 2))
"""Width and multiples of the nearest `Unet`: 4 % fewer parameters and 2 to 5 % more products than ours."""

OWN_FLOOR, PEER_FLOOR, PARITY, LOSS_TOLERANCE = 1.3, 1.5, 1e-5, 0.05
IDLE = 0.7
"""Load average above which other work disturbs two threads on two cores: CPU times are then quoted, not wall times."""


@dataclass
class Contestant:
    """A network, how it is called with (x, t in [0, 1]), and its setting."""

    name: str
    network: Any
    call: Callable[[Any, Any, Any], Any]
    precision: str = "fp32"
    fused: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        import torch

        self.layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=5e-4, fused=self.fused or None)

    def step(self, x: Any, t: Any, target: Any) -> Any:
        """One update; returns the loss before it."""

        from ornstein.network.precision import autocast_for

        with autocast_for(self.precision, "cpu"):
            y = self.call(self.network, x.contiguous(memory_format=self.layout), t)
        loss = (y.float() - target).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def batch_of(size: int, count: int, generator: Any) -> tuple[Any, Any, Any]:
    """Striped images with noise on the linear path: x_t, t and the velocity noise - image."""
    import torch

    ramp = torch.linspace(0.0, 1.0, size)
    rates, phase = 6.0 * torch.randn(count, 3, 2, generator=generator), 6.28 * torch.rand(count, 3, 1, 1, generator=generator)
    image = torch.sin(rates[..., :1, None] * ramp[:, None] + rates[..., 1:, None] * ramp + phase)
    noise, t = torch.randn(image.shape, generator=generator), torch.rand(count, generator=generator)
    along = t[:, None, None, None]
    return (1 - along) * image + along * noise, t, noise - image


def contestants(size: int) -> list[Contestant]:
    """Ours first, with the weights of diffusers'; the first is the one all others are compared with."""
    import torch

    from ornstein.network.unet import UNet

    def ours(network: Any, x: Any, t: Any) -> Any:
        return network(x, t[:, None])

    def diffusers(network: Any, x: Any, t: Any) -> Any:
        return network(x, 1000.0 * t).sample

    def lucidrains(network: Any, x: Any, t: Any) -> Any:
        return network(x, 1000.0 * t)

    def peer(make: Callable[[], Any]) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make()

    def unet() -> UNet:
        network = UNet(3, 3, CHANNELS, attention=ATTENTION, head_width=HEAD_WIDTH)
        network.load_state_dict(from_diffusers(peer(diffusers_like).state_dict()))
        return network

    def diffusers_like() -> Any:
        return diffusers_unet(CHANNELS, ATTENTION, HEAD_WIDTH, size)

    made = [Contestant("ornstein bf16", unet(), ours, "bf16", fused=True), Contestant("ornstein fp32", unet(), ours, fused=True)]
    for name, call, make in (("diffusers", diffusers, diffusers_like), ("lucidrains", lucidrains, lambda: lucidrains_unet(*LUCIDRAINS))):
        made.append(Contestant(f"{name} fp32", peer(make), call))
        made.append(Contestant(f"{name} bf16", peer(make), call, "bf16"))
        made.append(Contestant(f"{name} bf16 channels_last", peer(make), call, "bf16", channels_last=True))
    return made


def size_of(contestant: Contestant, x: Any, t: Any) -> dict[str, float]:
    """Parameters, and floating-point operations of one step (two per product-and-sum)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        contestant.call(contestant.network, x[:2], t[:2]).square().mean().backward()
    contestant.optimiser.zero_grad()
    count = sum(parameter.numel() for parameter in contestant.network.parameters())
    return {"parameters": count, "gflop_per_step": round(counter.get_total_flops() * len(x) / 2 / 1e9, 2)}


def parity(size: int) -> float:
    """Largest difference of outputs between our U-Net and diffusers' with copied weights, over the largest output."""
    import torch

    first, second = contestants(size)[1:3]
    x, t, _ = batch_of(size, 4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = first.call(first.network, x, t), second.call(second.network, x, t)
    return float((ours - theirs).abs().max() / theirs.abs().max())


def losses(size: int, batch: int, steps: int) -> dict[str, float]:
    """Mean loss of the last third of `steps` updates on equal batches, for ours and for the others in float32."""
    import torch

    result = {}
    for contestant in contestants(size):
        if contestant.precision == "bf16" and not contestant.name.startswith("ornstein"):
            continue
        generator = torch.Generator().manual_seed(2)
        history = [contestant.step(*batch_of(size, batch, generator)) for _ in range(steps)]
        result[contestant.name] = float(torch.stack(history[-(steps // 3) :]).mean())
    return result


def race(size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Times of all contestants, taking turns, after one untimed round."""
    import torch

    field = contestants(size)
    data = batch_of(size, batch, torch.Generator().manual_seed(3))
    times: dict[str, list[tuple[float, float]]] = {contestant.name: [] for contestant in field}
    for turn in range(rounds + 1):
        for contestant in field:
            wall, cpu = time.perf_counter(), time.process_time()
            contestant.step(*data)
            if turn:
                times[contestant.name].append((time.perf_counter() - wall, time.process_time() - cpu))
    ours = times["ornstein bf16"]
    rows = []
    for contestant in field:
        mine = times[contestant.name]
        row: dict[str, Any] = {"name": contestant.name, **size_of(contestant, *data[:2])}
        for index, clock in enumerate(("wall", "cpu")):
            ratios = [theirs[index] / own[index] for theirs, own in zip(mine, ours, strict=True)]
            row[f"{clock}_ms"] = round(1000 * statistics.median(pair[index] for pair in mine), 1)
            row[f"{clock}_ratio"] = round(statistics.median(ratios), 3)
            row[f"{clock}_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
        rows.append(row)
    return {"size": size, "batch": batch, "rounds": rounds, "rows": rows}


def verdict(report: dict[str, Any]) -> list[str]:
    """What is not as it must be; empty when every guard and floor holds."""
    clock, wrong = report["clock"], []
    if not report["parity"] <= PARITY:
        wrong.append(f"outputs differ from diffusers' by {report['parity']:.1e}")
    theirs, ours = report["losses"]["diffusers fp32"], report["losses"]["ornstein bf16"]
    if not abs(ours / theirs - 1) <= LOSS_TOLERANCE:
        wrong.append(f"loss {ours:.4f} where diffusers has {theirs:.4f}")
    for entry in report["sizes"]:
        for row in entry["rows"][1:]:
            if row["name"].endswith("fp32"):
                floor = OWN_FLOOR if row["name"].startswith("ornstein") else PEER_FLOOR
                if row[f"{clock}_ratio"] < floor:
                    wrong.append(f"{entry['size']} px: {row['name']} takes {row[f'{clock}_ratio']}x our time, not {floor}x")
    return wrong


def show(report: dict[str, Any]) -> None:
    print(f"torch {report['torch']}, {report['threads']} threads, load average {report['load'][0]:.2f} to {report['load'][1]:.2f}")
    if report["clock"] == "cpu":
        print("Other work was running: quote the CPU ratios only, and repeat on an idle machine.")
    print(f"outputs with copied weights differ from diffusers' by {report['parity']:.1e} of the largest")
    print(f"loss after {report['steps']} steps: " + ", ".join(f"{name} {value:.4f}" for name, value in report["losses"].items()))
    for entry in report["sizes"]:
        print(f"\n{entry['size']} px, batch {entry['batch']}, {entry['rounds']} rounds; ratio = time / time of ornstein bf16")
        print(f"{'':32}{'M params':>9}{'GFLOP':>8}{'wall ms':>9}{'ratio':>7}{'range':>15}{'CPU ms':>9}{'ratio':>7}{'range':>15}")
        for row in entry["rows"]:
            line = f"{row['name']:32}{row['parameters'] / 1e6:9.2f}{row['gflop_per_step']:8.1f}"
            for clock in ("wall", "cpu"):
                low, high = row[f"{clock}_range"]
                line += f"{row[f'{clock}_ms']:9.0f}{row[f'{clock}_ratio']:7.2f}{f'{low:.2f} to {high:.2f}':>15}"
            print(line)


def main() -> int:
    parser = argparse.ArgumentParser(description="One training step against diffusers and denoising-diffusion-pytorch.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    in_bench_environment("diffusers", "denoising_diffusion_pytorch")

    import torch

    from ornstein.base.files import write_json
    from ornstein.cli.machine import prepare

    load = os.getloadavg()[0]
    prepare(words.threads)
    steps, rounds = (21, (3, 2)) if words.quick else (90, (9, 9))
    report: dict[str, Any] = {
        "benchmark": "train_step",
        "torch": torch.__version__,
        "threads": words.threads,
        "parity": max(parity(size) for size, _ in SIZES),
        "steps": steps,
        "losses": losses(*SIZES[0], steps),
        "sizes": [race(size, batch, turns) for (size, batch), turns in zip(SIZES, rounds, strict=True)],
    }
    report["load"] = [load, os.getloadavg()[0]]
    report["clock"] = "wall" if load <= IDLE and report["load"][1] <= words.threads + IDLE else "cpu"
    report["failed"] = verdict(report)
    show(report)
    if words.json:
        write_json(words.json, report)
    print("\n" + ("\n".join(f"NOT MET: {line}" for line in report["failed"]) or "Every guard and floor holds."))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
