"""How payouts are told: rows for machines, columns and lines for people. The destination is masked in all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from cli import amounts
from cli.output import Column, age, pretty
from core import clock
from domain.payout import service as payouts
from domain.payout.service import Payout, PayoutApproval, PayoutEvent


def _brief(detail: Mapping[str, Any]) -> object:
    """Without what `show` tells elsewhere."""
    return {name: value for name, value in detail.items() if name not in ("seen", "findings")} or ""


def _state(row: Mapping[str, Any]) -> str:
    why = row["failure"] or row["waits_for"]
    return f"{row['state']} ({why})" if why else str(row["state"])


COLUMNS = (
    Column("Payout", "id"),
    Column("State", _state),
    Column("Tenant", "tenant"),
    Column("Account", "account"),
    Column("Amount", "amount", right=True),
    Column("Destination", "destination"),
    Column("Provider", lambda row: "by hand" if row["by_hand"] else row["provider"]),
    Column("Created", "created_at"),
)
WAITING = (
    Column("Payout", "id"),
    Column("Expires in", "expires_in"),
    Column("Approvals", lambda row: f"{row['given']} of {row['approvals_needed']}"),
    Column("Tenant", "tenant"),
    Column("Account", "account"),
    Column("Amount", "amount", right=True),
    Column("Destination", "destination"),
    Column("Asked by", "maker"),
    Column("Because", lambda row: ", ".join(each["rule"] for each in row["findings"]) or "its value", free=True),
)
APPROVALS = (
    Column("At", "at"),
    Column("Revision", "revision", right=True),
    Column("By", "approver"),
    Column("Said", "decision"),
    Column("Because", "reason", free=True),
)
FINDINGS = (
    Column("Rule", "rule"),
    Column("Verdict", "verdict"),
    Column("Score", "score", right=True),
    Column("Reason", "reason", free=True),
)
HISTORY = (
    Column("At", "at"),
    Column("Event", "event"),
    Column("State", "state"),
    Column("By", "actor"),
    Column("Because", "reason", free=True),
    Column("Detail", lambda row: _brief(row["detail"]), free=True),
)


def row(payout: Payout) -> dict[str, Any]:
    known = amounts.scales()
    same = (
        "id", "tenant", "state", "failure", "waits_for", "waits_since", "account", "asset", "payout_asset", "quote_id",
        "beneficiary_id", "destination_kind", "narration", "purpose", "affiliate", "by_hand", "maker", "revision",
        "score", "findings", "approvals_needed", "approve_until", "provider", "provider_ref", "evidence", "batch_id",
        "correlation_id", "created_at", "submitted_at", "ended_at", "updated_at",
    )  # fmt: skip
    units = {name: str(getattr(payout, name)) for name in ("units", "fee_units", "payout_units", "short_units")}
    return {
        **{name: getattr(payout, name) for name in same},
        **units,
        "value_cents": None if payout.value_cents is None else str(payout.value_cents),
        "amount": amounts.amount(payout.units, payout.asset, known) or f"{payout.units} {payout.asset}",
        "fee": amounts.amount(payout.fee_units or None, payout.asset, known),
        "payout_amount": amounts.amount(payout.payout_units, payout.payout_asset, known),
        "destination": payout.destination_masked,
        "seen_hash": payout.content_hash.hex(),
        "metadata": payout.details,
    }


def waiting(session: Session, payout: Payout) -> dict[str, Any]:
    until = payout.approve_until
    return {
        **row(payout),
        "given": payouts.given(session, payout),
        "expires_in": None if until is None else age(until - clock.now()),
    }


def approval(said: PayoutApproval) -> dict[str, Any]:
    same = {name: getattr(said, name) for name in ("revision", "approver", "decision", "reason")}
    return {**same, "at": said.decided_at, "seen_hash": said.seen_hash.hex()}


def event(event: PayoutEvent) -> dict[str, Any]:
    same = {name: getattr(event, name) for name in ("at", "event", "actor", "reason", "detail")}
    return {**same, "state": event.state_after}


def shown(row: Mapping[str, Any], said: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """What an approver must see, under the names that `details` prints."""
    given = sum(each["decision"] == "approve" and each["revision"] == row["revision"] for each in said)
    decided = row["state"] not in ("held", "awaiting_approval")
    return {
        "Payout": row["id"],
        "Tenant": row["tenant"],
        "State": _state(row),
        "Account": row["account"],
        "Amount": row["amount"],
        "Fee": row["fee"],
        "Gets": row["payout_amount"] if row["asset"] != row["payout_asset"] else "",
        "Destination": f"{row['destination']} ({row['destination_kind']})",
        "Beneficiary": row["beneficiary_id"],
        "Narration": row["narration"],
        "Purpose": row["purpose"],
        "Affiliate": "yes" if row["affiliate"] else "",
        "Metadata": row["metadata"] or "",
        "Asked by": row["maker"],
        "Revision": row["revision"],
        "Value": "" if row["value_cents"] is None else f"{row['value_cents']} cents",
        "Approvals": "" if decided and not given else f"{given} of {row['approvals_needed']}",
        "Approve until": row["approve_until"],
        "By hand": "yes" if row["by_hand"] else "",
        "Provider": row["provider"],
        "Reference": row["provider_ref"],
        "Batch": row["batch_id"],
        "Evidence": evidence(row["evidence"]) if row["evidence"] else "",
        "Seen": row["seen_hash"],
    }


def evidence(found: Mapping[str, Any]) -> str:
    return pretty({name: value for name, value in found.items() if value is not None})
