# SPDX-License-Identifier: Apache-2.0
r"""The exponential multistep family: one formula for DDIM, DPM-Solver++, UniPC, DEIS, their SDE forms and SA-Solver.

A rule of the family solves the path exactly for a function q (`spaces`) and takes for q the polynomial through its last
values. What it extrapolates (the space), in which variable v the polynomials are, through how many points, and whether the
move is made again with one more (the corrector) is all that tells the rules apart:

    x_s = keep x_t + sum_k q_k w_k + noise z,      w_k = integral of K(lambda) L_k(v(lambda)) d lambda,

with L_k Lagrange's polynomials on the places v of the last nodes. A row of two points may instead take its first moment as in
DPM-Solver++(2M) and UniPC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ornstein.base.errors import UsageError
from ornstein.process.level import Level
from ornstein.sample.multistep import Multistep, Row
from ornstein.sample.spaces import Angle, Array, Data, Eps, Moves, Path, Space

_VARIABLES: dict[str, Callable[[Array], Array]] = {
    "log-snr": lambda half_log_snr: half_log_snr,
    "sigma": lambda half_log_snr: np.exp(-half_log_snr),
}


class Exponential:
    """Rows of one rule of the family.

    Args:
        space: what is extrapolated.
        order: evaluations that a prediction uses, 1 or more; fewer on the first moves.
        variable: in which the polynomials are: "log-snr", "sigma" (sigma/alpha), or "own" for the space's own.
        corrector: whether every move is made again, with one more point, after the evaluation at its end.
        moment: how a row of two points weighs their difference: "exact"; or half of B times the step, with B(h) the
            integral of K ("b2": UniPC's B_2 and the midpoint form of 2M) or its first-order value ("b1").
    """

    def __init__(self, space: Space, order: int, variable: str = "own", corrector: bool = False, moment: str = "exact") -> None:
        if order < 1:
            raise UsageError(f"A multistep rule cannot have order {order}.", "Choose order 1 or more.")
        self.space, self.order, self.corrector, self.moment = space, order, corrector, moment
        self.variable = space.place if variable == "own" else _VARIABLES[variable]

    def __call__(self, plan: tuple[Level, ...]) -> list[Row]:
        """A row per move."""
        if len(plan) == 2 and plan[1].is_clean:
            return [Row(0.0, (1.0,))]  # nothing is known but x_0, and a polynomial through one point would only spoil it
        path = Path.of(plan)
        moves, read = self.space.moves(path), self.space.read(path)
        weights = self._weights(path, moves, self.order, 0)
        corrected = self._weights(path, moves, self.order + 1, 1) if self.corrector else [()] * len(weights)
        reads = [None] * len(weights) if read is None else list(zip(*(part.tolist() for part in read), strict=True))
        parts = zip(moves.keep.tolist(), weights, reads[: len(weights)], moves.noise.tolist(), corrected, strict=True)
        return [Row(*part) for part in parts]

    def _weights(self, path: Path, moves: Moves, most: int, ahead: int) -> list[tuple[float, ...]]:
        """Weights of every move on the nodes `ahead` of its start and before, newest first, `most` of them where there are."""
        n, places = len(moves.keep), self.variable(path.half_log_snr)
        points, found = self.variable(moves.half_log_snr), list[tuple[float, ...]]()
        for count in range(1 + ahead, most + 1):
            first = count - 1 - ahead  # the first move with that many nodes
            part = slice(first, n if count == most else first + 1)
            if first >= n:
                break
            newest = np.arange(n)[part] + ahead
            nodes = places[newest[:, None] - np.arange(count)]
            rows = _integrals(points[part], nodes, moves.weights[part])
            if count == 2 and self.moment != "exact":
                rows = self._halved(path, moves, part, ahead)
            found += [tuple(row) for row in rows.tolist()]
        return found

    def _halved(self, path: Path, moves: Moves, part: slice, ahead: int) -> Array:
        """Two-point rows whose first moment in lambda is half of B times the step."""
        whole, step = moves.weights[part].sum(1), np.diff(path.half_log_snr)
        b = whole if self.moment == "b2" else moves.edge[part] * step[part]
        if ahead:
            return np.stack([0.5 * b, whole - 0.5 * b], 1)
        slope = 0.5 * b * step[part] / step[part.start - 1 : part.stop - 1]
        return np.stack([whole + slope, -slope], 1)


def one_row(space: Space, t: Level, s: Level, nodes: Sequence[Level]) -> Row:
    """The move from t to s by the line in lambda through the values at `nodes`, of which the first is the one to be read."""
    moves, path = space.moves(Path.of((t, s))), Path.of(nodes)
    [weights] = _integrals(moves.half_log_snr, path.half_log_snr[None], moves.weights).tolist()
    read = space.read(path)
    return Row(float(moves.keep[0]), tuple(weights), None if read is None else (float(read[0][0]), float(read[1][0])))


def _integrals(points: Array, nodes: Array, weights: Array) -> Array:
    """Integrals of Lagrange's polynomials on `(n, k)` nodes, by `(n, g)` weights at `(n, g)` points: `(n, k)`."""
    basis = np.ones((*nodes.shape, points.shape[1]))
    for m in range(nodes.shape[1]):
        for other in range(nodes.shape[1]):
            if other != m:
                basis[:, m] *= (points - nodes[:, other, None]) / (nodes[:, m, None] - nodes[:, other, None])
    integrals: Array = np.einsum("nkg,ng->nk", basis, weights)
    return integrals


def data_multistep(order: int = 2, tau: float = 0.0, moment: str = "exact") -> Multistep:
    """DPM-Solver++ multistep and, with tau = 1, its SDE form, whose weak order on Gaussian worlds is 2 at most."""
    return Multistep(Exponential(Data(tau), order, moment=moment), min(order, 2) if tau else order, stochastic=tau > 0.0)


def dpm_solver_2m() -> Multistep:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2); first order on its first move."""
    return data_multistep(2, moment="b2")


def dpm_solver_3m() -> Multistep:
    """DPM-Solver++(3M) (Lu et al. 2022, arXiv 2211.01095) with exact second moments; the published code takes half of the last."""
    return data_multistep(3)


def dpm_solver_2m_sde(tau: float = 1.0) -> Multistep:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, section 3.4); `tau` scales its noise, 0 gives 2M."""
    return data_multistep(2, tau, "b2")


