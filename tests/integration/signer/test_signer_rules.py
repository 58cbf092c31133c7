"""Whatever is asked in whatever order, what was signed can't pay twice or pass a limit."""

import hashlib
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.sending import Order, Terms
from signer.base import Signed, UnfitError
from signer.errors import BootError, ContradictionError, RefusedError
from signer.journal import Journal
from signer.policy import AssetLimits, WalletPolicy
from signer.signing import Desk, LateError, Wallet
from tests.conftest import ROOT, quick_folder

COINS, TIMED = "bip122:000000000019d6689c085ae165831e93", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
"""A chain with inputs, and one on which versions end by time."""
EACH_MAX, DAY_MAX, FEE_MAX, FEE_DAY_MAX = 60, 100, 5, 8
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Toy:
    """Takes any inputs. Its bytes differ each time, so that only a memory can answer with the same."""

    def __init__(self) -> None:
        self.built = 0

    def address(self, chain: str, secret: bytes) -> str:
        return "ours"

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        self.built += 1
        chain_tx = hashlib.sha256(f"{self.built} {order} {terms}".encode()).hexdigest()
        fee = int(terms.fields["fee"])
        return Signed(chain_tx=chain_tx, raw=chain_tx, fee_max=fee, conflicts=frozenset(terms.inputs), ends=terms.ends)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def limits(chain: str) -> WalletPolicy:
    assets = {f"{chain}/{name}": AssetLimits(each_max=str(EACH_MAX), day_max=str(DAY_MAX)) for name in ("a", "b")}  # type: ignore[arg-type]
    return WalletPolicy(chain=chain, key="k", fee_max=str(FEE_MAX), fee_day_max=str(FEE_DAY_MAX), assets=assets)  # type: ignore[arg-type]


def desk_on(path: Path, clock: Clock) -> Desk:
    toy = Toy()
    wallets = {chain: Wallet("ours", limits(chain), toy, b"") for chain in (COINS, TIMED)}
    return Desk(wallets, Journal(path, now=clock))


@dataclass(frozen=True)
class Asked:
    order: Order
    number: int
    terms: Terms


REFERENCES = 6


def ordered(reference: int, odd: int) -> Order:
    """Nearly always with the same content under the same reference."""
    chain = TIMED if reference % 3 == 2 else COINS
    return Order(
        reference=f"order-{reference}",
        chain=chain,
        wallet="ours" if odd != 1 else "theirs",
        asset=f"{chain}/{'c' if odd == 2 else 'a'}",
        to="somebody",
        units={3: EACH_MAX + 1, 4: 7}.get(odd, 20 + reference * 8),
    )


@st.composite
def asking(draw: st.DrawFn) -> Asked:
    reference = draw(st.integers(0, REFERENCES - 1))
    order = ordered(reference, draw(st.integers(0, 20)))
    inputs: set[int] = set()
    if order.chain == COINS:  # mostly one of its own
        foreign = draw(st.lists(st.integers(0, REFERENCES + 3), max_size=1))
        inputs = {*([reference] if draw(st.integers(0, 2)) or not foreign else []), *foreign}
    fee = draw(st.sampled_from([1, 2, 3, FEE_MAX, FEE_MAX, FEE_MAX + 1]))
    terms = Terms(
        inputs=tuple(f"in:{each}" for each in sorted(inputs)),
        ends=None if inputs else draw(st.sampled_from([7, 7, 7, 8])),
        fee_max=fee,
        cancels=draw(st.integers(0, 4)) == 0,
        fields={"fee": str(fee)},
    )
    return Asked(order, draw(st.integers(1, 4)), terms)


@dataclass
class Story:
    """What was signed, with the day, in its order."""

    signed: list[tuple[Asked, Signed, str]]
    codes: Counter[str]

    def by_reference(self) -> dict[str, list[Asked]]:
        found = defaultdict(list)
        for asked, _, _ in self.signed:
            found[asked.order.reference].append(asked)
        return found


def told(steps: list[tuple[Asked, int]], path: Path) -> Story:
    """Each step at its hour. Then everything that was signed is asked again, of another process so to say."""
    clock, story = Clock(), Story([], Counter())
    desk = desk_on(path, clock)
    for asked, hours in steps:
        clock.now += timedelta(hours=hours)
        try:
            signed, new = desk.sign(asked.order, asked.number, asked.terms)
        except (RefusedError, ContradictionError) as error:
            story.codes[error.code] += 1
        else:
            story.codes["signed" if new else "again"] += 1
            if new:
                story.signed.append((asked, signed, clock.now.date().isoformat()))
    desk.journal.close()
    again = desk_on(path, clock)
    for asked, signed, _ in story.signed:
        assert again.sign(asked.order, asked.number, asked.terms) == (signed, False)
    again.journal.close()
    return story


