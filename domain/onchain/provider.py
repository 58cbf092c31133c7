"""A chain as a payout provider, so that a payout needn't know where it goes. `send` writes a row and calls nobody."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chains import formats
from chains.sending import ChainSender
from config.assets import Asset
from core import clock, jobs
from core.errors import InvalidRequestError, PermanentError
from core.ids import new_id
from core.jobs import NewJob, transaction
from core.money import UNITS_MAX
from domain.onchain import pace, queries
from domain.onchain.models import OnchainTransfer
from domain.onchain.ports import ports
from domain.onchain.states import FAILED, TransferState
from providers.payout.base import (
    Abilities,
    Bank,
    Destination,
    Kind,
    Notice,
    PayoutRequest,
    Range,
    Refusal,
    Remittance,
    RemittanceState,
    Sent,
    Standing,
    StatementLine,
)

log = structlog.stdlib.get_logger(__name__)

SEND = "tx_monitor.send"
PER_SECOND = 100
"""A row each: our own database takes them."""


class OnchainProvider:
    """A `PayoutProvider` whose name is the chain's CAIP-2 id. One reference is one transfer, for ever."""

    def __init__(self, wallet: str, assets: Sequence[Asset], chain: str, sender: Callable[[], ChainSender]) -> None:
        """`wallet`: the address of ours that pays. `sender` is asked for only when one is needed."""
        self._chain = chain
        self._wallet = formats.parse_address(chain, wallet)
        self._sender = sender
        # Of a token that keeps a part to itself less arrives than was promised.
        able = {asset.id: Range(units_min=1, units_max=UNITS_MAX) for asset in assets if not asset.fee_on_transfer}
        self._abilities = Abilities(
            currencies=able,
            kinds=frozenset({Kind.CHAIN}),
            signs_webhooks=False,
            key_window=None,  # the reference is unique in a table of ours
            # Never: whoever finds no row sends again under the same reference, which makes none twice.
            absent_after=None,
            per_second=PER_SECOND,
            statements=False,
            enquires=frozenset(),
        )

    @property
    def name(self) -> str:
        return self._chain

    @property
    def wallet(self) -> str:
        return self._wallet

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, request: PayoutRequest) -> Sent:
        """Write it down, and ask for it to be sent. Asked for once more, it is what was written the first time."""
        try:
            with transaction() as session:
                return self._kept(session, request)
        except IntegrityError:
            with transaction() as session:  # another run wrote it at this moment
                return self._kept(session, request)

    def _kept(self, session: Session, request: PayoutRequest) -> Sent:
        known = queries.by_reference(session, request.reference)
        to = request.destination
        try:
            recipient = formats.parse_address(self._chain, to.number) if to.kind is Kind.CHAIN else None
            tag = formats.parse_tag(self._chain, to.tag) if to.tag is not None else None
        except InvalidRequestError:
            recipient = None
        if known is not None:
            return self._again(known, (request.currency, request.units, recipient, tag if recipient else None))
        if recipient is None or recipient == self._wallet:
            return _refused(Refusal.DESTINATION, f"no address of {self._chain} that can be paid")
        if request.currency not in self._abilities.currencies or not 0 < request.units <= UNITS_MAX:
            return _refused(Refusal.REQUEST, f"nothing that is paid on {self._chain}")
        owner = ports().owner(session, request.reference)
        if owner is None:
            return _refused(Refusal.REQUEST, "nobody knows who asked for it")
        transfer = self._transfer(request, owner=owner, recipient=recipient, tag=tag)
        session.add(transfer)
        queries.ensure_wallet(session, self._chain, self._wallet)
        jobs.submit(session, NewJob(SEND, {"transfer_id": str(transfer.id)}, tenant=owner, subject=transfer.subject))
        session.flush()
        log.info("onchain.planned", transfer_id=str(transfer.id), chain=self._chain, reference=request.reference)
        return Sent(standing=Standing.ACCEPTED, remittance=remittance(transfer))

    def _transfer(self, request: PayoutRequest, *, owner: str, recipient: str, tag: str | None) -> OnchainTransfer:
        now = clock.now()
        return OnchainTransfer(
            id=new_id(),
            reference=request.reference,
            tenant=owner,
            chain=self._chain,
            wallet=self._wallet,
            asset=request.currency,
            recipient=recipient,
            tag=tag,
            units=request.units,
            state=TransferState.PLANNED,
            looks=0,
            next_look_at=now + pace.JOB,
            created_at=now,
            updated_at=now,
        )

    def _again(self, known: OnchainTransfer, asked: tuple[str, int, str | None, str | None]) -> Sent:
        if (known.chain, known.asset, known.units, known.recipient, known.tag) != (self._chain, *asked):
            log.error("onchain.reference_reused", transfer_id=str(known.id), reference=known.reference)
            return Sent(standing=Standing.UNKNOWN, why="the reference is another transfer's")
        return Sent(standing=Standing.ACCEPTED, remittance=remittance(known))

    # --- asking ------------------------------------------------------------------------------------------------------

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:  # noqa: ARG002
        """What its row says. Raises PermanentError if it is there under another name, or on another chain."""
        with transaction() as session:
            known = queries.by_reference(session, reference)
        if known is None:
            return None
        if known.chain != self._chain or provider_ref not in (None, str(known.id)):
            raise PermanentError(f"the reference is that of {known.id} on {known.chain}")
        return remittance(known)

    def balance(self, currency: str) -> int:
        """What the wallet has, less what open transfers will take. Nothing, if no coin is left for the chain's fee."""
        if currency not in self._abilities.currencies:
            raise PermanentError(f"{currency!r} is nothing that is paid on {self._chain}")
        sender = self._sender()
        units = sender.balance(self._wallet, currency)
        coin = units if currency == sender.coin else sender.balance(self._wallet, sender.coin)
        with transaction() as session:
            queries.keep_coin(session, self._chain, self._wallet, coin, at=clock.now())
            taken = queries.bound(session, self._chain, self._wallet)
            wallet = queries.wallet(session, self._chain, self._wallet)
            fee = wallet.fee_units if wallet is not None and wallet.fee_units is not None else 0
        coin_left = coin - taken.units.get(sender.coin, 0) - taken.fees
        if coin_left < max(fee, 1):
            return 0
        return max(coin_left - fee if currency == sender.coin else units - taken.units.get(currency, 0), 0)

    def holder(self, destination: Destination) -> str | None:  # noqa: ARG002
        raise PermanentError("a chain knows nobody's name")

    def banks(self, kind: Kind) -> Sequence[Bank]:  # noqa: ARG002
        return ()

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        raise PermanentError("no chain sends webhooks")

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:  # noqa: ARG002
        raise PermanentError("a chain has no statement: its wallet is compared with the books")


def remittance(transfer: OnchainTransfer) -> Remittance:
    """As whoever asked for it is told. The chain's fee is booked here: it is no part of what was asked for."""
    state = RemittanceState.PENDING
    if transfer.current is TransferState.CONFIRMED:
        state = RemittanceState.PAID
    elif transfer.current in FAILED:
        state = RemittanceState.FAILED
    failed = state is RemittanceState.FAILED
    return Remittance(
        reference=transfer.reference,
        provider_ref=str(transfer.id),
        state=state,
        currency=transfer.asset,
        units=transfer.units,
        refusal=Refusal(transfer.failure) if failed and transfer.failure is not None else None,
        why=transfer.why if failed else None,
    )


def _refused(refusal: Refusal, why: str) -> Sent:
    return Sent(standing=Standing.REJECTED, refusal=refusal, why=why)
