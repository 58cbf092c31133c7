"""What each event of a deposit does to the books. Pure: from a row to a journal, without a clock.

credit    custody -> owner             what arrived within the tolerance
suspend   custody -> suspense          what arrived otherwise
release   suspense -> owner            a person decided
undo      owner, owed -> where it came from     the block is gone; what was spent becomes a debt
"""

from collections.abc import Sequence
from uuid import UUID

from domain.deposit.models import Deposit
from ledger import chart
from ledger.posting import Journal, Posting


def credit(deposit: Deposit, *, recovered: int) -> Journal:
    """`recovered` of it pays off the debt that this deposit's own reversal left."""
    return _journal(deposit, "credit", _to_owner(deposit, chart.custody(deposit.chain), recovered))


def suspend(deposit: Deposit) -> Journal:
    custody, suspense = chart.custody(deposit.chain), chart.deposit_suspense()
    return _journal(deposit, "suspend", [_move(deposit, custody, suspense, _units(deposit))])


def release(deposit: Deposit, *, recovered: int) -> Journal:
    """Once in an incarnation: after it the deposit is credited."""
    return _journal(deposit, "release", _to_owner(deposit, chart.deposit_suspense(), recovered), in_the_block=False)


def undo_owner(deposit: Deposit, *, taken: int) -> Journal:
    """Take the money from its owner: `taken` of it, which is left; the rest is what the owner now owes."""
    units = _units(deposit)
    into = chart.custody(deposit.chain) if deposit.release_journal_id is None else chart.deposit_suspense()
    undone = deposit.release_journal_id or deposit.journal_id
    return _journal(
        deposit,
        "undo",
        [
            _move(deposit, deposit.account, into, taken),
            _move(deposit, chart.owed_by(deposit.account), into, units - taken),
        ],
        in_the_block=False,
        undone=undone,
        # Only an exact mirror is the reversal of a journal; with a debt in it, it is a journal of its own.
        reverses=undone if taken == units and not deposit.units_recovered else None,
    )


def undo_suspense(deposit: Deposit) -> Journal:
    custody, suspense = chart.custody(deposit.chain), chart.deposit_suspense()
    return _journal(
        deposit,
        "undo-suspend",
        [_move(deposit, suspense, custody, _units(deposit))],
        in_the_block=False,
        undone=deposit.journal_id,
        reverses=deposit.journal_id,
    )


def _to_owner(deposit: Deposit, source: str, recovered: int) -> list[Posting]:
    return [
        _move(deposit, source, chart.owed_by(deposit.account), recovered),
        _move(deposit, source, deposit.account, _units(deposit) - recovered),
    ]


def _units(deposit: Deposit) -> int:
    if deposit.units_received is None:
        raise ValueError(f"{deposit.subject} has received nothing that could be booked")
    return deposit.units_received


def _move(deposit: Deposit, source: str, destination: str, units: int) -> Posting:
    return Posting(source=source, destination=destination, asset=deposit.asset, units=units)


def _journal(
    deposit: Deposit,
    event: str,
    postings: Sequence[Posting],
    *,
    in_the_block: bool = True,
    undone: UUID | None = None,
    reverses: UUID | None = None,
) -> Journal:
    metadata = {"chain_tx": deposit.chain_tx, "index": deposit.index, "block": deposit.block_hash}
    return Journal(
        tenant=deposit.tenant,
        reference=f"{deposit.subject}:{event}:{deposit.incarnation}",
        category=f"deposit.{event}",
        postings=[posting for posting in postings if posting.units],
        subject=deposit.subject,
        correlation_id=deposit.correlation_id,
        effective_at=deposit.block_time if in_the_block else None,
        metadata=metadata if undone is None else metadata | {"undoes": str(undone)},
        reverses=reverses,
    )
