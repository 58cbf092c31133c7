"""Deciding about a payout whose money is held: facts are gathered, rules asked; it goes on, waits, or is refused."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.jobs import NewJob
from domain.payout import limits, pace, rules, screening_queries
from domain.payout.content import content_hash
from domain.payout.errors import PayoutRefusedError
from domain.payout.history import ACTOR, move
from domain.payout.models import Payout
from domain.payout.ports import Ports, Taken
from domain.payout.rules import Facts, Finding, Rule
from domain.payout.settings import payout as settings
from domain.payout.states import Verdict
from ledger import balances
from ledger.balances import Account

log = structlog.stdlib.get_logger(__name__)

SUBMIT = "payout.submit"
PROCEED = "payout.proceed"
LOOK_AGAIN_MIN, LOOK_AGAIN_MAX = timedelta(minutes=1), timedelta(minutes=15)
SCREENING = "screening"
"""Who froze it, in the history: what the screening froze, the screening thaws."""
LIMIT_RULE = "limit"


def screen(session: Session, payout: Payout, ports: Ports, taken: Taken, *, now: datetime) -> None:
    """Decide about a held and counted payout: approved, awaiting approval or frozen. The row is locked, or new.

    Raises PayoutRefusedError, with the payout as it was: it is not taken, or rejected.
    """
    found = examine(session, payout, ports, taken, now=now)
    verdict = rules.verdict_of(found, review_score=settings().review_score, refuse_score=settings().refuse_score)
    if verdict is Verdict.REFUSE:
        raise PayoutRefusedError([each.rule for each in found])
    payout.findings = [each.row() for each in found]
    payout.score = sum(each.score for each in found)
    payout.approvals_needed = rules.approvals_needed(payout.value_cents, verdict, settings().tiers)
    payout.content_hash = content_hash(payout)
    told: dict[str, Any] = {"verdict": str(verdict), "score": payout.score, "findings": payout.findings}
    move(session, payout, "screen", now=now, actor=ACTOR, reason=None, **told)
    if verdict is Verdict.FREEZE:
        move(session, payout, "freeze", now=now, actor=ACTOR, by=SCREENING)
        look_again(session, payout, frozen_at=now, now=now)
    elif payout.approvals_needed:
        payout.approve_until = now + settings().approval_expires
        move(session, payout, "ask", now=now, actor=ACTOR, approvals_needed=payout.approvals_needed)
    else:
        move(session, payout, "approve", now=now, actor=ACTOR)
        submit(session, payout)


def look_again(session: Session, payout: Payout, *, frozen_at: datetime, now: datetime) -> None:
    """Have what the screening froze looked at again: soon at first, then after as long as it has waited."""
    pause = min(max(now - frozen_at, LOOK_AGAIN_MIN), LOOK_AGAIN_MAX)
    jobs.submit(
        session,
        NewJob(
            PROCEED,
            {"payout_id": str(payout.id)},
            tenant=payout.tenant,
            subject=payout.subject,
            correlation_id=payout.correlation_id,
            run_at=now + pause,
        ),
    )


def submit(session: Session, payout: Payout) -> None:
    """The job that sends an approved payout, and the time at which the poll does if that job is dead by then.

    One that is paid by hand needs none.
    """
    if not payout.by_hand:
        payout.next_look_at = clock.now() + pace.SLOWEST
        jobs.submit(
            session,
            NewJob(
                SUBMIT,
                {"payout_id": str(payout.id)},
                tenant=payout.tenant,
                subject=payout.subject,
                correlation_id=payout.correlation_id,
            ),
        )


def refuse_denied(session: Session, payout: Payout) -> None:
    """For one that can't be screened yet, as its destination is not verified. Raises PayoutRefusedError."""
    listed = screening_queries.listed(
        session, tenant=payout.tenant, account=payout.account, destination=payout.destination_fingerprint
    )
    if any(each.list == "deny" for each in listed):
        raise PayoutRefusedError(["denied"])


def examine(session: Session, payout: Payout, ports: Ports, taken: Taken, *, now: datetime) -> list[Finding]:
    """What rules and limits say of it now, the gravest first."""
    cooling = max(1, int(settings().destination_cooling.total_seconds()))
    asked = [
        *rules.built_in(cooling_seconds=cooling, first_by_hand=settings().first_by_hand),
        *_rules(session, payout.tenant),
    ]
    facts = _facts(session, payout, ports, taken, now=now, since=now - max(rule.asks.looks_back for rule in asked))
    found = rules.findings(facts, asked)
    found += [
        Finding(
            rule=f"{LIMIT_RULE}:{near.name}",
            verdict=Verdict.REVIEW,
            score=0,
            reason=f"{near.used} of {near.most} used",
        )
        for near in limits.near(session, payout)
    ]
    return sorted(found, key=lambda each: -rules.GRAVITY.index(each.verdict))


def _rules(session: Session, tenant: str) -> Sequence[Rule]:
    """The enabled rules of everybody, and the tenant's, which stand in place of everybody's of the same name."""
    rows = screening_queries.rules(session, tenant=tenant)
    own = {row.name for row in rows if row.tenant is not None}
    return [
        rules.rule(row.name, row.kind, row.parameters, Verdict(row.verdict), row.score)
        for row in rows
        if row.enabled and (row.tenant is not None or row.name not in own)
    ]


def _facts(session: Session, payout: Payout, ports: Ports, taken: Taken, *, now: datetime, since: datetime) -> Facts:
    """`since`: how far back the rules look at other payouts. Where none does, none is read."""
    tenant, account = payout.tenant, payout.account
    listed = screening_queries.listed(
        session, tenant=tenant, account=account, destination=payout.destination_fingerprint
    )
    owned = balances.account(session, tenant, account)
    return Facts(
        now=now,
        account=account,
        destination=payout.destination_fingerprint,
        asset=payout.asset,
        units=payout.units,
        value_cents=payout.value_cents,
        affiliate=payout.affiliate,
        account_since=min((each.created_at for each in owned), default=None),
        destination_since=taken.verified_at,
        of_account=screening_queries.of_account(session, payout, since=since) if since < now else (),
        to_destination=screening_queries.to_destination(session, payout, since=since) if since < now else (),
        paid_of_account=screening_queries.has_paid(session, tenant=tenant, account=account),
        paid_of_tenant=screening_queries.count_paid(session, tenant=tenant, most=settings().first_by_hand),
        denied=frozenset(each.scope for each in listed if each.list == "deny"),
        allowed=frozenset(each.scope for each in listed if each.list == "allow"),
        unsettled_units=ports.unsettled(session, tenant, account, payout.asset),
        free_units=_free(owned, payout),
        needed_units=payout.held_units,
    )


def is_unsettled(session: Session, payout: Payout, ports: Ports) -> bool:
    """Whether without what deposits that aren't final have credited its account would not have what it takes."""
    unsettled = ports.unsettled(session, payout.tenant, payout.account, payout.asset)
    return _free(balances.account(session, payout.tenant, payout.account), payout) - unsettled < payout.held_units


def _free(owned: Sequence[Account], payout: Payout) -> int:
    """What its account has of its asset that nothing but this payout binds. It is held already."""
    available = next((each.available for each in owned if each.asset == payout.asset), None)
    return (available or 0) + payout.held_units
