"""Chains that no node is asked about: for tests of whose an address is, and of what arrives there."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from bip32 import BIP32  # type: ignore[import-untyped]
from sqlalchemy import event

from chains import formats
from chains.base import Transfer
from core import clock, db
from domain.deposit import service
from domain.deposit.service import NewDeposit
from ledger.assets import sync_assets
from tests.conftest import use

MAIN, OTHER = "tron:0x2b6653dc", "tron:0xcd8690dc"
"""Two networks that spell addresses alike, as two EVM networks do; payments on both may carry tags."""
BITCOIN = "bip122:000000000019d6689c085ae165831e93"
TRX = f"{MAIN}/slip44:195"
TENANT = "shop"
ACCOUNT = "user:42:available"
_numbers = count(1)


def user(number: int) -> str:
    return f"user:{number}:available"


def account_key(seed: int) -> BIP32:
    return BIP32.from_seed(bytes([seed]) * 32)


def public_key(seed: int = 1) -> str:
    return str(account_key(seed).get_xpub_from_path("m/44'/195'/0'"))


def child(index: int, seed: int = 1) -> str:
    """An address: of the key, or of another one to have some address."""
    return formats.derive(MAIN, public_key(seed), index)


def _toml(chain: str, coin: str) -> str:
    return f"""
    [chains."{chain}"]
    name = "{chain}"
    namespace = "{chain.partition(":")[0]}"
    confirmations = 2
    reorg_depth = 8
    block_time_ms = 1000
    [assets."{chain}/slip44:{coin}"]
    symbol = "COIN"
    scale = 6
    units_min = 100
    """


@pytest.fixture
def networks(database_url: str, tmp_path: Path) -> Iterator[None]:
    """The chains above, each with a node, which nothing asks."""
    file = tmp_path / "chains.toml"
    file.write_text(_toml(MAIN, "195") + _toml(OTHER, "195") + _toml(BITCOIN, "0"))
    urls = ", ".join(f'"{chain}": ["http://127.0.0.1:1"]' for chain in (MAIN, OTHER, BITCOIN))
    back = use({"CHAINS_FILE": str(file), "RPC_URLS": f"{{{urls}}}"})
    with db.transaction() as session:
        sync_assets(session)
    yield
    back()


def new(**fields: Any) -> NewDeposit:
    return NewDeposit(**{"tenant": TENANT, "asset": TRX, "account": ACCOUNT} | fields)


def transfer(recipient: str, units: int = 5_000, *, chain: str = MAIN, **fields: Any) -> Transfer:
    given: dict[str, Any] = {
        "chain": chain, "chain_tx": f"{next(_numbers):064x}", "index": 0, "asset": f"{chain}/slip44:195",
        "contract": None, "sender": child(7, seed=8), "recipient": recipient, "units": units, "block_number": 5,
        "block_hash": "ab" * 32, "block_time": clock.now(),
    }  # fmt: skip
    return Transfer(**given | fields)


def register(*given: str, chain: str = MAIN, tenant: str = TENANT, **kind: bool) -> None:
    with db.transaction() as session:
        service.register_addresses(session, tenant, chain, given, **kind)


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each returns, all of them begun together."""
    gate = Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        gate.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))


class Counting:
    """The statements that run inside."""

    def __enter__(self) -> list[str]:
        self.statements: list[str] = []
        event.listen(db.engine(), "before_cursor_execute", self._note)
        return self.statements

    def _note(self, *given: Any) -> None:
        self.statements.append(given[2])

    def __exit__(self, *_: object) -> None:
        event.remove(db.engine(), "before_cursor_execute", self._note)
