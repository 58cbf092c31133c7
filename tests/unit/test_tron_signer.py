"""What the signer signs for Tron: against real transactions, tronpy's keys, and the double's reading of it."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from tronpy.keys import PrivateKey, Signature  # type: ignore[import-untyped]

from chains.sending import Order, Terms
from chains.tron import payments, rawdata
from signer.base import UnfitError
from signer.tron import TronSigner
from tests.support.tron import recorded, wire
from tests.support.tron.node import hex_of
from tests.support.tron.readers import CHAIN, COIN, TOKEN, TOKEN_ASSET

SECRET = hashlib.sha256(b"tron").digest()
WALLET = str(PrivateKey(SECRET).public_key.to_base58check_address())
BOB = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
BLOCK = recorded.MAINNET_BLOCK["blockID"]
BARE = {"block": "50402262", "block_hash": BLOCK}
ENDS = 1_681_820_322_000


def order(**fields: Any) -> Order:
    given: dict[str, Any] = {
        "reference": "a-1",
        "chain": CHAIN,
        "wallet": WALLET,
        "to": BOB,
        "units": 77,
        "asset": COIN,
    }
    return Order(**(given | fields))


def terms(**fields: Any) -> Terms:
    return Terms(inputs=(), ends=ENDS, fee_max=0, fields=BARE | fields)


def test_the_address_is_that_of_the_key() -> None:
    """The first is the one of the private key 1 in everybody's examples; the other by tronpy."""
    assert TronSigner().address(CHAIN, bytes(31) + b"\x01") == "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC"
    assert TronSigner().address(CHAIN, SECRET) == WALLET


REAL = [recorded.MAINNET_BLOCK["transactions"][0], recorded.MAINNET_BLOCK["transactions"][2], recorded.USDT_TRANSFER]


@pytest.mark.parametrize("real", REAL, ids=lambda real: real["txID"][:8])
def test_a_real_transaction_written_again_has_its_id(real: dict[str, Any]) -> None:
    """Of the main network: a payment of TRX, a call of a contract, and one of USDT."""
    raw = real["raw_data"]
    value = raw["contract"][0]["parameter"]["value"]
    names = ("owner_address", "to_address") if "amount" in value else ("owner_address", "contract_address")
    parts: list[int | bytes] = [bytes.fromhex(value[name]) for name in names]
    parts += [value["amount"]] if "amount" in value else [0, bytes.fromhex(value["data"])]
    content = payments.encoded(
        block_hash="00" * 6 + raw["ref_block_bytes"] + raw["ref_block_hash"] + "00" * 16,
        expires_ms=raw["expiration"],
        memo=b"",
        kind=rawdata.TRANSFER if "amount" in value else rawdata.TRIGGER_SMART_CONTRACT,
        value=b"".join(payments.field(number, part) for number, part in enumerate(parts, 1)),
        timestamp=raw["timestamp"],
        fee_limit=raw.get("fee_limit", 0),
    )
    assert content.hex() == real["raw_data_hex"]
    assert hashlib.sha256(content).hexdigest() == real["txID"]


def test_coins_by_a_second_reading() -> None:
    signed = TronSigner().build(SECRET, order(tag="Grüße"), terms())
    raw, (signature,) = wire.read_transaction(bytes.fromhex(signed.raw))
    timestamp = raw.pop("timestamp")
    assert raw == {
        "contract": [
            {
                "type": "TransferContract",
                "parameter": {
                    "value": {"owner_address": hex_of(WALLET), "to_address": hex_of(BOB), "amount": 77},
                    "type_url": "type.googleapis.com/protocol.TransferContract",
                },
            }
        ],
        "ref_block_bytes": "13d6",
        "ref_block_hash": "fc39a5a7662b0e93",
        "expiration": ENDS,
        "data": "Grüße".encode().hex(),
    }
    assert 0 < timestamp < 2**47
    content = wire.raw_data({**raw, "timestamp": timestamp})
    assert signed.chain_tx == hashlib.sha256(content).hexdigest()
    by_tronpy = PrivateKey(SECRET).sign_msg_hash(bytes.fromhex(signed.chain_tx))
    assert signature.hex() == by_tronpy.hex()
    recovered = Signature(signature).recover_public_key_from_msg_hash(bytes.fromhex(signed.chain_tx))
    assert recovered.to_base58check_address() == WALLET
    size = len(bytes.fromhex(signed.raw)) + 64
    assert (signed.fee_max, signed.ends, signed.conflicts) == (size * 1_000 + 2_100_000, ENDS, frozenset())
    assert TronSigner().build(SECRET, order(tag="Grüße"), terms()) == signed
    assert TronSigner().build(SECRET, order(tag="Grüße", reference="a-2"), terms()).chain_tx != signed.chain_tx


