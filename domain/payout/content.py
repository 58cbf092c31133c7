"""What an approver must have seen, as one hash."""

import hashlib
import json

from domain.payout.models import Payout


def content_hash(payout: Payout) -> bytes:
    """SHA-256 of all that people decide about: what is asked for, and what the screening found of it.

    The destination is in it by its fingerprint. An edit raises the revision, a second screening may find something
    else: either makes another hash, and what was said of the old one counts no more.
    """
    content = [
        "1",
        str(payout.id),
        payout.revision,
        payout.tenant,
        payout.account,
        payout.asset,
        str(payout.units),
        str(payout.fee_units),
        payout.payout_asset,
        str(payout.payout_units),
        None if payout.quote_id is None else str(payout.quote_id),
        str(payout.beneficiary_id),
        payout.destination_kind,
        payout.destination_fingerprint,
        payout.narration,
        payout.purpose,
        payout.affiliate,
        payout.by_hand,
        payout.provider_wanted,
        payout.maker,
        payout.details,
        None if payout.value_cents is None else str(payout.value_cents),
        payout.findings,
        payout.approvals_needed,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).digest()
