"""A script of payments, followed once undisturbed for each kind of chain; tests follow it in a way of their own.

In the end there are the same deposits, books and coverage as through a sound node.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from sqlalchemy import select

from chains import registry
from chains.base import ChainReader
from config.assets import Node
from config.assets import registry as assets
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import Deposit
from domain.deposit.scan_models import ChainCoverage, ChainCursor
from ledger import balances
from tests.conformance.lab import Lab, Payment
from tests.conformance.till import TENANT, UNITS, Till
from tests.support import faulty

KINDS = ("eip155", "bip122", "solana", "tron", "aptos")
READ_TIMEOUT_S = 0.5
PATIENCE_S = 30.0
BOOKED = ("credited", "suspended")


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
            bool(rows) and rows[-1].last_hash == hash_at(lab, rows[-1].last_block),
        )


def _is_phantom(deposit: Deposit) -> bool:
    """Made for a transfer that a liar told of, and overruled: nothing is booked for it, and it expires."""
    return deposit.mode == "unexpected" and deposit.chain_tx is None and deposit.journal_id is None


def _row(deposit: Deposit, labels: dict[str, str]) -> tuple[Any, ...]:
    return (
        labels.get(deposit.chain_tx or ""), deposit.index, deposit.units_received, deposit.state, deposit.reason,
        deposit.account, deposit.mode,
    )  # fmt: skip


def hash_at(lab: Lab, number: int) -> str | None:
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


def comes_to(script: Script, expected: Outcome, work: Callable[[], None]) -> None:
    """With no fault left, it takes only time."""
    ends = time.monotonic() + PATIENCE_S
    while (outcome := script.outcome()) != expected and time.monotonic() < ends:
        work()
        time.sleep(0.02)
    assert outcome == expected
    script.till.close()
