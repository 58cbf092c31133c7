"""Where each deposit is to be paid: an address that was named, one that is allotted, or one with a tag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from chains import formats
from config.assets import registry
from core.errors import ConflictError, InvalidRequestError
from domain.deposit import addresses, queries
from domain.deposit.addresses import Owner, Route
from domain.deposit.models import Deposit
from domain.deposit.states import DepositState, Mode
from domain.deposit.tags import Asked, allot_tags


@dataclass(slots=True)
class Destination:
    """What was asked for; `address` and `tag` are filled in where they were left to us."""

    tenant: str
    chain: str
    account: str
    route: Route
    by_hash: bool
    """The transaction is named: the address is a shared one."""
    address: str | None
    tag: str | None = None


def resolve(session: Session, asked: Sequence[Destination]) -> dict[int, InvalidRequestError]:
    """Check each address against the tenant's, allot where that is asked for. Returns those that can't be, by their
    place, and why. The number of statements doesn't grow with them.
    """
    refused = _resolve_given(session, asked)
    left = {place: each for place, each in enumerate(asked) if place not in refused}
    return refused | _resolve_own(session, left) | _resolve_tags(session, left)


def payment_uri(deposit: Deposit) -> str | None:
    """What a payer's wallet reads from a QR code. None where the chain has no such form, and where nothing is to be
    paid any more: a code that is scanned later would pay a second time.
    """
    asset = registry().assets.get(deposit.asset)
    if asset is None or deposit.by is not Mode.ADDRESS or deposit.current is not DepositState.WATCHING:
        return None
    return formats.payment_uri(
        deposit.chain,
        deposit.address,
        asset=deposit.asset,
        scale=asset.scale,
        units=deposit.units_expected,
        tag=deposit.tag,
    )


def _resolve_own(session: Session, asked: Mapping[int, Destination]) -> dict[int, InvalidRequestError]:
    wanting = {
        place: Owner(each.tenant, each.chain, each.account)
        for place, each in asked.items()
        if each.address is None and each.route is Route.ADDRESS
    }
    allotted = addresses.allot(session, list(wanting.values()))
    for place, owner in wanting.items():
        asked[place].address = allotted.get(owner)
    return {place: addresses.no_address(owner.chain) for place, owner in wanting.items() if owner not in allotted}


def _resolve_tags(session: Session, asked: Mapping[int, Destination]) -> dict[int, InvalidRequestError]:
    wanting = {
        place: Asked(each.tenant, each.chain, each.account, each.address)
        for place, each in asked.items()
        if each.route is Route.TAG
    }
    given = allot_tags(session, list(wanting.values()))
    for place, each in wanting.items():
        if each in given:
            asked[place].address, asked[place].tag = given[each].address, given[each].tag
    return {place: addresses.no_tagged_address(each.chain) for place, each in wanting.items() if each not in given}


def _resolve_given(session: Session, asked: Sequence[Destination]) -> dict[int, InvalidRequestError]:
    given = {place: (each.chain, each.address) for place, each in enumerate(asked) if each.address is not None}
    known = {(row.chain, row.address): row for row in queries.addresses(session, set(given.values()))}
    refused: dict[int, InvalidRequestError] = {}
    owners: dict[tuple[str, str], str] = {}
    for place, key in given.items():
        row = known.get(key)
        refusal = _refusal(asked[place], row)
        if refusal is not None:
            refused[place] = refusal
        elif row is not None and row.kind == addresses.ALLOTTED and row.owner_account is None:
            owners.setdefault(key, asked[place].account)  # free: the first to name it in a batch gets it
    allotted = addresses.allot_given(session, owners)
    for place, key in given.items():
        if place not in refused and key in owners and (key not in allotted or owners[key] != asked[place].account):
            refused[place] = _taken(asked[place])
    return refused


def _refusal(asked: Destination, row: Any) -> InvalidRequestError | None:
    """Why this address can't be watched for this request, if it can't."""
    address = asked.address
    if row is None or row.tenant != asked.tenant:
        # The same words whether it is nobody's or another tenant's.
        return InvalidRequestError(f"{address} is not a registered address", field="address")
    if row.kind == addresses.ALLOTTED and asked.by_hash:
        return InvalidRequestError(f"{address} is one account's own: leave chain_tx out", field="chain_tx")
    if asked.route is Route.TAG:
        told = InvalidRequestError(f"payments to {address} are not told apart by tag", field="address")
        return None if row.tagged else told
    if row.kind == addresses.SHARED and not asked.by_hash:
        either = " or ask for the route tag" if row.tagged else ""
        return InvalidRequestError(f"{address} is shared: name the transaction by its hash{either}", field="chain_tx")
    return None if row.owner_account in (None, asked.account) else _taken(asked)


def _taken(asked: Destination) -> ConflictError:
    return ConflictError(f"{asked.address} belongs to another account", field="address")
