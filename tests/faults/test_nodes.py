"""Whole deposits through nodes that misbehave: in the end the same deposits, books and coverage as through a sound one.

A script of payments is followed once undisturbed for each kind of chain; each test follows the same script in a way of
its own and is compared with that. `make test` takes a few of the faults, `make faults` each with each.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import select, text, update

from chains import registry
from chains.base import ChainReader
from config.assets import Node
from config.assets import registry as assets
from core import clock
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import Deposit
from domain.deposit.scan_models import ChainCoverage, ChainCursor
from ledger import balances
from local.bitcoin_chain import RegtestChain
from local.http_server import Answer, Asked
from local.postgres import Postgres
from tests.conformance.conftest import opened
from tests.conformance.lab import Lab, Payment
from tests.conformance.test_deposits import TENANT, UNITS, Till
from tests.conftest import fresh_database
from tests.support import faulty, faulty_nodes
from tests.support.faulty import Fault, Forward

KINDS = ("eip155", "bip122", "solana", "tron", "aptos")
READ_TIMEOUT_S = 0.5
PATIENCE_S = 30.0
BOOKED = ("credited", "suspended")


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


# --- the script ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What is the same whenever the script was followed, and on whatever chain of the kind."""

    deposits: list[tuple[Any, ...]]
    books: dict[tuple[str, str], int]
    covered: list[tuple[int, int]]
    """Blocks that were scanned, counted from where the script began; what lies before is left out."""
    last_is_true: bool
    """The last block of the coverage has the hash that the node tells."""


@dataclass
class Script:
    """Payments by address and by hash, in several blocks: some as asked for, some not."""

    till: Till
    lab: Lab
    base: int = 0
    paid: dict[str, str] = field(default_factory=dict)
    """Label -> transaction."""

    def steps(self) -> Iterator[str]:
        """After each step it is time to look."""
        till, lab = self.till, self.lab
        self.base = sound(lab).head().latest.number
        one = till.by_address("1", units_expected=UNITS)
        two = till.by_address("2", asset=lab.token)
        yield "asked"
        self._pay("first", Payment(one.address, UNITS))
        lab.mine()
        yield "first paid"
        till.by_hash(self._pay("by hash", Payment(till.shared, UNITS + 1)), "3", units_expected=UNITS + 1)
        yield "waits"
        lab.mine()
        yield "by hash paid"
        self._pay("token", Payment(two.address, 3 * UNITS, lab.token))
        lab.mine(2)
        self._pay("again", Payment(one.address, UNITS + 3))
        lab.mine()
        yield "in three blocks"
        till.by_hash(self._pay("not to us", Payment(lab.new_address(), UNITS)), "1")
        till.by_hash(self._pay("short", Payment(till.shared, UNITS - 7)), "2", units_expected=UNITS)
        till.by_hash(lab.missing, "3")
        lab.mine()
        yield "odd ones"
        lab.mine(lab.final_after + 1)
        yield "deep"

    def _pay(self, label: str, payment: Payment) -> str:
        self.paid[label] = self.lab.pay(payment)
        return self.paid[label]

    def rescan(self) -> None:
        """What a person does who has learned that a node lied."""
        with transaction() as session:
            last = session.scalars(select(ChainCursor.next_block)).one() or 0
            asked = service.request_rescan(
                session, self.lab.chain, first=self.base, last=last - 1, actor="ann", reason="a node lied"
            )
        service.rescan(self.till.reader, asked.id, 0)

    def outcome(self) -> Outcome:
        till, lab = self.till, self.lab
        labels = {chain_tx: label for label, chain_tx in self.paid.items()}
        accounts = [f"user:{user}:available" for user in ("1", "2", "3")]
        with transaction() as session:
            books = {
                (account, kind): balances.balance(session, TENANT, account, asset)
                for account in [*accounts, f"custody:{lab.chain}", "suspense:deposits"]
                for kind, asset in (("coin", lab.coin), ("token", lab.token))
            }
            rows = session.scalars(select(ChainCoverage).order_by(ChainCoverage.first_block)).all()
            assert service.gaps(session, lab.chain) == []
        covered: list[tuple[int, int]] = []
        for row in rows:
            first, last = max(row.first_block - self.base, 0), row.last_block - self.base
            if last < 0:
                continue
            if covered and covered[-1][1] == first - 1:
                first = covered.pop()[0]
            covered.append((first, last))
        return Outcome(
            sorted((_row(deposit, labels) for deposit in till.all() if not _is_phantom(deposit)), key=repr),
            {(account.replace(lab.chain, ""), kind): units for (account, kind), units in books.items()},
            covered,
            bool(rows) and rows[-1].last_hash == _hash_at(lab, rows[-1].last_block),
        )


