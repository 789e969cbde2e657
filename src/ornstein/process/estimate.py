# SPDX-License-Identifier: Apache-2.0
"""What a denoiser returns: an estimate of clean data, whatever its network was trained to put out.

x_0 is the only currency between denoisers, guidance, solvers and processes. Continuous data has `Gaussian`; a process
over tokens brings its own kind, and kinds are matched once, when parts are put together.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from torch import Tensor


class Gaussian(NamedTuple):
    """Estimate for continuous data.

    Args:
        x0: expected clean data given x_t, same shape as x_t.
        spread: where the variance of a stochastic move lies, as a fraction in [0, 1] between the logarithms of the
            posterior variance (0) and of the forward variance (1); None leaves it to the process (Nichol & Dhariwal
            2021, arXiv 2102.09672, eq. 15).
    """

    x0: Tensor
    spread: Tensor | float | None = None


Estimate: TypeAlias = Any
"""An estimate of any kind; the sampling loop passes it from denoiser to solver without a look."""
