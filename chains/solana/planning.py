"""The terms of a payment on Solana: what the chain asks for now, and whether it would take the payment at all."""

import base64
from collections.abc import Sequence
from dataclasses import replace

from solders.signature import Signature
from solders.transaction import VersionedTransaction

from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, whole
from chains.http import HttpEndpoint
from chains.sending import Order, OrderRefusedError, Terms
from chains.solana import refusals
from chains.solana.accounts import Mint, mint, read_accounts, token_account
from chains.solana.fields import u64
from chains.solana.payments import (
    LIFE,
    OPENED_BYTES_MAX,
    OPENING_LAMPORTS_MAX,
    UNITS_MAX,
    Plan,
    message,
    mint_of,
)
from chains.solana.scanning import newest_final
from chains.solana.transfers import associated

CONFIRMED = {"commitment": "confirmed"}
"""What accounts are read as of: two thirds of the stake have voted for it, and no such block was ever undone."""
PRICE_MIN, PRICE_MAX = 10_000, 5_000_000
"""Micro-lamports a compute unit. What others paid is the node's word, and anybody can make it large."""
UNITS_TRIED = 200_000
UNITS_SPARE = 5_000
"""On top of half as many again as the trial took: a unit too few is a payment that fails."""


def planned(endpoint: HttpEndpoint, order: Order) -> Terms:
    """Raises OrderRefusedError if the payment would fail as things stand."""
    newest = newest_final(endpoint)
    if newest.height is None:
        raise MalformedError("a block without its height")
    # Of a final block, as one that is not may vanish, and a payment that names it could then never be taken.
    plan = Plan(blockhash=newest.block.hash, slot=newest.block.number, unit_limit=UNITS_TRIED, unit_price=0)
    as_of = {**CONFIRMED, "minContextSlot": newest.block.number}
    coin = mint_of(order)
    asked = [order.wallet, order.to]
    if coin is None:
        written = asked
    else:
        token = read_mint(endpoint, coin, as_of)
        written = [associated(owner, coin, token.program) for owner in asked]
        plan = replace(plan, program=token.program, decimals=token.decimals)
        asked = [*asked, *written]
    payer, recipient, *held = read_accounts(endpoint, asked, as_of)
    refusals.check_wallets(order, payer, recipient)
    if coin is not None:
        refusals.check_token(order, token, *held)
        plan = replace(plan, opens=token_account(held[1]) is None)
    price = _price(endpoint, written)
    if plan.opens:
        _check_rent(endpoint)
    moved = order.units if coin is None else 0
    plan = replace(plan, unit_limit=_tried(endpoint, order, plan, as_of), unit_price=price)
    refusals.check_coins(payer, moved + plan.fee_max)
    return Terms(inputs=(), ends=newest.height + LIFE, fee_max=plan.fee_max, fields=plan.fields())


def read_mint(endpoint: HttpEndpoint, address: str, config: Json) -> Mint:
    (account,) = read_accounts(endpoint, [address], config)
    found = mint(account)
    if found is None:
        raise MalformedError(f"{address} is no mint")
    return found


def _tried(endpoint: HttpEndpoint, order: Order, plan: Plan, as_of: Json) -> int:
    """The compute units that it may use, once the node has tried it without a signature."""
    tx = VersionedTransaction.populate(message(order, plan), [Signature.default()])
    config = {**as_of, "encoding": "base64", "sigVerify": False, "replaceRecentBlockhash": False}
    content = base64.b64encode(bytes(tx)).decode()
    (answer,) = endpoint.ask([("simulateTransaction", [content, config])])
    told = mapping(mapping(answer).get("value"))
    if "err" not in told:
        raise MalformedError("a trial that neither succeeded nor failed")
    if told["err"] is not None:
        raise refusals.of_trial(endpoint, order, told["err"])
    used = whole(told.get("unitsConsumed"), UNITS_MAX)
    return min(used * 3 // 2 + UNITS_SPARE, UNITS_MAX)


def _price(endpoint: HttpEndpoint, written: Sequence[str]) -> int:
    """What three of four blocks of the last minute asked at most of those who write to the same accounts."""
    (answer,) = endpoint.ask([("getRecentPrioritizationFees", [list(written)])])
    paid = sorted(u64(mapping(row).get("prioritizationFee")) for row in listing(answer))
    return min(max(paid[len(paid) * 3 // 4] if paid else 0, PRICE_MIN), PRICE_MAX)


def _check_rent(endpoint: HttpEndpoint) -> None:
    """That what opening an account is counted as is enough: the price is the network's, and can be changed."""
    (answer,) = endpoint.ask([("getMinimumBalanceForRentExemption", [OPENED_BYTES_MAX])])
    if (rent := u64(answer)) > OPENING_LAMPORTS_MAX:
        raise OrderRefusedError("order", f"the rent of an account is {rent} lamports, more than is ever paid")