def test_tokens_by_a_second_reading() -> None:
    signed = TronSigner().build(SECRET, order(asset=TOKEN_ASSET, units=2**256 - 1), terms(fee_limit="150000000"))
    raw, _ = wire.read_transaction(bytes.fromhex(signed.raw))
    (contract,) = raw["contract"]
    assert (contract["type"], raw["fee_limit"]) == ("TriggerSmartContract", 150_000_000)
    assert contract["parameter"]["value"] == {
        "owner_address": hex_of(WALLET),
        "contract_address": hex_of(TOKEN),
        "data": "a9059cbb" + hex_of(BOB)[2:].rjust(64, "0") + "f" * 64,
    }
    assert signed.fee_max == (len(bytes.fromhex(signed.raw)) + 64) * 1_000 + 150_000_000


def test_bytes_are_counted_as_the_network_counts_them() -> None:
    """Real transactions of the same two kinds: what it took of their bandwidth, and was paid for it."""

    def counted(real: dict[str, Any]) -> int:
        sent = payments.transaction(bytes.fromhex(real["raw_data_hex"]), bytes(payments.SIGNATURE_BYTES))
        return len(sent) + payments.RESULT_BYTES

    assert counted(REAL[0]) == recorded.TRX_INFO["receipt"]["net_usage"] == 265
    assert counted(REAL[2]) * payments.BYTE_SUN == recorded.USDT_INFO["receipt"]["net_fee"] == recorded.USDT_INFO["fee"]


@pytest.mark.parametrize(
    "changed",
    [
        {"wallet": TOKEN},
        {"to": WALLET},
        {"to": hex_of(BOB)},
        {"to": "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"},
        {"units": 0},
        {"units": 2**63},
        {"asset": TOKEN_ASSET},
        {"asset": f"{CHAIN}/trc10:1000617"},
        {"asset": "tron:1/slip44:195"},
        {"chain": "tron:x"},
        {"tag": "x" * 65},
        {"tag": ""},
    ],
    ids=str,
)
def test_an_order_that_can_not_be_built(changed: dict[str, Any]) -> None:
    with pytest.raises(UnfitError):
        TronSigner().build(SECRET, order(**changed), terms())


@pytest.mark.parametrize(
    "changed",
    [
        terms(fee_limit="1"),
        terms(block="50402263"),
        terms(block=50402262),
        terms(block_hash=BLOCK.upper()),
        terms(more="1"),
        replace(terms(), ends=None),
        replace(terms(), ends=0),
        replace(terms(), cancels=True),
        replace(terms(), inputs=("a/1",)),
        replace(terms(), fields={}),
    ],
    ids=str,
)
def test_terms_that_can_not_be_built(changed: Terms) -> None:
    with pytest.raises(UnfitError):
        TronSigner().build(SECRET, order(), changed)


def test_tokens_that_can_not_be_built() -> None:
    for changed in ({}, {"fee_limit": "15000000001"}, {"fee_limit": "-1"}, {"fee_limit": 5}):
        with pytest.raises(UnfitError):
            TronSigner().build(SECRET, order(asset=TOKEN_ASSET), terms(**changed))
    for units in (0, 2**256):
        with pytest.raises(UnfitError):
            TronSigner().build(SECRET, order(asset=TOKEN_ASSET, units=units), terms(fee_limit="5"))
    with pytest.raises(UnfitError):
        TronSigner().build(SECRET, order(asset=TOKEN_ASSET, to=TOKEN), terms(fee_limit="5"))


@pytest.mark.parametrize("secret", [b"", bytes(32), b"\xff" * 32], ids=["none", "zero", "too large"])
def test_a_secret_that_is_no_key(secret: bytes) -> None:
    with pytest.raises(UnfitError):
        TronSigner().address(CHAIN, secret)
