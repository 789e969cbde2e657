# SPDX-License-Identifier: Apache-2.0
"""Every operator against the dense matrix that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.model.operators import AveragePool, Blur, Masked, Matrix, Operator, gaussian_kernel

SHAPE = (2, 4, 6)
SIZE = 48
OPERATORS: dict[str, Operator] = {
    "masked": Masked(Keys.for_draws(3, 0, 1).uniform((4, 6))[0] > 0.4),
    "pooled": AveragePool(2),
    "blurred": Blur(gaussian_kernel(0.6)),
    "crooked blur": Blur(Keys.for_draws(4, 0, 1).normal((3, 5), torch.float64)[0]),
    "kernel wider than the image": Blur(gaussian_kernel(1.7)),
    "matrix": Matrix(Keys.for_draws(5, 0, 1).normal((7, SIZE), torch.float64)[0], SHAPE),
}


def dense(operator: Operator) -> Tensor:
    """A as a matrix, column by column."""
    return operator(torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *SHAPE)).flatten(1).T


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_the_adjoint_is_the_transpose(operator: Operator) -> None:
    matrix = dense(operator)
    x = Keys.for_draws(0, 0, 3).normal(SHAPE, torch.float64)
    y = operator(x)
    torch.testing.assert_close(y.flatten(1), x.flatten(1) @ matrix.T)
    other = Keys.for_draws(1, 0, 3).normal(y.shape[1:], torch.float64)
    torch.testing.assert_close(operator.adjoint(other).flatten(1), other.flatten(1) @ matrix)


@pytest.mark.parametrize(("a", "b"), [(0.7, 0.2), (1.3, 0.01), (0.0, 0.5)])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_solve_is_the_inverse(operator: Operator, a: float, b: float) -> None:
    matrix, y = dense(operator), operator(Keys.for_draws(2, 0, 3).normal(SHAPE, torch.float64))
    system = a * matrix @ matrix.T + b * torch.eye(len(matrix), dtype=torch.float64)
    torch.testing.assert_close(operator.solve(y, a, b).flatten(1), torch.linalg.solve(system, y.flatten(1).T).T, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_without_noise_it_is_the_pseudo_inverse(operator: Operator) -> None:
    """A A^T (A A^T)^+ y = y for a y that A can make."""
    y = operator(Keys.for_draws(2, 0, 3).normal(SHAPE, torch.float64))
    torch.testing.assert_close(operator(operator.adjoint(operator.solve(y, 1.0, 0.0))), y, rtol=1e-6, atol=1e-7)


def test_a_gaussian_kernel_is_round_and_keeps_the_mean() -> None:
    kernel = gaussian_kernel(1.2)
    assert kernel.shape == (9, 9)
    assert float(kernel.sum()) == pytest.approx(1.0)
    assert kernel.equal(kernel.T)
    image = Keys.for_draws(0, 0, 1).normal((1, 16, 16), torch.float64)
    assert float(Blur(kernel)(image).mean()) == pytest.approx(float(image.mean()), abs=1e-12)


def test_what_is_no_operator_is_refused() -> None:
    with pytest.raises(UsageError, match="smaller 0 times"):
        AveragePool(0)
    with pytest.raises(UsageError, match="no middle"):
        Blur(torch.ones(2, 3))
    for std in (0.0, float("nan")):
        with pytest.raises(UsageError, match="blur"):
            gaussian_kernel(std)
