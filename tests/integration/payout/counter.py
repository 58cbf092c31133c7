"""What a test of people and payouts needs at hand: payouts that wait for them, and their money."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import clock
from core.db import transaction
from core.errors import TallyrailError
from core.ids import new_id
from core.jobs import Job
from domain.payout import history, holding, queries
from domain.payout.content import content_hash
from domain.payout.models import Payout, PayoutApproval
from domain.payout.ports import Ports
from domain.payout.settings import payout as settings
from domain.payout.states import PayoutState
from ledger import balances, holds, posting
from ledger.assets import sync_assets
from ledger.holds import HoldState
from ledger.posting import Journal, Posting
from providers.payout.base import Destination, Kind

SHOP, USER, EUR = "shop", "user:42:available", "iso4217:EUR"
APP, ADA, BOB, EVE = "key:app", "person:ada", "person:bob", "person:eve"


IBAN = Destination(kind=Kind.IBAN, number="DE89370400440532013000", holder="Ada Obi")


@dataclass(frozen=True)
class Entry:
    """A destination of the book, as payouts take it over."""

    id: UUID
    account: str = USER
    kind: Kind = Kind.IBAN
    chain: str | None = None
    destination: Destination = IBAN
    fingerprint: str = "a" * 64
    masked: str = "DE****3000"
    state: str = "verified"
    failure: str | None = None
    verified_at: datetime | None = None


@dataclass(frozen=True)
class Par:
    """A unit is a cent."""

    numerator: int = 1
    denominator: int = 1


class Book:
    def __init__(self, account: str = USER) -> None:
        self.account = account
        self.entries: dict[UUID, Entry] = {}

    def take(self, _session: object, beneficiary_id: UUID, /, *, tenant: str) -> Entry:
        assert tenant == SHOP
        return self.entries.get(beneficiary_id) or Entry(
            beneficiary_id, self.account, verified_at=clock.now() - timedelta(days=9)
        )

    def ports(self) -> Ports:
        def never(*_args: Any, **_named: Any) -> Any:
            raise AssertionError("an edit needs none of these")

        return Ports(take=self.take, add=never, consume=never, rate=lambda *_: Par(), unsettled=lambda *_: 0)


def fund(units: int, account: str = USER) -> None:
    move = Posting(source="custody:bank:EUR", destination=account, asset=EUR, units=units)
    with transaction() as session:
        sync_assets(session)
        posting.post(session, Journal(tenant=SHOP, reference=f"test:{new_id()}", category="test", postings=(move,)))


def row(units: int = 1_000, **given: Any) -> Payout:
    payout_id, now = new_id(), clock.now()
    fields: dict[str, Any] = {
        "id": payout_id,
        "tenant": SHOP,
        "account": USER,
        "asset": EUR,
        "units": units,
        "fee_units": 10,
        "payout_asset": EUR,
        "payout_units": units,
        "beneficiary_id": new_id(),
        "destination_kind": "iban",
        "destination_sealed": b"sealed",
        "destination_sealed_by": "test",
        "destination_fingerprint": "f" * 64,
        "destination_masked": "DE****3000",
        "narration": "winnings",
        "purpose": "withdrawal",
        "affiliate": False,
        "by_hand": False,
        "details": {},
        "maker": APP,
        "created_at": now,
        "revision": 1,
        "score": 0,
        "findings": [],
        "approvals_needed": 1,
        "content_hash": b"",
        "state": PayoutState.CREATED,
        "settled": 0,
        "short_units": 0,
        "provider_fee_units": 0,
        "looks": 0,
        "updated_at": now,
    }
    return Payout(**fields | given)


def screen(session: Session, payout: Payout) -> None:
    """As the screening leaves it: approved, or with people."""
    now = clock.now()
    history.move(session, payout, "screen", now=now, actor=history.ACTOR)
    payout.content_hash = content_hash(payout)
    if payout.approvals_needed:
        payout.approve_until = now + settings().approval_expires
    history.move(session, payout, "ask" if payout.approvals_needed else "approve", now=now, actor=history.ACTOR)


def waiting(needed: int = 1, units: int = 1_000, **given: Any) -> UUID:
    """A payout that waits for so many people; with 0, an approved one. Its money is held."""
    with transaction() as session:
        payout = row(units, approvals_needed=needed, **given)
        session.add(payout)
        session.flush()
        holding.place(session, payout)
        history.move(session, payout, "hold", now=clock.now(), actor=payout.maker)
        screen(session, payout)
        return payout.id


def read(payout_id: UUID) -> Payout:
    with transaction() as session:
        found = queries.get(session, payout_id)
        assert found is not None
        session.expunge(found)
    return found


def seen(payout_id: UUID) -> bytes:
    return read(payout_id).content_hash


def said(payout_id: UUID) -> list[tuple[int, str, str]]:
    with transaction() as session:
        found: Sequence[PayoutApproval] = queries.approvals(session, payout_id)
        return [(each.revision, each.approver, each.decision) for each in found]


def events(payout_id: UUID) -> list[tuple[str, str, str]]:
    with transaction() as session:
        return [(each.event, each.state_after, each.actor) for each in queries.history(session, payout_id)]


def asked_for(payout_id: UUID) -> list[str]:
    """The jobs that were asked for it."""
    with transaction() as session:
        query = select(Job.task).where(Job.subject == f"payout:{payout_id}").order_by(Job.id)
        return list(session.scalars(query))


def held(account: str = USER) -> tuple[int, int]:
    """What is bound in the account, and what can still leave it."""
    with transaction() as session:
        [found] = [each for each in balances.account(session, SHOP, account) if each.asset == EUR]
        return found.held, found.balance - found.held


def hold_state(payout_id: UUID) -> HoldState | None:
    hold_id = read(payout_id).hold_id
    if hold_id is None:
        return None
    with transaction() as session:
        return holds.hold(session, SHOP, hold_id).state


def at_once(*steps: Callable[[Session], object]) -> list[object]:
    """Each in a transaction and a thread of its own, begun together: what it gave, or how it was refused."""
    start = Barrier(len(steps))

    def run(step: Callable[[Session], object]) -> object:
        try:
            with transaction() as session:
                session.connection()
                start.wait(10)
                return step(session)
        except TallyrailError as error:
            return error

    with ThreadPoolExecutor(len(steps)) as threads:
        return [future.result(timeout=30) for future in [threads.submit(run, step) for step in steps]]


def after(hours: int) -> Callable[[], Any]:
    later = clock.now() + timedelta(hours=hours)
    return lambda: later
