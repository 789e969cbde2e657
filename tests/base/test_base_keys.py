# SPDX-License-Identifier: Apache-2.0
"""Random numbers belong to (seed, purpose, draw) and to nothing else."""

from __future__ import annotations

import pytest
import torch

from ornstein.base.keys import Keys, generator_of, permutation, seed_of


def test_numbers_are_pinned_across_versions() -> None:
    """A change here makes every stored run and seed irreproducible."""
    assert seed_of(0, "noise", 1) == 1972555294716054106
    assert Keys.for_draws(7, 3, 1, "time").uniform().tolist() == pytest.approx([0.6030170851340119], abs=1e-15)
    assert Keys.for_draws(7, 3, 1, "noise").normal((2,))[0].tolist() == pytest.approx([0.1813155, 0.4822392], abs=1e-6)
    assert permutation(6, 0, "order", 1).tolist() == [5, 3, 2, 4, 0, 1]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_does_not_depend_on_its_neighbours(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    whole = Keys.for_draws(1, 0, 9, "noise")
    for numbers in (lambda keys: keys.normal(shape, dtype), lambda keys: keys.uniform(shape, dtype)):
        together = numbers(whole)
        assert together.shape == (9, *shape)
        assert together.dtype == dtype
        assert numbers(Keys.for_draws(1, 4, 3, "noise")).equal(together[4:7])
        shuffled = Keys(tuple(whole.pairs[i] for i in (8, 0, 5)), "noise")
        assert numbers(shuffled).equal(together[[8, 0, 5]])
        assert numbers(whole).equal(together)


def test_seed_purpose_and_draw_all_matter() -> None:
    base = Keys.for_draws(1, 0, 1, "noise").uniform((50,))
    others = (
        Keys.for_draws(2, 0, 1, "noise"),
        Keys.for_draws(1, 1, 1, "noise"),
        Keys.for_draws(1, 0, 1, "time"),
        Keys.for_draws(1, 0, 1, "noise").of("time"),
    )
    for other in others:
        correlation = torch.corrcoef(torch.stack([base[0], other.uniform((50,))[0]]))[0, 1]
        assert abs(float(correlation)) < 0.5


def test_purposes_nest() -> None:
    keys = Keys.for_draws(1, 0, 4)
    assert keys.of("loss").of("noise").uniform().equal(Keys(keys.pairs, "/loss/noise").uniform())
    assert not keys.of("loss").of("noise").uniform().equal(keys.of("noise").of("loss").uniform())


def test_numbers_have_the_law_they_should() -> None:
    n = 4000
    keys = Keys.for_draws(0, 0, n)
    normal, uniform = keys.of("a").normal((), torch.float64), keys.of("b").uniform()
    for numbers, law in ((normal, torch.distributions.Normal(0.0, 1.0)), (uniform, torch.distributions.Uniform(0.0, 1.0))):
        ranks = law.cdf(numbers).sort().values
        grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        assert float((ranks - grid).abs().max()) < 1.63 / n**0.5  # Kolmogorov-Smirnov at 1 %
    assert bool(((uniform >= 0.0) & (uniform < 1.0)).all())


def test_draws_and_seeds_name_their_samples() -> None:
    keys = Keys.for_draws(5, 10, 3)
    assert len(keys) == 3
    assert keys.draws == (10, 11, 12)
    assert keys.pairs == ((5, 10), (5, 11), (5, 12))
    assert Keys.for_seeds([4, 9], draw=2).pairs == ((4, 2), (9, 2))
    assert not Keys.for_seeds([4]).uniform().equal(Keys.for_seeds([4], draw=1).uniform())


def test_global_random_state_is_neither_read_nor_changed() -> None:
    before = torch.random.get_rng_state()
    first = Keys.for_draws(0, 0, 3).normal((4,))
    permutation(10, "order")
    assert torch.random.get_rng_state().equal(before)
    torch.rand(7)
    assert Keys.for_draws(0, 0, 3).normal((4,)).equal(first)


def test_generators_and_permutations_are_pure() -> None:
    assert torch.rand(3, generator=generator_of("a", 1)).equal(torch.rand(3, generator=generator_of("a", 1)))
    order = permutation(100, 3, "epoch", 2)
    assert order.sort().values.equal(torch.arange(100))
    assert not order.equal(permutation(100, 3, "epoch", 3))
    assert permutation(0, "x").tolist() == []


def test_words_do_not_run_together() -> None:
    assert len({seed_of("ab", "c"), seed_of("a", "bc"), seed_of("abc"), seed_of("a", "b", "c")}) == 4
    assert all(0 <= seed_of(word) < 2**63 for word in range(200))