def dpm_solver_3m_sde(tau: float = 1.0) -> Multistep:
    """The third-order companion of SDE-DPM-Solver++(2M)."""
    return data_multistep(3, tau)


def unipc(order: int = 2, corrector: bool = True, moment: str = "b2") -> Multistep:
    """UniPC on x_0 (Zhao et al. 2023, arXiv 2302.04867): a prediction of the given order, corrected to one more.

    Args:
        order: of the prediction, 1 to 4.
        corrector: whether moves are corrected; without, the multistep rule itself.
        moment: the paper's B(h), which matters for rows of two points only: "b1" = h, "b2" = e^h - 1; or "exact".
    """
    return Multistep(Exponential(Data(), order, corrector=corrector, moment=moment), order + corrector)


def deis(order: int = 3, variable: str = "log-snr") -> Multistep:
    """DEIS (Zhang & Chen 2023, arXiv 2204.13902, eq. 14): polynomials of eps in "log-snr" (as diffusers has it) or "sigma".

    In sigma it is Adams-Bashforth with the coefficients of the steps taken: k-diffusion's LMS, DEIS's rho-AB.
    """
    return Multistep(Exponential(Eps(), order, variable), order)


def sa_solver(order: int = 3, tau: float = 1.0, corrector: bool = True) -> Multistep:
    """SA-Solver (Xue et al. 2023, arXiv 2309.05019, algorithm 1): stochastic Adams with constant tau; 0 gives UniPC.

    Args:
        order: of the prediction, 1 to 4; the correction uses one point more.
        tau: scale of the noise.
        corrector: whether moves are corrected.
    """
    reached = order + corrector
    return Multistep(Exponential(Data(tau), order, corrector=corrector), min(reached, 2) if tau else reached, stochastic=tau > 0.0)


def angular(order: int = 4, scale: float = 1.4) -> Multistep:
    """The default: Adams-Bashforth in the angle, with the coefficients of the steps taken; for the plan `angle`.

    The polynomials are in theta = atan(sigma/(scale alpha)), in which the whole path has the length of a right angle, so the
    rule makes the moves out of pure noise and into clean data as any other. Order, `scale` and the plan's numbers were
    chosen once, on random mixtures other than those of `benchmarks/solvers.py`.

    Args:
        order: evaluations that a move looks back on, 1 to 6; fewer on the first moves.
        scale: a guess of the data's standard deviation, > 0; it matters little.
    """
    return Multistep(Exponential(Angle(scale), order), order, ends=Angle.ends)
