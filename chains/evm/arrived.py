"""What really arrived of tokens that may keep a part of each transfer (`fee_on_transfer`), by balances.

The log of such a token may tell what was sent. So the units of its transfers are bounded by what the recipient's
balance grew by within the block. Several transfers to one recipient in one block share that growth by what they
logged, rounded down: never more in sum. What the recipient paid out in the same block lessens the growth, so the units
are a lower bound then. A token that does not tell its balances shows nothing that arrived, and stops nobody else's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from chains.base import Transfer
from chains.errors import MalformedError, RefusedError
from chains.evm import erc20, parse
from chains.evm.rpc import EvmEndpoint
from chains.fields import listing
from chains.http import Call
from core.errors import TransientError

log = structlog.stdlib.get_logger(__name__)

IDENTITY = "0x" + "4".rjust(40, "0")
"""A contract that every EVM has built in (Yellow Paper, appendix E): it answers with what it is given."""

Place = tuple[str, str, str]
"""Block hash, contract, recipient."""


def measured(
    endpoint: EvmEndpoint, assets: parse.Assets, found: Sequence[Transfer], parents: Mapping[str, str]
) -> list[Transfer]:
    """The transfers, those of `fee_on_transfer` tokens with what arrived. `parents`: hash of each block's parent.

    Raises RefusedError where the node no longer has the state of the blocks: full nodes keep some 128.
    """
    places = list(
        dict.fromkeys(
            (transfer.block_hash, transfer.contract, transfer.recipient)
            for transfer in found
            if transfer.contract is not None and transfer.contract in assets.fee_on_transfer
        )
    )
    if not places:
        return list(found)
    calls: list[Call] = []
    for block, contract, recipient in places:
        topics = [parse.TRANSFER_TOPIC, None, [erc20.word(recipient)]]
        calls.append(("eth_getLogs", [{"blockHash": block, "address": contract, "topics": topics}]))
    units: dict[tuple[str, int], int] = {}
    for place, logs, grew in zip(places, endpoint.ask(calls), _grown(endpoint, places, parents), strict=True):
        units |= _apportioned(place, _logged(place, logs, assets), grew)
    made = []
    for transfer in found:
        if (transfer.block_hash, transfer.contract, transfer.recipient) not in places:
            made.append(transfer)
        elif (transfer.block_hash, transfer.index) in units:
            made.append(replace(transfer, units=units[transfer.block_hash, transfer.index]))
        else:
            raise TransientError(f"the chain changed under the reading of balances ({endpoint.label})")
    return made


def _grown(endpoint: EvmEndpoint, places: Sequence[Place], parents: Mapping[str, str]) -> list[int]:
    """By how much the balance at each place grew within the block; 0 where the token does not tell."""
    calls: list[Call] = []
    for block, contract, recipient in places:
        # By hash (EIP-1898): a number might mean the block of another fork by now.
        calls += [erc20.balance_call(contract, recipient, {"blockHash": at}) for at in (parents[block], block)]
    told = [_balance(endpoint, call, answer) for call, answer in zip(calls, endpoint.try_all(calls), strict=True)]
    made = []
    for place, before, after in zip(places, told[::2], told[1::2], strict=True):
        if before is None or after is None:
            log.error("a token does not tell its balances: its transfers count as nothing", place=place)
        made.append(0 if before is None or after is None else max(0, after - before))
    return made


def _balance(endpoint: EvmEndpoint, call: Call, answer: object) -> int | None:
    """None if the token reverts or answers with no number. Raises RefusedError if it is the node that won't tell."""
    if isinstance(answer, RefusedError):
        (answer,) = endpoint.try_all([call])
    if isinstance(answer, RefusedError):
        # Whose fault is it? A node that has the state of the block can run another contract on it.
        endpoint.ask([("eth_call", [{"to": IDENTITY, "data": "0x"}, call[1][1]])])
        return None
    return erc20.number(answer)


def _logged(place: Place, logs: object, assets: parse.Assets) -> list[Transfer]:
    """All that the token logged for the recipient in the block, of whatever transaction."""
    found = [each for log in listing(logs) if (each := parse.token_transfer(log, assets)) is not None]
    if any((each.block_hash, each.contract, each.recipient) != place for each in found):
        raise MalformedError("a log that was not asked for")
    return found


def _apportioned(place: Place, logged: Sequence[Transfer], grew: int) -> dict[tuple[str, int], int]:
    # Paid to oneself, nothing arrives.
    shares = {each.index: 0 if each.sender == each.recipient else each.units for each in logged}
    total = sum(shares.values())
    if total > grew:
        shares = {index: share * grew // total for index, share in shares.items()}
    return {(place[0], index): share for index, share in shares.items()}
