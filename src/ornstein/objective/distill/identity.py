# SPDX-License-Identifier: Apache-2.0
r"""The differential equation of a flow map, which continuous-time objectives drive to zero.

Along the path through x_t,  dx/dt = (sigma'/sigma) x + k D  with k = alpha' - alpha sigma'/sigma and D the direction (see
`drift`). That the point a map leads to, (sigma_s/sigma_t) x_t + c_ts x_0(x_t, t, s), stays the same along it reads

    (sigma_s/sigma_t) (D - x_0) + (c_ts / k) d x_0/dt = 0,

where d x_0/dt is the total derivative with s fixed, one product of the Jacobian with (dx/dt, 1). The left side is what
must be added to x_0: the target of MeanFlow (Geng et al. 2025, arXiv 2505.13447, eq. 6) where the path is straight, the
tangent of continuous-time consistency models (Lu & Song 2024, arXiv 2410.11081, eq. 5) where s is clean, and D - x_0,
denoising, where s = t. D enters linearly, so that the data may stand for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.objective.distill.moves import reach
from ornstein.process.level import Level, over


@torch.no_grad()
def correction(model: Model, x: Tensor, t: Level, s: Level, drift: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
    """(x_0 of the model, what the identity adds to it), each like x; computed in float32 at least, without gradients.

    Args:
        model: whose map it is.
        x: x_t, `(batch, ...)`.
        t: its level, of tensors `(batch,)` with their rates.
        s: where the map leads.
        drift: D at x.
        cond: what is known of the samples.
    """
    exact, schedule = model.replaced(precision="fp32"), model.process.schedule
    ratio = torch.as_tensor(t.sigma_rate / t.sigma)
    k = t.alpha_rate - t.alpha * ratio
    pace = reach(t, s) / k  # the derivative is taken along (pace dx/dt, pace): one product gives the whole term
    along = over(pace * ratio, x) * x + over(pace * k, x) * drift

    def answer(x: Tensor, time: Tensor) -> Tensor:
        return exact(x, schedule.at(time), cond, s).x0

    pair = torch.func.jvp(answer, (x, torch.as_tensor(t.t)), (along, pace))
    return pair[0], over(torch.as_tensor(s.sigma / t.sigma), x) * (drift - pair[0]) + pair[1]
