"""Taking payouts in: what is asked for, checked, its money bound, counted and screened, in one transaction.

What can't be is refused with nothing left behind: no row, no hold, no count, no quote used up.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from config.assets import registry
from core import clock
from core.errors import ConflictError, InvalidRequestError
from core.ids import new_id
from core.money import UNITS_MAX
from domain.payout import holding, limits, providers, refusals, screening, sealing, sending_queries
from domain.payout.content import content_hash
from domain.payout.errors import PayoutRefusedError
from domain.payout.history import ACTOR, move, note
from domain.payout.models import Payout, PayoutProviderRow
from domain.payout.ports import NewDestination, Ports, Quote, Taken
from domain.payout.settings import payout as settings
from domain.payout.states import PAYOUT
from ledger import chart
from providers.payout.base import Kind

log = structlog.stdlib.get_logger(__name__)

METADATA_BYTES_MAX = 8_192
NARRATION_LENGTH_MAX = 100
BPS = 10_000
_NARRATION = re.compile(rf"[ -~]{{0,{NARRATION_LENGTH_MAX}}}")
_PURPOSE = re.compile(r"[a-z][a-z0-9_]{0,39}")
FIAT = "iso4217:"
IBAN_CURRENCIES = frozenset(
    FIAT + code for code in ("EUR", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "RON", "AED", "SAR", "TRY")
)
CURRENCIES: Mapping[Kind, frozenset[str]] = {
    Kind.BANK_NG: frozenset({"iso4217:NGN"}),
    Kind.BANK_IN: frozenset({"iso4217:INR"}),
    Kind.UPI: frozenset({"iso4217:INR"}),
    Kind.IBAN: IBAN_CURRENCIES,
}
"""What arrives at each kind. A connected account takes any currency, an address the assets of its chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayout:
    tenant: str
    account: str
    """The owner's, which pays: `user:42:available`."""
    asset: str
    units: int
    """Without our fee, which comes on top."""
    beneficiary_id: UUID | None = None
    destination: NewDestination | None = field(default=None, repr=False)
    """One of the two."""
    payout_asset: str | None = None
    """None: the asset itself, or what the quote says."""
    quote_id: UUID | None = None
    narration: str = ""
    purpose: str = "payout"
    affiliate: bool = False
    by_hand: bool = False
    provider: str | None = None
    """None: we choose."""
    details: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None
    maker: str
    batch_id: UUID | None = None
    batch_item: int | None = None


def create(session: Session, new: NewPayout, ports: Ports) -> Payout:
    """One payout, whose money is held: screened, or waiting for its destination to be verified.

    Raises, with nothing written: InvalidRequestError (also LimitExceededError, TooManyRequestsError and
    PayoutRefusedError), NotFoundError, ConflictError (InsufficientFundsError, AccountFrozenError, AccountClosedError,
    a quote that is over, a destination that is refused).
    """
    try:
        check(new)
        with session.begin_nested():
            return _create(session, new, ports, now=clock.now())
    except ConflictError as error:
        refusals.count(error)
        raise
    except InvalidRequestError as error:
        refusals.count(error)
        rules = error.rules if isinstance(error, PayoutRefusedError) else None
        # Without what it says: that may be of the destination.
        log.info("payout.refused", account=new.account, tenant=new.tenant, error=type(error).__name__, rules=rules)
        raise


def _create(session: Session, new: NewPayout, ports: Ports, *, now: datetime) -> Payout:
    payout_id = new_id()
    taken = _taken(session, new, ports)
    quote = _quote(session, new, f"payout:{payout_id}", ports)
    payout = _row(new, payout_id, taken, quote, now=now)
    _need_wallet(session, payout)
    payout.value_cents = limits.value_of(session, new.asset, new.units, ports)
    payout.content_hash = content_hash(payout)
    need_able(session, payout)
    holding.place(session, payout)  # from here on others of the account wait
    session.add(payout)
    session.flush()
    note(session, payout, "create", now=now, actor=new.maker)
    move(session, payout, "hold", now=now, actor=ACTOR, units=str(payout.held_units), asset=payout.asset)
    limits.count(session, payout, now=now)
    limits.check_pace(session, payout, now=now)
    if is_verified(taken):
        screening.screen(session, payout, ports, taken, now=now)
    else:
        screening.refuse_denied(session, payout)
        note(session, payout, "wait", now=now, actor=ACTOR, beneficiary_id=str(taken.id))
    session.flush()
    return payout