def _is_phantom(deposit: Deposit) -> bool:
    """Made for a transfer that a liar told of, and overruled: nothing is booked for it, and it expires."""
    return deposit.mode == "unexpected" and deposit.chain_tx is None and deposit.journal_id is None


def _row(deposit: Deposit, labels: dict[str, str]) -> tuple[Any, ...]:
    return (
        labels.get(deposit.chain_tx or ""), deposit.index, deposit.units_received, deposit.state, deposit.reason,
        deposit.account, deposit.mode,
    )  # fmt: skip


def _hash_at(lab: Lab, number: int) -> str | None:
    block = sound(lab).blocks([number]).get(number)
    return None if block is None else block.hash


def reader_of(lab: Lab, urls: list[str], *, read_timeout: float = 20.0) -> ChainReader:
    module, _, name = registry.READERS[lab.chain.partition(":")[0]].partition(":")
    chain = assets().chains[lab.chain].model_copy(update={"nodes": tuple(Node(url=url) for url in urls)})
    made: ChainReader = getattr(import_module(module), name)(
        chain, assets().of_chain(lab.chain), connect_timeout=5.0, read_timeout=read_timeout
    )
    return made


def sound(lab: Lab) -> ChainReader:
    return registry.get(lab.chain)


def second(lab: Lab, stack: ExitStack) -> str:
    """A sound node under the name of another host. It is slow, so that the bad one is asked first."""
    good = stack.enter_context(faulty.faulty(lab.urls()[0]))
    good.fault = faulty.slow(0.03)
    return good.url.replace("127.0.0.1", "localhost")


_EXPECTED: dict[str, Outcome] = {}


@pytest.fixture
def expected(lab: Lab, database_url: str, postgres: Postgres, template: str) -> Outcome:
    """What an undisturbed run comes to. Once for each kind of chain."""
    if lab.chain not in _EXPECTED:
        with fresh_database(postgres, template):
            script = Script(Till(lab, sound(lab)), lab)
            for _ in script.steps():
                script.till.work()
            script.till.work()
            script.till.close()
            _EXPECTED[lab.chain] = outcome = script.outcome()
            states = {row[0]: (row[3], row[4]) for row in outcome.deposits}
            assert states == {
                "first": ("credited", None),
                "by hash": ("credited", None),
                "token": ("credited", None),
                "again": ("suspended", "unexpected"),
                "not to us": ("rejected", "wrong_recipient"),
                "short": ("suspended", "underpaid"),
                None: ("watching", None),
            }
            assert len(outcome.covered) == 1 and outcome.covered[0][0] == 0 and outcome.last_is_true
    return _EXPECTED[lab.chain]


def comes_to(script: Script, expected: Outcome, work: Callable[[], None]) -> None:
    """With no fault left, it takes only time."""
    ends = time.monotonic() + PATIENCE_S
    while (outcome := script.outcome()) != expected and time.monotonic() < ends:
        work()
        time.sleep(0.02)
    assert outcome == expected
    script.till.close()


# --- nodes that fail, lag or stand still -----------------------------------------------------------------------------

Make = Callable[[Lab, ExitStack], Fault]
"""Called when the fault begins."""


def _always(fault: Fault) -> Make:
    return lambda _lab, _stack: fault


def _as_of(lab: Lab, stack: ExitStack, behind: int | None) -> Fault:
    """As of so many blocks ago, for ever the same (None) or going on."""
    kind, url = lab.chain.partition(":")[0], lab.urls()[0]
    if kind == "tron":
        return _elsewhere(stack.enter_context(faulty_nodes.stale_tron(lab._node.chain)))  # type: ignore[attr-defined]
    if kind == "aptos":
        return _elsewhere(stack.enter_context(faulty_nodes.stale_aptos(lab._node)))  # type: ignore[attr-defined]
    now = sound(lab).head().latest.number

    def height() -> int:
        return now if behind is None else max(sound(lab).head().latest.number - behind, 0)

    if kind == "eip155":
        return faulty.seeing(faulty_nodes.EvmAsOf(height))
    if kind == "solana":
        return faulty.seeing(faulty_nodes.SolanaAsOf(height))
    dev = stack.enter_context(RegtestChain(url))
    return faulty.seeing(
        faulty_nodes.BitcoinAsOf(
            height,
            hash_of=lambda number: str(dev.rpc("getblockhash", number)),
            height_of=dev.height_of,
            height_of_block=lambda hash_: int(dev.rpc("getblockheader", hash_, True)["height"]),
        )
    )


