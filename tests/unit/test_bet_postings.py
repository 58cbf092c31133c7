"""What each decision about a player does to the books, and how answers of the hot store are read."""

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequestError, InvariantError
from core.hot.script import Reply
from domain.bet import postings
from domain.bet.decisions import Answer, End, Facts, Reserve, Verdict, answer, seen
from domain.bet.players import BUCKET_MS, checked_id, ms_of, player
from ledger.posting import Journal, check

WHO = player("casino", "ann", "iso4217:EUR")
BET = "019aa3c0-0000-7000-8000-000000000001"
UNITS = st.integers(1, 10**38 - 1)


def moved(*journals: Journal) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for journal in journals:
        check(journal)
        for posting in journal.postings:
            sums[posting.source] -= posting.units
            sums[posting.destination] += posting.units
    return {code: units for code, units in sums.items() if units}


@given(stake=UNITS, payout=st.integers(0, 10**38 - 1))
def test_a_settled_bet_moves_the_difference_between_player_and_house(stake: int, payout: int) -> None:
    journals = postings.reserved(WHO, BET, stake), postings.settled(WHO, BET, stake, payout)
    wanted = {"user:ann:playing": payout - stake, "house:bets": stake - payout} if payout != stake else {}
    assert moved(*journals) == wanted
    assert len(journals[1].postings) == (2 if payout else 1)


@given(stake=UNITS)
def test_a_voided_bet_moves_nothing(stake: int) -> None:
    assert moved(postings.reserved(WHO, BET, stake)) == {"user:ann:playing": -stake, "user:ann:staked": stake}
    assert moved(postings.reserved(WHO, BET, stake), postings.voided(WHO, BET, stake)) == {}


def test_an_unload_goes_back_to_where_a_load_comes_from() -> None:
    assert moved(postings.unloaded(WHO, BET, 7)) == {"user:ann:playing": -7, "user:ann:available": 7}


def test_references_name_bet_player_and_step() -> None:
    other = player("casino", "ann", "iso4217:USD")
    made = [
        make.reference
        for who in (WHO, other)
        for make in (
            postings.reserved(who, BET, 1),
            postings.settled(who, BET, 1, 1),
            postings.voided(who, BET, 1),
            postings.unloaded(who, BET, 1),
        )
    ]
    assert made[0] == f"bet:{BET}:{WHO.id}:reserved"
    assert len(set(made)) == 7  # an unload's id belongs to one player


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("R 900 100 1763744000000", Answer(Verdict.RESERVED, free=900, locked=100, at_ms=1_763_744_000_000)),
        ("S 0 900 5", Answer(Verdict.SETTLED, units=0, free=900, at_ms=5)),
        ("V 10 910 5", Answer(Verdict.VOIDED, units=10, free=910, at_ms=5)),
        (f"M {10**37} 0 5", Answer(Verdict.MOVED, units=10**37, free=0, at_ms=5)),
        ("L 7", Answer(Verdict.LOW, free=7)),
        ("T 250", Answer(Verdict.TOO_MANY, wait_ms=250)),
        ("C voided", Answer(Verdict.CONFLICT, state="voided")),
        ("O", Answer(Verdict.STALE)),
        ("? 3:17", Answer(Verdict.ABSENT, token="3:17")),
    ],
)
def test_an_answer_is_read(said: str, wanted: Answer) -> None:
    assert answer(Reply(said, None, None)) == wanted


@pytest.mark.parametrize("said", ["", "Z", "R 1 2", "R 1 2 3 4", "L x", "C", "O 1"])
def test_an_answer_that_no_script_gives_is_our_mistake(said: str) -> None:
    with pytest.raises(InvariantError):
        answer(Reply(said, None, None))


def test_a_look_is_read() -> None:
    found = seen(Reply(f"W 5 10 3 17 {BET}=10", None, None))
    assert found is not None
    assert (found.free, found.locked, found.version, found.at_ms, dict(found.bets)) == (5, 10, 3, 17, {UUID(BET): 10})
    assert seen(Reply("? 3:17", None, None)) is None


def test_all_that_a_decision_touches_lies_in_one_shard() -> None:
    other = player("casino", "ann", "iso4217:USD")
    assert WHO.shard == other.shard
    assert WHO.rate_key == other.rate_key
    assert WHO.key != other.key
    assert player("casino\nann", "b", "c").id != player("casino", "ann", "c").id


def test_an_id_says_when_it_was_made() -> None:
    bet_id = UUID(BET)
    assert ms_of(bet_id) == 0x019AA3C00000
    reserve, end = Reserve(WHO, bet_id, 5, Facts("dice")), End(WHO, bet_id, None)
    bucket = WHO.ended_key(0x019AA3C00000 // BUCKET_MS)
    assert reserve.item(per_second=1).keys[1] == bucket == end.item().keys[1]
    with pytest.raises(InvalidRequestError):
        checked_id(UUID("019aa3c0-0000-4000-8000-000000000001"))


@pytest.mark.parametrize(("user", "asset", "field"), [("a b", "x", "user"), ("", "x", "user"), ("a", "x y", "asset")])
def test_who_can_not_be_is_no_player(user: str, asset: str, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        player("casino", user, asset)
    assert caught.value.field == field
