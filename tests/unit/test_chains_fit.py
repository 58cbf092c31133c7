"""How much a node takes in one go is found out, remembered, and tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.fit import GROW_AFTER, Fit


def ask(fit: Fit, limit: int, *, items: int) -> int:
    """As the callers do: a refused part is asked in halves. Returns the number of requests."""

    def some(size: int) -> int:
        if size <= limit:
            fit.taken(size)
            return 1
        made = 1 + some(size // 2) + some(size - size // 2)
        fit.refused(size)
        return made

    requests = 0
    while items > 0:
        size = min(fit.now, items)
        requests += some(size)
        items -= size
    return requests


@given(most=st.integers(1, 10_000), limit=st.integers(1, 10_000))
def test_the_limit_of_a_node_is_found_and_kept(most: int, limit: int) -> None:
    fit = Fit(most)
    ask(fit, limit, items=most)
    assert 1 <= fit.now <= max(1, min(most, limit))
    found = fit.now
    requests = ask(fit, limit, items=found * GROW_AFTER * 10)
    assert fit.now >= found
    assert requests <= GROW_AFTER * 10 * 1.25 + 10  # trials that fail are few


def test_a_limit_that_is_lifted_is_noticed() -> None:
    fit = Fit(1_000)
    ask(fit, 10, items=1_000)
    assert fit.now <= 10
    ask(fit, 1_000, items=200_000)
    assert fit.now == 1_000


def test_a_limit_that_becomes_tighter_is_followed() -> None:
    fit = Fit(1_000)
    ask(fit, 1_000, items=5_000)
    ask(fit, 30, items=1_000)
    assert fit.now <= 30


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_never_falls_below_one(size: int) -> None:
    fit = Fit(size)
    for _ in range(5):
        fit.refused(size)
    assert fit.now == 1
