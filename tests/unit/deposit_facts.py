"""Facts of a chain, made up: for what no chain does on demand."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chains.base import Block, ChainTx, Head, Transfer, TxStatus
from domain.deposit.models import Deposit

CHAIN = "eip155:1"
COIN = "eip155:1/slip44:60"
TOKEN = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
US = "0x52908400098527886E0F7030069857D2E4169EE7"
PAYER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
CHAIN_TX = "0x" + "5c" * 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def block_hash(number: int, fork: int = 0) -> str:
    return f"0x{fork:032x}{number:032x}"


def block(number: int = 100, fork: int = 0, *, time: datetime | None = None) -> Block:
    return Block(
        number=number,
        hash=block_hash(number, fork),
        parent_hash=block_hash(number - 1, fork),
        time=time or NOW + timedelta(seconds=12 * (number - 100)),
    )


def head(number: int = 100, fork: int = 0, *, finalized: int | None = None) -> Head:
    return Head(latest=block(number, fork), finalized=finalized)


def transfer(**fields: Any) -> Transfer:
    given: dict[str, Any] = {
        "chain": CHAIN, "chain_tx": CHAIN_TX, "index": -1, "asset": COIN, "contract": None, "sender": PAYER,
        "recipient": US, "units": 10**18, "block_number": 100, "block_hash": block_hash(100),
        "block_time": block().time,
    }  # fmt: skip
    return Transfer(**given | fields)


def tx(*transfers: Transfer, status: TxStatus = TxStatus.SUCCEEDED, at: Block | None = None) -> ChainTx:
    at = at or block()
    inside = status in (TxStatus.SUCCEEDED, TxStatus.REVERTED)
    return ChainTx(
        id=CHAIN_TX,
        status=status,
        sender=None if status is TxStatus.MISSING else PAYER,
        inputs=() if status is TxStatus.MISSING else (f"{PAYER}/3",),
        block_number=at.number if inside else None,
        block_hash=at.hash if inside else None,
        transfers=transfers,
    )


def deposit(**fields: Any) -> Deposit:
    given: dict[str, Any] = {
        "id": UUID(int=1), "tenant": "shop", "chain": CHAIN, "asset": COIN, "account": "user:42:available",
        "mode": "tx", "address": US, "chain_tx": CHAIN_TX, "tolerance_bps": 0,
        "deadline_at": NOW + timedelta(days=1), "details": {}, "state": "watching", "incarnation": 0,
        "confirmations_seen": 0, "units_recovered": 0, "units_short": 0, "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Deposit(**given | fields)
