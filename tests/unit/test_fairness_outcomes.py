"""Outcomes: against public vectors, and counted over every value of a smaller domain."""

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, permutations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequestError
from domain.fairness import outcomes
from domain.fairness.outcomes import Game

# --- public vectors ---------------------------------------------------------------------------------------------------

# RFC 4231, 4.2 to 4.8, without 4.6, which cuts the result off.
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        (
            b"This is a test using a larger than block-size key and a larger than block-size data. "
            b"The key needs to be hashed before being used by the HMAC algorithm."
        ),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]

# Bets of Stake, as its page of calculations shows them; taken from the tests of the public verifier
# github.com/KyranRana/stake-provably-fair-api (src/test: Dice, Mines and Plinko, each with GameSeeds.json).
STAKE = [
    # server seed, client seed, nonce; the roll, the one tile (from 1) that 24 mines leave free, 16 rows
    ("18e93f4a7b5b58d2569765766d1b6c3296bbd8430d6f20249044d72f14720159", "bb62964774", 1, 7718, 22, "RRLRLLLLRLLLRLLL"),
    ("a9a09f7f84c9dc6d4f46f9b702d8e7e211e1fc219ac10e1145c4ca032eb000c6", "3c83fc7e07", 3, 1959, 23, "LLRRLRLLLLLRLLRL"),
    ("a5022ccf5dd5a76d2014278e3d91d1dfc47c3f12e683ea0c8151fdc2f944beb1", "8b3ca8298c", 54, 5637, 9, "RRLRLLLRLRRLLLLR"),
]  # fmt: skip

# Games of bustabit, edge 1 %: key = hash of Bitcoin's block 505750 as text, message = the game's hash as bytes. From
# the documentation and tests of the public verifier github.com/vladignatyev/bustabit-rust (src/lib.rs, tests/lib.rs).
BUSTABIT_KEY = b"0000000000000000004d6ec16dafe9d8370958664c1dc422f452892264c59526"
BUSTABIT = [
    ("5d07719b61b0abb6f1c3b17b1d69c838278f87f9b5e75077026e5fedf96c2eb2", "205590"),
    ("b2acd37fbdb5509926ab5d7329704c840f8467266c90019682f3b260a029bdba", "126"),
    ("82886b71b3b26e4b162bbdf4e7024f50f6a7250c207fb9ce497ad56a3e7e700a", "118"),
    ("cb7da3ec6cb68d4c0fccd9640641cabcac641f12ff97e7314ec3e074ac0981e0", "126"),
    ("b459e199bac1342bf22d7aa6d19180aff35ab69f453d809949aab3e8d5e545aa", "377"),
]


@pytest.mark.parametrize(("key", "message", "expected"), RFC_4231)
def test_the_mac_is_that_of_the_standard(key: bytes, message: bytes, expected: str) -> None:
    assert outcomes.mac(key, message).hex() == expected


def numbered(server_seed: str, client_seed: str, nonce: int) -> Iterator[bytes]:
    """Stake's blocks: like ours, but the first one has its number, too."""
    cursor = 0
    while True:
        yield outcomes.mac(server_seed.encode(), f"{client_seed}:{nonce}:{cursor}".encode())
        cursor += 1


@pytest.mark.parametrize(("server_seed", "client_seed", "nonce", "roll", "free", "path"), STAKE)
def test_dice_mines_and_plinko_are_those_of_a_public_casino(  # noqa: PLR0917
    server_seed: str, client_seed: str, nonce: int, roll: int, free: int, path: str
) -> None:
    def played(game: Game, **params: int) -> outcomes.Outcome:
        return outcomes.play(game, params, numbered(server_seed, client_seed, nonce))

    assert played(Game.DICE) == {"roll": roll}
    assert played(Game.MINES, mines=24) == {"mines": [tile for tile in range(25) if tile != free - 1]}
    for rows in range(8, 17):
        assert played(Game.PLINKO, rows=rows) == {"path": path[:rows], "slot": path[:rows].count("R")}


@pytest.mark.parametrize(("game_hash", "point"), BUSTABIT)
def test_the_crash_point_is_that_of_a_public_casino(game_hash: str, point: str) -> None:
    source = iter([outcomes.mac(BUSTABIT_KEY, bytes.fromhex(game_hash))])
    assert outcomes.play(Game.CRASH, {"edge_bps": 100}, source) == {"point": point}


# --- our own bytes ----------------------------------------------------------------------------------------------------