def _elsewhere(url: str) -> Fault:
    """Another node answers, on another port: one that has stood still."""
    port = urlsplit(url).port

    def fault(asked: Asked, _forward: Forward) -> Answer:
        got = httpx.request(asked.method, f"http://127.0.0.1:{port}{asked.path}", content=asked.body, trust_env=False)
        return Answer(got.status_code, got.content, {"Content-Type": "application/json"})

    return fault


FAULTS: dict[str, Make] = {
    "dies": _always(faulty.dies),
    "hangs up": _always(faulty.hangs_up),
    "truncates": _always(faulty.truncates),
    "garbage": _always(faulty.garbage),
    "html": _always(faulty.html),
    "other json": _always(faulty.other_json),
    "500": _always(faulty.saying(500)),
    "429": _always(faulty.saying(429)),
    "429 with a wish": _always(faulty.saying(429, retry_after=1)),
    "hangs": _always(faulty.hanging(READ_TIMEOUT_S * 2)),
    "lags": lambda lab, stack: _as_of(lab, stack, 2),
    "stands still": lambda lab, stack: _as_of(lab, stack, None),
    "now this, now that": _always(
        faulty_nodes.either(faulty.dies, faulty.html, faulty.saying(500), faulty.truncates, faulty.saying(404))
    ),
}
WAYS = ("alone", "first of two")
TIMES = ("for a while", "now and then")

QUICK = {
    ("eip155", "dies", "alone", "now and then"),
    ("eip155", "lags", "first of two", "now and then"),
    ("eip155", "429 with a wish", "alone", "for a while"),
    ("bip122", "now this, now that", "alone", "now and then"),
    ("bip122", "stands still", "alone", "for a while"),
    ("solana", "truncates", "alone", "now and then"),
    ("tron", "html", "first of two", "for a while"),
    ("aptos", "500", "alone", "now and then"),
}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.faults)
    for case in product(KINDS, FAULTS, WAYS, TIMES)
]


@pytest.mark.parametrize(("lab", "fault", "way", "when"), CASES, indirect=["lab"])
def test_a_node_that_fails_or_lags_costs_time_and_no_deposit(
    lab: Lab, expected: Outcome, fault: str, way: str, when: str
) -> None:
    with ExitStack() as stack:
        bad = stack.enter_context(faulty.faulty(lab.urls()[0]))
        urls = [bad.url] if way == "alone" else [bad.url, second(lab, stack)]
        reader = reader_of(lab, urls, read_timeout=READ_TIMEOUT_S)
        script = Script(Till(lab, reader), lab)
        bad.every = 1 if when == "for a while" else 3
        for number, _ in enumerate(script.steps()):
            if number == 1:
                bad.fault = FAULTS[fault](lab, stack)
            elif number == 5 and when == "for a while":
                bad.fault = None
            script.till.work()
        bad.fault = None
        assert bad.wronged > 0, "the fault never came to be"
        comes_to(script, expected, script.till.work)


# --- nodes that lie --------------------------------------------------------------------------------------------------


def _another_hash(lab: Lab, script: Script) -> Fault | None:
    """Of the block with the first payment, once it can be read. Its start stays: on some chains it tells the number."""
    true = _hash_at(lab, script.base + 1)
    if true is None:
        return None
    return faulty.respelling({true: true[:-6] + true[-6:][::-1]})


def _another_amount(lab: Lab, _script: Script) -> Fault:
    """A tenth more, in each of the ways in which a node may tell it."""
    told: dict[str, str] = {}
    for units in (UNITS, UNITS + 1, 3 * UNITS):
        more = units + UNITS // 10
        told |= {f'"{units:#x}"': f'"{more:#x}"', f"{units:064x}": f"{more:064x}", f'"{units}"': f'"{more}"'}
        told[units.to_bytes(8, "little").hex()] = more.to_bytes(8, "little").hex()
    return faulty.respelling(told)


def _hides_payments(lab: Lab, script: Script) -> Fault:
    """Of the EVM nodes one that says nothing of what was paid; of the others one that calls it unknown."""
    return faulty.seeing(faulty_nodes.Without(script.paid))


LIES: dict[str, Callable[[Lab, Script], Fault | None]] = {
    "another hash": _another_hash,
    "another amount": _another_amount,
    "hides payments": _hides_payments,
}
QUICK_LIES = {("eip155", lie) for lie in LIES}
LYING = [
    pytest.param(*case, marks=() if case in QUICK_LIES else pytest.mark.faults)
    for case in [*product(("eip155", "bip122"), LIES), *product(("solana", "tron", "aptos"), list(LIES)[:2])]
]