def _row(new: NewPayout, payout_id: UUID, taken: Taken, quote: Quote | None, *, now: datetime) -> Payout:
    payout_asset = new.payout_asset or (quote.to_asset if quote else new.asset)
    need_fit(taken, payout_asset)
    sealed = sealing.seal(payout_id, taken.destination)
    return Payout(
        id=payout_id,
        tenant=new.tenant,
        account=new.account,
        asset=new.asset,
        units=new.units,
        fee_units=fee_of(new.asset, new.units),
        payout_asset=payout_asset,
        payout_units=quote.units_out if quote else new.units,
        quote_id=quote.id if quote else None,
        quote_spread=quote.spread_units if quote else None,
        quote_remainder=quote.remainder if quote else None,
        quote_rate=str(quote.rate) if quote else None,
        quote_rate_at=quote.rate_at if quote else None,
        beneficiary_id=taken.id,
        destination_kind=str(taken.kind),
        destination_sealed=sealed.content,
        destination_sealed_by=sealed.by,
        destination_fingerprint=taken.fingerprint,
        destination_masked=taken.masked,
        narration=new.narration,
        purpose=new.purpose,
        affiliate=new.affiliate,
        by_hand=new.by_hand,
        provider_wanted=new.provider,
        details=dict(new.details),
        correlation_id=new.correlation_id,
        maker=new.maker,
        batch_id=new.batch_id,
        batch_item=new.batch_item,
        created_at=now,
        updated_at=now,
        state=PAYOUT.initial,
        revision=1,
        score=0,
        findings=[],
        approvals_needed=0,
    )


# --- checks, which edits ask for, too --------------------------------------------------------------------------------


def check(new: NewPayout) -> None:
    """What can be said of it without the database. Raises InvalidRequestError."""
    need_payable(new.account)
    known = registry().assets
    for name, asset in (("asset", new.asset), ("payout_asset", new.payout_asset)):
        if asset is not None and asset not in known:
            raise InvalidRequestError(f"the asset {asset[:200]!r} is not known", field=name)
    if (new.beneficiary_id is None) == (new.destination is None):
        raise InvalidRequestError("give either beneficiary_id or destination", field="beneficiary_id")
    if new.quote_id is None and new.payout_asset not in (None, new.asset):
        raise InvalidRequestError("another asset is paid out by a quote only", field="quote_id")
    if new.by_hand and new.provider is not None:
        raise InvalidRequestError("what a person pays by hand has no provider", field="provider")
    check_units(new.asset, new.units)
    check_words(new.narration, new.purpose)
    if len(json.dumps(dict(new.details))) > METADATA_BYTES_MAX:
        raise InvalidRequestError(f"metadata has at most {METADATA_BYTES_MAX} bytes", field="metadata")


def need_payable(account: str) -> None:
    """Raises InvalidRequestError for an account that is no owner's, or that could give more than it has."""
    if chart.rule(chart.owner_account(account)).floor is None:
        raise InvalidRequestError(f"{account} may be below zero, so nothing is paid out of it", field="account")


def check_units(asset: str, units: int) -> None:
    if not 0 < units <= UNITS_MAX or units + fee_of(asset, units) > UNITS_MAX:
        raise InvalidRequestError("units must be above zero and, with the fee, have at most 38 digits", field="units")


def check_words(narration: str, purpose: str) -> None:
    if not _NARRATION.fullmatch(narration):
        raise InvalidRequestError(
            f"a narration has at most {NARRATION_LENGTH_MAX} printable ASCII characters", field="narration"
        )
    if not _PURPOSE.fullmatch(purpose):
        raise InvalidRequestError("a purpose is a word like payout or prize: a-z, 0-9 and _", field="purpose")