def test_the_bytes_are_made_of_the_texts_as_the_page_says() -> None:
    """Written down once more, from the page alone and not by calling what is tested."""
    server_seed, client_seed = "ab" * 32, "my-luck"
    expected = [
        hmac.new(server_seed.encode("ascii"), message, hashlib.sha256).digest()
        for message in (b"my-luck:7", b"my-luck:7:1", b"my-luck:7:2")
    ]
    assert list(islice(outcomes.blocks(server_seed, client_seed, 7), 3)) == expected
    first = expected[0].hex()
    assert outcomes.outcome(server_seed, client_seed, 7, Game.DICE, {}) == {"roll": int(first[:8], 16) * 10_001 >> 32}
    point = 97 * 2**52 // (2**52 - int(first[:13], 16))
    assert outcomes.outcome(server_seed, client_seed, 7, Game.CRASH, {}) == {"point": str(max(100, point))}
    assert outcomes.seed_hash(server_seed) == hashlib.sha256(server_seed.encode("ascii")).hexdigest()


CLIENT_SEEDS = st.text("".join(map(chr, range(0x21, 0x7F))).replace(":", ""), min_size=1, max_size=8)
DRAWS = st.tuples(CLIENT_SEEDS, st.integers(0, 2**63 - 1), st.integers(0, 40))


@given(DRAWS, DRAWS)
def test_no_two_blocks_have_the_same_message(one: tuple[str, int, int], other: tuple[str, int, int]) -> None:
    def message(client_seed: str, nonce: int, cursor: int) -> str:
        return f"{client_seed}:{nonce}" + (f":{cursor}" if cursor else "")

    assert (message(*one) == message(*other)) == (one == other)
    client_seed, nonce, cursor = one
    block = next(islice(outcomes.blocks("s", client_seed, nonce), cursor, None))
    assert block == outcomes.mac(b"s", message(*one).encode())