def check(story: Story, order_of_mining: list[int]) -> None:
    for reference, versions in story.by_reference().items():
        assert len({asked.order for asked in versions}) == 1
        assert len({asked.number for asked in versions}) == len(versions)
        for one, other in combinations(versions, 2):
            assert set(one.terms.inputs) & set(other.terms.inputs), f"two versions of {reference} can both be taken"
        assert all(
            any(before.number < asked.number for before in versions) for asked in versions if asked.terms.cancels
        )
    owners = {
        (asked.order.chain, used, asked.order.reference) for asked, _, _ in story.signed for used in asked.terms.inputs
    }
    assert len({(chain, used) for chain, used, _ in owners}) == len(owners)
    check_limits(story)
    # What a chain would make of all of it at once, in any order.
    spent: set[str] = set()
    mined: Counter[str] = Counter()
    for place in sorted(range(len(story.signed)), key=lambda each: order_of_mining[each % len(order_of_mining)]):
        asked = story.signed[place][0]
        if not spent & set(asked.terms.inputs):
            spent |= set(asked.terms.inputs)
            mined[asked.order.reference] += 1
    assert all(count == 1 for count in mined.values())


def check_limits(story: Story) -> None:
    units: Counter[tuple[str, str]] = Counter()
    fees: Counter[tuple[str, str]] = Counter()
    dearest: dict[str, int] = {}
    for asked, signed, day in story.signed:
        order = asked.order
        if order.reference not in dearest:
            assert order.units <= EACH_MAX and order.wallet == "ours" and not asked.terms.cancels
            units[order.asset, day] += order.units
        assert signed.fee_max <= FEE_MAX
        before = dearest.get(order.reference, 0)
        dearest[order.reference] = max(before, signed.fee_max)
        fees[order.chain, day] += dearest[order.reference] - before
    assert all(each <= DAY_MAX for each in units.values())
    assert all(each <= FEE_DAY_MAX for each in fees.values())


