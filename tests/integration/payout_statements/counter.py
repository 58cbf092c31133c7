"""What a test of statements needs at hand: payouts at a provider's double, its statement, and what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from core import breaks, clock
from core.breaks import Break
from core.db import transaction
from core.jobs import Job
from domain.payout import service
from domain.payout.reconciling import Outcome
from domain.payout.statement_models import PayoutStatement, PayoutStatementLine
from ledger import posting
from ledger.posting import Journal, Posting
from tests.integration.payout_sending.desk import FEE, SHOP, Clock, Desk
from tests.support.payouts.base import Double

UNITS = 1_000_00
WINDOW = timedelta(days=7)


@dataclass
class Counter(Desk):
    double: Double = None  # type: ignore[assignment]  # `of` gives it

    @classmethod
    def of(cls, patch: pytest.MonkeyPatch, double: Double) -> "Counter":  # type: ignore[override]
        made = cls({double.name: double.provider()}, Clock(), SHOP, double=double)  # type: ignore[dict-item]
        patch.setattr(clock, "now", made.clock.now)
        made.refresh()
        return made

    # --- payouts ------------------------------------------------------------------------------------------------------

    def out(self, units: int = UNITS) -> UUID:
        """One that the provider has."""
        asset = self.double.currency
        self.give(units + FEE, asset=asset)
        return self.sent(units=units, destination=self.double.destinations[0], asset=asset, payout_asset=asset)

    def paid(self, units: int = UNITS) -> UUID:
        """One that was paid, and that we know of."""
        payout_id = self.out(units)
        self.double.pay(self.reference(payout_id))
        self.look(payout_id)
        return payout_id

    def returned(self, units: int = UNITS) -> UUID:
        payout_id = self.paid(units)
        self.double.give_back(self.reference(payout_id))
        self.look(payout_id)
        return payout_id

    # --- statements ---------------------------------------------------------------------------------------------------

    def read(self) -> PayoutStatement:
        """The last days' lines, from the provider."""
        now = clock.now()
        return service.read_statement(self.provider, now - WINDOW, now)

    def match(self) -> Outcome:
        now = clock.now()
        return service.match_statement(self.double.name, now - WINDOW, now)

    def reconcile(self, *, work: bool = True) -> Outcome:
        """As each day: read, matched, looked at, and matched again."""
        self.read()
        outcome = self.match()
        if work and outcome.waiting:
            self.work()
            outcome = self.match()
        return outcome

    def lines(self) -> Sequence[PayoutStatementLine]:
        with transaction() as session:
            found = session.scalars(select(PayoutStatementLine).order_by(PayoutStatementLine.id)).all()
            session.expunge_all()
        return found

    def open(self) -> Sequence[Break]:
        with transaction() as session:
            found = breaks.page(session)
            session.expunge_all()
        return found

    def kinds(self) -> list[str]:
        """Of the breaks that are open."""
        return sorted(each.kind for each in self.open())

    def every(self) -> Sequence[Break]:
        with transaction() as session:
            found = breaks.page(session, state=None)
            session.expunge_all()
        return found

    def found(self) -> dict[UUID | None, set[str]]:
        """The kinds of open breaks by payout; None: of none."""
        made: dict[UUID | None, set[str]] = {}
        for each in self.open():
            payout = each.detail.get("payout")
            made.setdefault(None if payout is None else UUID(payout), set()).add(each.kind)
        return made

    def asked_to_look(self) -> int:
        with transaction() as session:
            found = session.scalars(select(Job.id).where(Job.task == "payout.look", Job.status == "queued")).all()
        return len(found)

    def settle(self, found: Break, into: service.Into = service.Into.SUSPENSE, **given: Any) -> service.Settlement:
        with transaction() as session:
            units = service.plan_settlement(session, found.id, into, **given).units
        with transaction() as session:
            return service.settle_break(
                session, found.id, into, units=units, actor="person:ada", reason="their ticket 17", **given
            )

    # --- books --------------------------------------------------------------------------------------------------------

    @property
    def custody(self) -> str:
        return f"custody:provider:{self.double.name}"

    def book(self, source: str, destination: str, units: int, subject: str | None = None) -> None:
        """A journal that somebody else posts."""
        self.journals += 1
        move = Posting(source=source, destination=destination, asset=self.double.currency, units=units)
        with transaction() as session:
            posting.post(
                session,
                Journal(
                    tenant=SHOP, reference=f"test:{self.journals}", category="test", postings=[move], subject=subject
                ),
            )

    def here(self) -> int:
        """What the books say that the provider has of ours."""
        return self.balance(self.custody, self.double.currency)
