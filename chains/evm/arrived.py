"""What really arrived of tokens that may keep a part of each transfer (`fee_on_transfer`), by balances.

The log of such a token may tell what was sent. So the units of its transfers are bounded by what the recipient's
balance grew by within the block. Several transfers to one recipient in one block share that growth by what they
logged, rounded down: never more in sum. What the recipient paid out in the same block lessens the growth, so the units
are a lower bound then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chains.base import Transfer
from chains.errors import MalformedError
from chains.evm import parse
from chains.evm.rpc import EvmEndpoint
from chains.http import Call
from core.errors import TransientError

BALANCE_OF = "0x70a08231"
"""First four bytes of keccak256 of balanceOf(address)."""

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
        topics = [parse.TRANSFER_TOPIC, None, [_word(recipient)]]
        calls.append(("eth_getLogs", [{"blockHash": block, "address": contract, "topics": topics}]))
        balance = {"to": contract, "data": BALANCE_OF + _word(recipient)[2:]}
        # By hash (EIP-1898): a number might mean the block of another fork by now.
        calls += [("eth_call", [balance, {"blockHash": at}]) for at in (parents[block], block)]
    answers = iter(endpoint.ask(calls))
    units: dict[tuple[str, int], int] = {}
    for place in places:
        logs, before, after = next(answers), parse.quantity(next(answers)), parse.quantity(next(answers))
        units |= _apportioned(place, _logged(place, logs, assets), max(0, after - before))
    made = []
    for transfer in found:
        if (transfer.block_hash, transfer.contract, transfer.recipient) not in places:
            made.append(transfer)
        elif (transfer.block_hash, transfer.index) in units:
            made.append(replace(transfer, units=units[transfer.block_hash, transfer.index]))
        else:
            raise TransientError(f"the chain changed under the reading of balances ({endpoint.label})")
    return made


def _logged(place: Place, logs: object, assets: parse.Assets) -> list[Transfer]:
    """All that the token logged for the recipient in the block, of whatever transaction."""
    found = [each for log in parse.listing(logs) if (each := parse.token_transfer(log, assets)) is not None]
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


def _word(address: str) -> str:
    """An address as 32 bytes: a topic, or an argument."""
    return "0x" + address.lower().removeprefix("0x").rjust(64, "0")