def test_no_requests_make_an_order_payable_twice_or_pass_a_limit(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    with quick_folder(tmp_path) as folder:

        @settings(max_examples=60, deadline=None, derandomize=True, database=None)
        @given(
            st.lists(st.tuples(asking(), st.sampled_from([0] * 12 + [14])), min_size=15, max_size=25),
            st.lists(st.integers(0, 100), min_size=1, max_size=25),
        )
        def campaign(steps: list[tuple[Asked, int]], order_of_mining: list[int]) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                path = Path(own) / "journal.db"
                Journal.create(path)
                story = told(steps, path)
            check(story, order_of_mining)
            seen.update(story.codes)

        campaign()
    policy = {"wallet", "asset", "each_max", "day_max", "fee_max", "fee_day_max"}
    journal = {"order_changed", "terms_changed", "input_taken", "no_shared_input", "one_version", "nothing_to_cancel"}
    assert seen.keys() == policy | journal | {"signed"} | ({"again"} & seen.keys()), seen


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    Journal.create(tmp_path / "journal.db")
    made = desk_on(tmp_path / "journal.db", Clock())
    yield made
    made.journal.close()


ORDER = Order(reference="r", chain=COINS, wallet="ours", asset=f"{COINS}/a", to="somebody", units=60)
TERMS = Terms(inputs=("in:0",), fee_max=3, fields={"fee": "3"})


def test_an_order_counts_once_and_its_fees_by_the_dearest_version(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.sign(ORDER, 1, TERMS)
    desk.sign(ORDER, 2, replace(TERMS, fee_max=5, fields={"fee": "5"}))
    desk.sign(ORDER, 3, replace(TERMS, fee_max=4, cancels=True, fields={"fee": "4"}))
    other, its = replace(ORDER, reference="s", units=40), replace(TERMS, inputs=("in:1",))
    desk.sign(other, 1, its)  # 60 + 40 is the day's limit, and so is 5 + 3
    with pytest.raises(RefusedError) as caught:
        desk.sign(replace(ORDER, reference="t", units=1), 1, replace(TERMS, inputs=("in:2",)))
    assert caught.value.code == "day_max"
    raised = replace(its, fee_max=4, fields={"fee": "4"})
    with pytest.raises(RefusedError) as caught:
        desk.sign(other, 2, raised)
    assert caught.value.code == "fee_day_max"
    monkeypatch.setattr(desk.journal, "_now", lambda: NOON + timedelta(hours=12))
    assert desk.sign(other, 2, raised)[1]  # what is stuck can be raised on the next day


def test_a_version_shares_an_input_with_each_before_it_not_only_with_the_last(desk: Desk) -> None:
    for number, inputs in ((1, ("in:0",)), (2, ("in:0", "in:1"))):
        desk.sign(ORDER, number, replace(TERMS, inputs=inputs))
    with pytest.raises(ContradictionError) as caught:
        desk.sign(ORDER, 3, replace(TERMS, inputs=("in:1",)))
    assert caught.value.code == "no_shared_input"
    # An input stays the order's, also if no version that needs it can be taken any more.
    with pytest.raises(ContradictionError) as caught:
        desk.sign(replace(ORDER, reference="s", units=1), 1, replace(TERMS, inputs=("in:1",)))
    assert caught.value.code == "input_taken"


def test_the_page_s_questions_of_a_journal_tell_how_far_a_day_is_used_up(desk: Desk) -> None:
    page = (ROOT / "docs/signer.md").read_text()
    units, fees, versions = re.findall(r'sqlite3 -readonly journal.db "(.*)"', page)
    for number, fee in ((1, 3), (2, 5)):
        desk.sign(ORDER, number, replace(TERMS, fee_max=fee, fields={"fee": str(fee)}))
    desk.sign(replace(ORDER, reference="s", units=30), 1, replace(TERMS, inputs=("in:1",)))

    def asked(question: str) -> list[tuple[Any, ...]]:
        question = question.replace("date('now')", f"'{NOON.date()}'").replace("...", "r")
        return [row[:-1] for row in desk.journal._rows.execute(question)]

    assert asked(units) == [(COINS, "ours", f"{COINS}/a", "90")]
    assert asked(fees) == [(COINS, "ours", "8")]
    assert [(number, fee, cancels) for number, _, fee, cancels in asked(versions)] == [(1, "3", 0), (2, "5", 0)]


def test_what_is_built_otherwise_than_asked_for_is_not_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Signed(chain_tx="id", raw="00", fee_max=3, conflicts=frozenset({"in:0"}))
    toy = desk.wallets[COINS].signer
    for wrong in (
        replace(honest, conflicts=frozenset({"in:0", "in:1"})),
        replace(honest, conflicts=frozenset()),
        replace(honest, fee_max=4),
        replace(honest, ends=9),
    ):
        monkeypatch.setattr(toy, "build", lambda *_, answer=wrong: answer)
        with pytest.raises(UnfitError):
            desk.sign(ORDER, 1, TERMS)
    monkeypatch.setattr(toy, "build", lambda *_: replace(honest, conflicts=frozenset()))
    with pytest.raises(UnfitError):  # as it never ends
        desk.sign(ORDER, 1, replace(TERMS, inputs=()))
    monkeypatch.setattr(toy, "build", lambda *_: honest)
    assert desk.sign(ORDER, 1, TERMS) == (honest, True)


def test_nothing_new_is_signed_for_a_request_that_has_waited_for_too_long(desk: Desk) -> None:
    with pytest.raises(LateError):
        desk.sign(ORDER, 1, TERMS, until=10.0, clock=lambda: 10.1)
    signed, new = desk.sign(ORDER, 1, TERMS, until=10.0, clock=lambda: 9.9)
    assert new
    assert desk.sign(ORDER, 1, TERMS, until=10.0, clock=lambda: 10.1) == (signed, False)


DOOMED = """
import os, sys
from pathlib import Path
from chains.sending import Order, Terms
from signer import journal
from signer.base import Signed
add = journal._add_version
journal._add_version = lambda *given: (add(*given), os._exit(9))
order = Order(reference="r", chain=sys.argv[2], wallet="ours", asset=sys.argv[2] + "/a", to="somebody", units=60)
signed = Signed(chain_tx="id", raw="00", fee_max=3, conflicts=frozenset({"in:0"}))
limits = journal.DayLimits(units_max=100, fee_max=8)
journal.Journal(Path(sys.argv[1])).once(order, 1, Terms(inputs=("in:0",), fee_max=3), lambda: (signed, limits))
"""


def test_what_was_written_and_not_committed_when_it_was_killed_binds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal.create(path)
    assert subprocess.run([sys.executable, "-c", DOOMED, path, COINS], cwd=ROOT, check=False).returncode == 9
    desk = desk_on(path, Clock())
    # Another order of the same input, which would not fit into the day beside it.
    assert desk.sign(replace(ORDER, reference="other"), 1, TERMS)[1]
    assert desk.sign(replace(ORDER, units=40), 1, replace(TERMS, inputs=("in:1",)))[1]
    desk.journal.close()


def test_a_journal_is_never_made_by_starting_nor_replaced_nor_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(BootError, match="there is no journal"):
        Journal(path)
    Journal.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BootError):
        Journal.create(path)
    desk = desk_on(path, Clock())
    desk.sign(ORDER, 1, TERMS)
    for statement in ("UPDATE versions SET raw = ''", "DELETE FROM inputs", "UPDATE orders SET units = '0'"):
        with pytest.raises(Exception, match="only ever added"):
            desk.journal._rows.execute(statement)
    mode = [desk.journal._rows.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert mode == ["wal", 2]  # 2: FULL
    desk.journal.close()
    (tmp_path / "foreign.db").write_bytes(b"")
    with pytest.raises(BootError, match="none that this version knows"):
        Journal(tmp_path / "foreign.db")
    path.write_bytes(b"rubbish" * 4_000)
    with pytest.raises(BootError):
        Journal(path)
