"""What a transfer does to the books: nothing but the chain's fee. What it moves is booked by whoever asked for it."""

from dataclasses import replace

from sqlalchemy.orm import Session

from core import jobs
from domain.onchain.models import OnchainTransfer, OnchainVersion
from ledger import chart, posting
from ledger.posting import Journal, Posting


def cost(transfer: OnchainTransfer, version: OnchainVersion, coin: str) -> Journal:
    """house:payout_fees <- custody:<chain>. Pure: the same for the same, so booked once however often it is posted."""
    return Journal(
        tenant=transfer.tenant,
        reference=f"{transfer.subject}:cost:{version.chain_tx}",
        category="onchain.cost",
        postings=[
            Posting(
                source=chart.payout_fees(),
                destination=chart.payout_custody(transfer.chain),
                asset=coin,
                units=version.cost_units or 0,
            )
        ],
        subject=transfer.subject,
        metadata={"chain_tx": version.chain_tx, "reference": transfer.reference, "state": transfer.state},
    )


def book_cost(session: Session, transfer: OnchainTransfer, version: OnchainVersion, coin: str, units: int) -> None:
    """What a version cost that is in a final block, whatever became of it. Only the first time."""
    if version.cost_units is not None:
        return
    version.cost_units = units
    if not units:
        return
    job = jobs.current.get()
    journal = cost(transfer, version, coin)
    version.cost_journal_id = posting.post(session, replace(journal, job_id=job.id if job else None)).id