@contextmanager
def witnesses_wanted(lab: Lab) -> Iterator[None]:
    """Every deposit is large enough to need two endpoints that tell it alike."""
    known = assets().assets
    before = {asset: known[asset] for asset in {lab.coin, lab.token}}
    known.update({asset: kept.model_copy(update={"quorum_units": 1}) for asset, kept in before.items()})
    try:
        yield
    finally:
        known.update(before)


@pytest.mark.parametrize(("lab", "lie"), LYING, indirect=["lab"])
def test_what_a_lying_node_says_is_not_booked_without_a_witness(lab: Lab, expected: Outcome, lie: str) -> None:
    """The liar comes first, and a sound node of another host second."""
    with ExitStack() as stack:
        stack.enter_context(witnesses_wanted(lab))
        bad = stack.enter_context(faulty.faulty(lab.urls()[0]))
        script = Script(Till(lab, reader_of(lab, [bad.url, second(lab, stack)])), lab)
        for number, _ in enumerate(script.steps()):
            if number > 0 and bad.fault is None:
                bad.fault = LIES[lie](lab, script)
            script.till.work()
        for _ in range(3):
            script.till.work()
        if lab.chain.startswith("eip155"):  # elsewhere what is signed and hashed gives most lies away
            assert script.outcome() != expected, "it made no difference"
        told = [row for row in script.outcome().deposits if row[3] in BOOKED]
        assert [row for row in told if row not in expected.deposits] == [], "booked on the liar's word"
        assert bad.wronged > 0
        bad.fault = None
        for _ in range(2):  # the money that was hidden from the scan is found by whom a person sends
            script.till.work()
        if lie == "hides payments":
            script.rescan()
        comes_to(script, expected, script.till.work)


# --- two scanners, and one that is killed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lab",
    [pytest.param(kind, marks=() if kind == "eip155" else pytest.mark.faults) for kind in KINDS],
    indirect=True,
)
def test_two_that_follow_one_chain_at_once_find_each_payment_once(lab: Lab, expected: Outcome) -> None:
    script = Script(Till(lab, sound(lab)), lab)
    over = threading.Event()
    failures: list[BaseException] = []
    rounds = [0, 0]

    def follow(place: int) -> None:
        reader = reader_of(lab, lab.urls())
        try:
            while not over.is_set():
                script.till.work(reader)
                rounds[place] += 1
        except BaseException as error:  # noqa: BLE001  # it is the test's
            failures.append(error)

    threads = [threading.Thread(target=follow, args=(place,)) for place in range(len(rounds))]
    for thread in threads:
        thread.start()
    try:
        for _ in script.steps():
            begun = list(rounds)
            ends = time.monotonic() + PATIENCE_S
            while not failures and any(now - then < 2 for now, then in zip(rounds, begun, strict=True)):
                assert time.monotonic() < ends
                time.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    comes_to(script, expected, script.till.work)


@pytest.mark.parametrize("lab", ["eip155"], indirect=True)
def test_a_poll_that_waits_for_the_scan_holds_no_deposit_that_the_scan_wants(lab: Lab, database_url: str) -> None:
    """Both lock the cursor first. The other way round each waited for the other, and one was ended (deadlock)."""
    till = Till(lab, sound(lab))
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)))
    till.work()
    with transaction() as session:
        session.execute(update(Deposit).values(next_poll_at=clock.now()))
    with transaction() as session:
        session.execute(select(ChainCursor).with_for_update())
        polling = threading.Thread(target=service.poll, args=(till.reader,))
        polling.start()
        while not session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            assert polling.is_alive()
            time.sleep(0.01)
        session.execute(text("SET LOCAL lock_timeout = '5s'"))
        session.execute(select(Deposit.id).where(Deposit.id == deposit.id).with_for_update())
    polling.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lab", "stride"),
    [
        pytest.param(kind, stride, marks=() if (kind, stride) == ("eip155", 15) else pytest.mark.faults)
        for kind, stride in product(KINDS, (15, 1))
    ],
    indirect=["lab"],
)
def test_one_killed_at_each_step_of_a_round_loses_nothing(lab: Lab, expected: Outcome, stride: int) -> None:
    """Between the reading and the commit too: tests/support/doomed.py. All is left to one round that catches up."""
    script = Script(Till(lab, sound(lab)), lab)
    for _ in script.steps():
        pass
    command = [sys.executable, "-m", "tests.support.doomed", lab.chain, str(stride)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.splitlines()[-1]) >= 3
    comes_to(script, expected, script.till.work)
