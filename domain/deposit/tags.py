"""Tags: how payments to one shared address are told apart (memo, reference).

An owner keeps the tag that he was given on an address for ever. Anybody can write anybody's tag, or several: whose a
payment is, is known only if its tags name one owner.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from chains.base import ChainTx, Transfer
from chains.formats import new_tag, parse_tag
from core.errors import InvalidRequestError, InvariantError
from domain.deposit import queries
from domain.deposit.models import Deposit

ATTEMPTS = 3
"""Twice in a row a new tag was somebody's already: then they are not random."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose payments are to be known by a tag: on this address, or on the one that the tenant uses."""

    tenant: str
    chain: str
    account: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Tagged:
    address: str
    tag: str


# --- allotting ---------------------------------------------------------------------------------------------------

_CHOICE = text(
    """
    SELECT asked.place, own.address AS own_address, own.tag AS own_tag, newest.address
    FROM unnest(cast(:tenants AS text[]), cast(:chains AS text[]), cast(:accounts AS text[]),
                cast(:addresses AS text[])) WITH ORDINALITY AS asked (tenant, chain, account, address, place)
    LEFT JOIN LATERAL (
      SELECT tags.address, tags.tag FROM deposit_tags AS tags
      WHERE tags.tenant = asked.tenant AND tags.chain = asked.chain AND tags.owner_account = asked.account
        AND (asked.address IS NULL OR tags.address = asked.address)
      ORDER BY tags.allotted_at, tags.address LIMIT 1
    ) AS own ON true
    LEFT JOIN LATERAL (
      SELECT known.address FROM deposit_addresses AS known
      WHERE known.tenant = asked.tenant AND known.chain = asked.chain AND known.tagged
        AND (asked.address IS NULL OR known.address = asked.address)
      ORDER BY known.created_at DESC, known.address LIMIT 1
    ) AS newest ON true
    """
)
_GIVE = text(
    """
    INSERT INTO deposit_tags (chain, address, tag, tenant, owner_account)
    SELECT * FROM unnest(cast(:chains AS text[]), cast(:addresses AS text[]), cast(:tags AS text[]),
                         cast(:tenants AS text[]), cast(:accounts AS text[]))
    ON CONFLICT DO NOTHING
    """
)


def allot_tags(session: Session, asked: Sequence[Asked]) -> dict[Asked, Tagged]:
    """The address and tag of each: what the owner has, or a new tag on the address that the tenant registered last.

    Missing is who asks where the tenant has no such tagged address.
    """
    found: dict[Asked, Tagged] = {}
    without = list(dict.fromkeys(asked))
    for attempt in range(ATTEMPTS + 1):
        places = _choices(session, without)
        found |= {each: choice for each, choice in places.items() if isinstance(choice, Tagged)}
        giving = {each: choice for each, choice in places.items() if isinstance(choice, str)}
        if not giving:
            return found
        if attempt < ATTEMPTS:
            _give(session, giving)
        without = list(giving)
    raise InvariantError(f"{ATTEMPTS} new tags in a row were somebody's already on {without[0].chain}")


def _choices(session: Session, asked: Sequence[Asked]) -> dict[Asked, Tagged | str]:
    """What each has, or the address where he is to be given a tag."""
    if not asked:
        return {}
    rows = session.execute(
        _CHOICE,
        {
            "tenants": [each.tenant for each in asked],
            "chains": [each.chain for each in asked],
            "accounts": [each.account for each in asked],
            "addresses": [each.address for each in asked],
        },
    )
    return {
        asked[row.place - 1]: row.address if row.own_tag is None else Tagged(row.own_address, row.own_tag)
        for row in rows
        if row.own_tag is not None or row.address is not None
    }


def _give(session: Session, giving: Mapping[Asked, str]) -> None:
    """A new tag each. Nothing happens where another was quicker, or where the tag is somebody's: it is asked again."""
    # In one order, so that of two at once one waits and none of them for ever.
    those = sorted(giving.items(), key=lambda item: (item[0].chain, item[1], item[0].account))
    session.execute(
        _GIVE,
        {
            "chains": [each.chain for each, _ in those],
            "addresses": [address for _, address in those],
            "tags": [new_tag(each.chain) for each, _ in those],
            "tenants": [each.tenant for each, _ in those],
            "accounts": [each.account for each, _ in those],
        },
    )


# --- reading -----------------------------------------------------------------------------------------------------


def spelled(transfer: Transfer) -> frozenset[str]:
    """The transfer's tags in canonical spelling, without what can be nobody's."""
    return frozenset(tag for written in transfer.tags if (tag := _spelled(transfer.chain, written)) is not None)


def _spelled(chain: str, written: str) -> str | None:
    try:
        return parse_tag(chain, written)
    except InvalidRequestError:
        return None  # anybody may write anything


def owners(session: Session, chain: str, transfers: Iterable[Transfer]) -> dict[tuple[str, str], str]:
    """Whose the tags of these transfers are, by (address, tag)."""
    return queries.tag_owners(
        session, chain, {(transfer.recipient, tag) for transfer in transfers for tag in spelled(transfer)}
    )


def named(transfer: Transfer, known: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """The owners whom the transfer's tags name, by tag. An owner has one tag on an address."""
    return {tag: known[transfer.recipient, tag] for tag in spelled(transfer) if (transfer.recipient, tag) in known}


def not_for(session: Session, deposit: Deposit, tx: ChainTx) -> frozenset[int]:
    """The indices of the transaction's transfers to the deposit's address that their tags refuse to it.

    A deposit with a tag takes what names its owner and nobody else. A transaction that was named by its hash, which
    anybody can read on the chain, gives what names nobody, or its owner among others.
    """
    there = [transfer for transfer in tx.transfers if transfer.recipient == deposit.address]
    known = owners(session, deposit.chain, there)
    refused = set()
    for transfer in there:
        accounts = set(named(transfer, known).values())
        by_tag = deposit.tag is not None
        if accounts != {deposit.account} if by_tag else accounts and deposit.account not in accounts:
            refused.add(transfer.index)
    return frozenset(refused)