def fee_of(asset: str, units: int) -> int:
    """What we take on top, in units of the asset: PAYOUT_FEES. The part is rounded down."""
    fixed, bps = settings().fees.get(asset, (0, 0))
    return fixed + units * bps // BPS


def _need_wallet(session: Session, payout: Payout) -> None:
    """Raises InvalidRequestError if it goes to an address and we have no wallet on that chain."""
    if payout.destination_kind != Kind.CHAIN or payout.by_hand:
        return
    if not any(
        providers.takes(row, currency=payout.payout_asset, units=payout.payout_units, kind=payout.destination_kind)
        for row in sending_queries.providers(session)
    ):
        raise InvalidRequestError(
            "no provider here sends to such an address: ask for it by_hand, and a person sends it", field="by_hand"
        )


def need_fit(taken: Taken, payout_asset: str) -> None:
    """Raises InvalidRequestError if the asset can't arrive at a destination of this kind."""
    if taken.kind is Kind.CHAIN:
        fits = taken.chain is not None and payout_asset.startswith(f"{taken.chain}/")
    elif taken.kind is Kind.STRIPE:
        fits = payout_asset.startswith(FIAT)
    else:
        fits = payout_asset in CURRENCIES[taken.kind]
    if not fits:
        where = f"an address of {taken.chain}" if taken.kind is Kind.CHAIN else f"a destination {taken.kind}"
        raise InvalidRequestError(f"{payout_asset} can't be sent to {where}", field="payout_asset")


def need_usable(taken: Taken, account: str) -> None:
    """Raises InvalidRequestError (of another account's book) or ConflictError (refused)."""
    if taken.account != account:
        raise InvalidRequestError(f"the beneficiary {taken.id} is not in the book of {account}", field="beneficiary_id")
    if taken.state == "refused":
        raise ConflictError(f"the beneficiary {taken.id} is refused: {taken.failure}", field="beneficiary_id")


def need_able(session: Session, payout: Payout) -> None:
    """The provider that the app chose must be able to. Ours to choose: it waits until one can.

    Raises InvalidRequestError.
    """
    if payout.provider_wanted is None:
        return
    named = session.get(PayoutProviderRow, payout.provider_wanted)
    if named is None:
        raise InvalidRequestError(f"there is no payout provider {payout.provider_wanted[:64]!r}", field="provider")
    if not providers.takes(
        named, currency=payout.payout_asset, units=payout.payout_units, kind=payout.destination_kind
    ):
        raise InvalidRequestError(
            f"{named.name} does not send this amount of {payout.payout_asset} to a destination"
            f" {payout.destination_kind}",
            field="provider",
        )


def is_verified(taken: Taken) -> bool:
    """Whether it can be paid. Else its holder is being asked for, and the payout waits."""
    return taken.state == "verified"


def _taken(session: Session, new: NewPayout, ports: Ports) -> Taken:
    beneficiary_id = new.beneficiary_id
    if new.destination is not None:
        beneficiary_id = ports.add(session, new.destination, tenant=new.tenant, account=new.account, actor=new.maker)
    if beneficiary_id is None:
        raise InvalidRequestError("give either beneficiary_id or destination", field="beneficiary_id")
    taken = ports.take(session, beneficiary_id, tenant=new.tenant)
    need_usable(taken, new.account)
    return taken


def _quote(session: Session, new: NewPayout, subject: str, ports: Ports) -> Quote | None:
    if new.quote_id is None:
        return None
    quote = ports.consume(session, new.quote_id, new.tenant, subject)
    wanted = new.payout_asset or quote.to_asset
    if (quote.from_asset, quote.units_in, quote.to_asset) != (new.asset, new.units, wanted):
        raise ConflictError(f"the quote {quote.id} is of another amount or other assets", field="quote_id")
    if quote.units_out < 1:
        raise ConflictError(f"the quote {quote.id} leaves nothing to pay out", field="quote_id")
    return quote
