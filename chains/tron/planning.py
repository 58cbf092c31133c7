"""The terms of a payment on Tron: what the network asks for now, and whether it would take the payment at all."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chains.base import Block
from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, whole
from chains.sending import Order, OrderRefusedError, Terms
from chains.tron import parse
from chains.tron.formats import raw_address
from chains.tron.payments import (
    ACTIVATION_SUN,
    BYTE_SUN,
    FEE_LIMIT_MAX,
    MEMO_SUN,
    TRANSFER_FUNCTION,
    Plan,
    fee_max,
    token_of,
    transfer_parameter,
    word,
)
from chains.tron.rpc import TronEndpoint

LIFE_MS = 300_000
"""From the solid block that it names, which is a minute old: some four minutes to get into a block."""
ENERGY_TIMES = (5, 2)
"""The limit by what the trial took: an account that was emptied meanwhile takes twice as much, and a contract in demand
a fifth more every six hours. Too small a limit is a payment that fails, and costs all of it."""
ENERGY_MAX = 10_000_000
_WORD = 64
_PRICES = {
    "getTransactionFee": BYTE_SUN,
    "getMemoFee": MEMO_SUN,
}
_ACTIVATION = ("getCreateAccountFee", "getCreateNewAccountFeeInSystemContract")


def planned(endpoint: TronEndpoint, order: Order) -> Terms:
    """Raises OrderRefusedError if the payment would fail as things stand."""
    solid = parse.block(endpoint.solid_head())
    energy_price = _energy_price(endpoint.parameters())
    payer, recipient = endpoint.account(order.wallet), endpoint.account(order.to)
    token, limit = token_of(order), None
    if token is None:
        if recipient is not None and recipient.get("type") == "Contract":
            raise OrderRefusedError("destination", f"{order.to} is a contract, which takes no TRX like that")
    else:
        if (held := token_units(endpoint, token, order.wallet)) < order.units:
            raise OrderRefusedError("funds", f"{order.wallet} has {held} of {order.units} units of the token")
        limit = _energy(endpoint, order, token) * energy_price
        if limit > FEE_LIMIT_MAX:
            raise OrderRefusedError("order", f"the call of {token} may cost {limit} sun, more than the network takes")
    plan = Plan(block=solid.number, block_hash=solid.hash, expires_ms=milliseconds(solid) + LIFE_MS, fee_limit=limit)
    most = fee_max(order, plan)
    needed, has = most + (order.units if token is None else 0), coins(payer)
    if has < needed:
        raise OrderRefusedError("funds", f"it takes {needed} sun, and {order.wallet} has {has}")
    return Terms(inputs=(), ends=plan.expires_ms, fee_max=most, fields=plan.fields())


def milliseconds(block: Block) -> int:
    """Its time, since 1970."""
    return (block.time - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def coins(account: Json | None) -> int:
    return whole(account.get("balance", 0)) if account is not None else 0


def token_units(endpoint: TronEndpoint, token: str, owner: str) -> int:
    answer = endpoint.tried(owner, token, "balanceOf(address)", word(raw_address("", owner)))
    results = listing(answer.get("constant_result"))
    if not _succeeded(answer) or len(results) != 1 or not isinstance(results[0], str) or len(results[0]) != _WORD:
        raise MalformedError(f"{token} does not tell a balance")
    return int(results[0], 16)


def _energy(endpoint: TronEndpoint, order: Order, token: str) -> int:
    """That the call may take, once the node has tried it."""
    answer = endpoint.tried(order.wallet, token, TRANSFER_FUNCTION, transfer_parameter(order))
    if not _succeeded(answer):
        raise OrderRefusedError("destination", f"{token} refuses the transfer")
    # What it answers is not read: USDT succeeds and answers 0. Its logs tell, where the node has them.
    if "logs" in answer and not _moves(order, token, listing(answer["logs"])):
        raise OrderRefusedError("order", f"{token} would not move {order.units} units from one to the other")
    times, by = ENERGY_TIMES
    return -(-whole(answer.get("energy_used"), ENERGY_MAX) * times // by)


def _moves(order: Order, token: str, logs: Sequence[object]) -> bool:
    """Whether there is the one transfer that was asked for, and no other of this token, such as one of a fee."""
    ours = (raw_address("", order.wallet), raw_address("", order.to), order.units)
    moved = [
        parse.token_move(log)
        for log in map(mapping, logs)
        if parse.address_of(log.get("address")) == raw_address("", token)
    ]
    return [move for move in moved if move is not None] == [ours]


def _succeeded(answer: Json) -> bool:
    """A call that was undone says so in its `ret`, or with a message, beside a `result` that is true all the same."""
    said = mapping(answer.get("result"))
    rets = [mapping(ret) for ret in listing(mapping(answer.get("transaction", {})).get("ret", []))]
    done = said.get("result") is True and "code" not in said and "message" not in said
    return done and not any(ret.get("ret") == "FAILED" for ret in rets)


def _energy_price(asked: dict[str, int]) -> int:
    """Sun for a unit of energy. Raises OrderRefusedError if the network has raised what all is counted with."""
    if "getEnergyFee" not in asked or not asked.keys() >= {*_PRICES, *_ACTIVATION}:
        raise MalformedError("not all that the network asks for is told")
    raised = [name for name, known in _PRICES.items() if asked[name] > known]
    if raised or sum(asked[name] for name in _ACTIVATION) > ACTIVATION_SUN:
        raise OrderRefusedError("order", f"the network asks for more than is ever paid: {raised or _ACTIVATION}")
    return asked["getEnergyFee"]
