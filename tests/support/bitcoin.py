"""A real Bitcoin block, and blocks made to measure. A regtest node: bitcoin_fixtures.py."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from btclib.block.block import Block, bip34_commitment, merkle_root_and_mutated_from_transactions
from btclib.block.block_header import BlockHeader
from btclib.exceptions import BTClibValueError
from btclib.script.witness import Witness
from btclib.tx.out_point import OutPoint
from btclib.tx.tx import Tx
from btclib.tx.tx_in import TxIn
from btclib.tx.tx_out import TxOut

from chains.bitcoin import parse
from chains.bitcoin.reader import BitcoinReader
from core.errors import TransientError
from local.bitcoin_chain import RegtestChain
from tests.support.evm import FakeNode, proxy

MAIN = "bip122:000000000019d6689c085ae165831e93"
REGTEST = RegtestChain.chain
COIN = f"{REGTEST}/slip44:0"
MAIN_ASSETS = parse.Assets(MAIN, f"{MAIN}/slip44:0")
REGTEST_ASSETS = parse.Assets(REGTEST, COIN)

REAL_NUMBER = 482_683
REAL_HASH = "000000000000000000c238240ef6dcb26c37e75e16514e6ffc0aef7eee73e747"
REAL_RAW = Path(__file__).with_name("bitcoin_482683.hex").read_text().replace("\n", "")
"""Block 482683 of the main network, from bcoin's test/data/block482683.raw (MIT)."""

_BITS = bytes.fromhex("207fffff")
PARENT = "11" * 32

MakeReader = Callable[..., BitcoinReader]
Change = Callable[[Any, Any], Any]

SECRETS = ("SECRETKEY123", "hunter2hunter2")
"""What the URLs of fake nodes hold."""


def coinbase(number: int, outputs: Sequence[TxOut] = ()) -> Tx:
    script = bip34_commitment(number) + b"\x04made"
    return Tx(1, 0, [TxIn(OutPoint(), script, 0xFFFFFFFF)], list(outputs) or [TxOut(50, b"\x51")], check_validity=False)


def payment(*outputs: tuple[int, bytes], spends: str = "22" * 32, index: int = 0, witness: bool = True) -> Tx:
    """Units and script of each output. Nobody has signed it."""
    stack = Witness([b"\x30" * 71, b"\x02" * 33]) if witness else Witness()
    spent = TxIn(OutPoint(spends, index), b"", 0xFFFFFFFD, stack)
    return Tx(
        2, 0, [spent], [TxOut(units, script, check_validity=False) for units, script in outputs], check_validity=False
    )


def block(number: int, txs: Sequence[Tx], *, parent: str = PARENT, root: bytes | None = None) -> tuple[str, str]:
    """Hash and raw bytes of a regtest block of these, with the work that regtest asks for: two tries on average."""
    made = merkle_root_and_mutated_from_transactions(txs)[0] if root is None else root
    time = datetime(2026, 1, 1, tzinfo=UTC)
    for nonce in range(1_000):
        header = BlockHeader(0x20000000, bytes.fromhex(parent), made, time, _BITS, nonce)
        try:
            header.assert_valid_pow(_BITS)
        except BTClibValueError:
            continue
        raw = Block(header, list(txs), check_validity=False).serialize(check_validity=False)
        return header.hash.hex(), raw.hex()
    raise AssertionError("no nonce of a thousand")


def need_transient(read: Callable[[], Any]) -> TransientError:
    """And no word of a URL in all that a traceback shows."""
    with pytest.raises(TransientError) as caught:
        read()
    whole = "".join(traceback.format_exception(caught.value))
    assert not any(secret in whole for secret in SECRETS)
    return caught.value


@contextmanager
def altered(chain: RegtestChain, change: Change) -> Iterator[FakeNode]:
    """The node, with its answers changed on the way: `tests.support.evm.proxy`."""
    with proxy(chain.url, change) as node:
        yield node