# --- fair, counted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 11))
def test_every_number_has_equally_many_words(bits: int) -> None:
    for n in range(1, 2**bits + 1):
        taken: Counter[int] = Counter()
        for word in range(2**bits):
            # A word that is passed by is followed by one that is not: word 2^bits - 1 is good for every n.
            source = iter([word, 2**bits - 1])
            number = outcomes.below(n, source, bits=bits)
            if next(source, None) is not None:
                taken[number] += 1
        assert taken == dict.fromkeys(range(n), 2**bits // n)


@given(st.integers(1, 60), st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
def test_a_number_is_that_of_the_usual_formula_but_for_a_few_words(n: int, words: list[int]) -> None:
    kept = [word for word in words if word * n % 2**32 >= 2**32 % n]
    if kept:
        assert outcomes.below(n, words) == int(Fraction(kept[0], 2**32) * n)


def test_the_words_that_dice_passes_by_are_few_and_known() -> None:
    passed = 2**32 % outcomes.ROLLS
    assert 2**32 // outcomes.ROLLS * outcomes.ROLLS + passed == 2**32
    assert Fraction(passed, 2**32) < Fraction(24, 10_000_000)


@pytest.mark.parametrize("mines", [1, 2, 3])
def test_every_layout_of_mines_has_equally_many_draws(mines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On five tiles, over all the numbers that the draws without replacement can be."""
    monkeypatch.setattr(outcomes, "TILES", 5)
    layouts: Counter[tuple[int, ...]] = Counter()

    def runs(sizes: list[int]) -> Iterator[list[int]]:
        if not sizes:
            yield []
            return
        for number in range(sizes[0]):
            yield from ([number, *rest] for rest in runs(sizes[1:]))

    for numbers in runs([5 - laid for laid in range(mines)]):
        source = iter(numbers)
        monkeypatch.setattr(outcomes, "below", lambda _n, _words, source=source: next(source))
        laid = outcomes.play(Game.MINES, {"mines": mines}, iter(()))["mines"]
        assert isinstance(laid, list)
        layouts[tuple(laid)] += 1
    draws = len(list(permutations(range(5), mines)))
    assert len(layouts) == comb(5, mines)
    assert set(layouts.values()) == {draws // comb(5, mines)}


def test_every_path_of_plinko_has_equally_many_draws() -> None:
    seen: Counter[str] = Counter()
    slots: Counter[int] = Counter()
    for path in range(2**8):
        block = b"".join(((path >> row & 1) << 31 | 0x1234567).to_bytes(4) for row in range(8))
        outcome = outcomes.play(Game.PLINKO, {"rows": 8}, iter([block]))
        seen[str(outcome["path"])] += 1
        slots[int(str(outcome["slot"]))] += 1
    assert len(seen) == 2**8 and set(seen.values()) == {1}
    assert slots == {slot: comb(8, slot) for slot in range(9)}


# --- crash ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge_bps", [0, 1, 100, 300, 2_500, 9_999])
def test_crash_gives_back_what_the_edge_leaves_and_never_more(edge_bps: int) -> None:
    """Over all values of 14 bits: whoever leaves at m gets m back where the point is at least m."""
    bits = 14
    points = [outcomes.crash_point(first, edge_bps, bits=bits) for first in range(2**bits)]
    assert points == sorted(points), "monotone in the bits"
    assert points[0] == 100
    kept = Fraction(10_000 - edge_bps, 10_000)
    for target in [*range(101, 600), 1_000, 5_000, 100_000, points[-1], points[-1] + 1]:
        chance = Fraction(sum(point >= target for point in points), 2**bits)
        returned = chance * Fraction(target, 100)
        assert kept - Fraction(target, 100 * 2**bits) < returned <= kept
    assert Fraction(sum(point >= 100 for point in points), 2**bits) == 1, "at 1.00 nobody loses: such a bet has no edge"


@given(st.integers(0, 2**52 - 1), st.integers(0, 2**52 - 1), st.integers(0, 9_999))
def test_points_are_at_least_one_rise_with_the_bits_and_fall_with_the_edge(one: int, other: int, edge_bps: int) -> None:
    low, high = (outcomes.crash_point(first, edge_bps) for first in sorted((one, other)))
    assert 100 <= low <= high
    assert outcomes.crash_point(one, min(edge_bps + 1, 9_999)) <= outcomes.crash_point(one, edge_bps)
    exact = Fraction(10_000 - edge_bps, 100) / (1 - Fraction(one, 2**52))
    assert outcomes.crash_point(one, edge_bps) == max(100, exact.numerator // exact.denominator)


def test_the_highest_point_is_exact() -> None:
    top = outcomes.play(Game.CRASH, {"edge_bps": 300}, iter([b"\xff" * 32]))
    assert top == {"point": str(97 * 2**52)}
    assert 97 * 2**52 > 2**53, "which is why it is text"


# --- every game -------------------------------------------------------------------------------------------------------

PLAYABLE: st.SearchStrategy[tuple[Game, dict[str, int]]] = st.one_of(
    st.tuples(st.just(Game.CRASH), st.fixed_dictionaries({"edge_bps": st.integers(0, 9_999)})),
    st.tuples(st.just(Game.DICE), st.just({})),
    st.tuples(st.just(Game.MINES), st.fixed_dictionaries({"mines": st.integers(1, 24)})),
    st.tuples(st.just(Game.PLINKO), st.fixed_dictionaries({"rows": st.integers(8, 16)})),
)


@given(PLAYABLE, CLIENT_SEEDS, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_every_draw_is_within_its_game_and_comes_out_the_same_again(
    playable: tuple[Game, dict[str, int]], client_seed: str, nonce: int, seed: bytes
) -> None:
    game, params = playable
    made = outcomes.outcome(seed.hex(), client_seed, nonce, game, params)
    assert made == outcomes.outcome(seed.hex(), client_seed, nonce, game, params)
    match game, made:
        case Game.CRASH, {"point": str(point)}:
            assert int(point) >= 100
        case Game.DICE, {"roll": int(roll)}:
            assert 0 <= roll <= 10_000
        case Game.MINES, {"mines": list(mines)}:
            assert mines == sorted(set(mines)) and len(mines) == params["mines"] and set(mines) <= set(range(25))
        case Game.PLINKO, {"path": str(path), "slot": int(slot)}:
            assert re.fullmatch(f"[LR]{{{params['rows']}}}", path) and slot == path.count("R")
        case _:
            pytest.fail(f"{game}: {made}")


@pytest.mark.parametrize(
    ("game", "params"),
    [
        (Game.CRASH, {"edge_bps": -1}),
        (Game.CRASH, {"edge_bps": 10_000}),
        (Game.CRASH, {"edge": 300}),
        (Game.DICE, {"mines": 3}),
        (Game.MINES, {}),
        (Game.MINES, {"mines": 0}),
        (Game.MINES, {"mines": 25}),
        (Game.PLINKO, {}),
        (Game.PLINKO, {"rows": 7}),
        (Game.PLINKO, {"rows": 17}),
    ],
)
def test_what_a_game_can_not_have_is_refused(game: Game, params: dict[str, int]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        outcomes.checked(game, params)
    assert caught.value.field == "params"


def test_defaults_are_filled_in_so_that_a_draw_does_not_depend_on_them() -> None:
    assert outcomes.checked(Game.CRASH, {}) == {"edge_bps": 300}
    assert outcomes.checked(Game.DICE, {}) == {}
