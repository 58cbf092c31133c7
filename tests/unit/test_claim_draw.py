"""Shares: exact, at least the minimum, unbiased, and the same for whoever draws them again."""

import hashlib
from collections import Counter
from fractions import Fraction
from itertools import product
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.claim.draw import Numbers, differences, shares
from domain.claim.states import Shares

SEED = bytes(range(32))


def seed_of(number: int) -> bytes:
    return hashlib.sha256(f"seed {number}".encode()).digest()


@st.composite
def packets(draw: st.DrawFn) -> tuple[int, int, int]:
    count = draw(st.integers(1, 200))
    units_min = draw(st.integers(1, 10**9))
    spare = draw(st.one_of(st.integers(0, 20), st.integers(0, 10**38 - 1 - count * units_min)))
    return count * units_min + spare, count, units_min


@given(packet=packets(), kind=st.sampled_from(Shares), seed=st.binary(min_size=32, max_size=32))
def test_the_sum_is_exact_and_no_share_is_below_the_minimum(
    packet: tuple[int, int, int], kind: Shares, seed: bytes
) -> None:
    units, count, units_min = packet
    drawn = shares(kind, seed, units, count, units_min)
    assert len(drawn) == count
    assert sum(drawn) == units
    assert min(drawn) >= units_min
    shares.cache_clear()
    assert shares(kind, seed, units, count, units_min) == drawn


def chi_square(found: Counter[tuple[int, ...]], ways: int, draws: int) -> Fraction:
    expected = Fraction(draws, ways)
    return sum((found[way] - expected) ** 2 / expected for way in found) + (ways - len(found)) * expected


@pytest.mark.parametrize(
    ("units", "count", "units_min", "critical"),
    # The 99.9 % quantile of chi-square with as many degrees of freedom as there are ways, less one.
    [(6, 3, 1, 28), (12, 3, 2, 56), (8, 4, 1, 67), (5, 2, 1, 17)],
)
def test_every_way_of_splitting_is_equally_likely(units: int, count: int, units_min: int, critical: int) -> None:
    spare = units - count * units_min
    every = {way for way in product(range(units_min, units + 1), repeat=count) if sum(way) == units}
    ways = comb(spare + count - 1, count - 1)
    assert len(every) == ways
    draws = 200 * ways
    found = Counter(shares(Shares.RANDOM, seed_of(number), units, count, units_min) for number in range(draws))
    assert set(found) == every
    assert chi_square(found, ways, draws) < critical


def test_a_number_below_a_bound_is_unbiased() -> None:
    numbers = Numbers(SEED)
    found = Counter(numbers.below(5) for _ in range(10_000))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert sum(Fraction((each - 2_000) ** 2, 2_000) for each in found.values()) < Fraction(37, 2)  # 99.9 %, 4 degrees


def test_equal_shares_differ_by_one_unit_at_most_and_the_first_have_it() -> None:
    assert shares(Shares.EQUAL, SEED, 10, 3, 1) == (4, 3, 3)
    assert shares(Shares.EQUAL, SEED, 9, 3, 1) == (3, 3, 3)


# Drawn by a second program, which shares no line with ours. They can never change: packets are out there.
VECTORS = [
    (SEED, 1_000, 5, 1, (34, 221, 249, 177, 319)),
    (SEED, 100, 3, 10, (16, 43, 41)),
    (
        bytes(32), 10**30, 4, 1,
        (112906514665361137445889668316, 370038490335826816625417188057, 473057117398538685082686665489,
         43997877600273360846006478138),
    ),
    (bytes(32), 7, 7, 1, (1,) * 7),
]  # fmt: skip


@pytest.mark.parametrize(("seed", "units", "count", "units_min", "expected"), VECTORS)
def test_the_published_vectors(seed: bytes, units: int, count: int, units_min: int, expected: tuple[int, ...]) -> None:
    assert shares(Shares.RANDOM, seed, units, count, units_min) == expected


def test_a_vector_of_a_thousand_shares() -> None:
    drawn = shares(Shares.RANDOM, bytes(32), 10**12, 1_000, 5)
    digest = hashlib.sha256(",".join(map(str, drawn)).encode()).hexdigest()
    assert digest == "e6e0946d576e28b4bed92a4479720bcd49983c0fd8e678ce679d12a2170f7cc2"


def test_the_page_prints_a_vector() -> None:
    page = (Path(__file__).parent.parent.parent / "docs/packets.md").read_text()
    for word in (SEED.hex(), hashlib.sha256(SEED).hexdigest(), "34, 221, 249, 177, 319"):
        assert word in page


@pytest.mark.parametrize(("units", "count", "units_min"), [(2, 3, 1), (0, 1, 1), (5, 0, 1), (5, 5, 0), (9, 5, 2)])
def test_what_can_not_be_split_is_refused(units: int, count: int, units_min: int) -> None:
    with pytest.raises(ValueError, match="can't be split"):
        shares(Shares.RANDOM, SEED, units, count, units_min)


def test_a_packet_that_is_over_can_be_checked() -> None:
    drawn = shares(Shares.RANDOM, SEED, 1_000, 5, 1)
    fair = {
        "kind": Shares.RANDOM, "seed": SEED, "seed_hash": hashlib.sha256(SEED).hexdigest(),
        "units": 1_000, "count": 5, "units_min": 1,
    }  # fmt: skip
    won = {1: drawn[0], 3: drawn[2]}
    assert differences(**fair, won=won) == []  # type: ignore[arg-type]
    assert differences(**fair, won=won | {3: drawn[2] + 1}) == [  # type: ignore[arg-type]
        f"place 3 has {drawn[2] + 1} units and was drawn with {drawn[2]}"
    ]
    assert differences(**fair, won={6: 1}) == ["there is no place 6"]  # type: ignore[arg-type]
    assert differences(**fair | {"seed_hash": "00" * 32}, won={}) == [  # type: ignore[arg-type]
        "the seed is not the one that was committed to"
    ]
