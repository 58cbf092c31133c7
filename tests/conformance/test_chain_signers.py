"""What every chain's signer keeps to, whatever the chain: signer/journal.py and signer/policy.py rely on it."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import base58
import pytest
from btclib.script.script_pub_key import ScriptPubKey
from btclib.tx.out_point import OutPoint
from btclib.tx.tx import Tx
from btclib.tx.tx_in import TxIn
from btclib.tx.tx_out import TxOut

from chains import formats
from chains.bitcoin import formats as bitcoin
from chains.bitcoin.payment import Coin, Plan, terms_of
from chains.sending import Order, Terms
from signer import registry
from signer.base import UnfitError

SECRET, OTHER = sha256(b"ours").digest(), sha256(b"another's").digest()
NAMESPACES = list(registry.SIGNERS)
COINS = {"eip155": "60", "bip122": "0", "solana": "501", "tron": "195"}
UNITS = 100_000


def order_on(namespace: str) -> Order:
    signer, chain = registry.of(namespace), registry.SHOWN_ON[namespace]
    return Order(
        reference="order-1",
        chain=chain,
        wallet=signer.address(chain, SECRET),
        asset=f"{chain}/slip44:{COINS[namespace]}",
        to=signer.address(chain, OTHER),
        units=UNITS,
    )


def evm(order: Order) -> Terms:
    prices = {"gas": "21000", "max_fee_per_gas": "10", "max_priority_fee_per_gas": "1"}
    return Terms(inputs=(f"{order.wallet}/7",), fee_max=210_000, fields=prices)


def of_bitcoin(order: Order) -> Terms:
    home = ScriptPubKey(bitcoin.script_of(order.chain, order.wallet))
    made = Tx(2, 0, [TxIn(OutPoint(b"\x01" * 32, 0), b"", 0xFFFFFFFF)], [TxOut(200_000, home)], check_validity=False)
    id_ = made.id.hex()
    plan = Plan((Coin(id_, 0, 200_000),), (200_000 - UNITS - 1_000,), 1_000)
    return terms_of(plan, {id_: made}, cancels=False, block=100)


def solana(_: Order) -> Terms:
    fields = {
        "blockhash": base58.b58encode(b"\x07" * 32).decode(),
        "slot": "9",
        "unit_limit": "1000",
        "unit_price": "0",
    }
    return Terms(inputs=(), ends=1_000, fee_max=5_000, fields=fields)


def tron(_: Order) -> Terms:
    fields = {"block": "5", "block_hash": f"{5:016x}" + "ab" * 24}
    return Terms(inputs=(), ends=1_800_000_000_000, fee_max=10_000_000, fields=fields)


TERMS: dict[str, Callable[[Order], Terms]] = {"eip155": evm, "bip122": of_bitcoin, "solana": solana, "tron": tron}
EACH = pytest.mark.parametrize("namespace", NAMESPACES)


def test_every_signer_is_asked() -> None:
    assert TERMS.keys() == COINS.keys() == registry.SHOWN_ON.keys() == registry.SIGNERS.keys()


@EACH
def test_an_address_is_spelled_as_orders_and_the_policy_spell_it(namespace: str) -> None:
    chain = registry.SHOWN_ON[namespace]
    address = registry.of(namespace).address(chain, SECRET)
    assert formats.parse_address(chain, address) == address


@EACH
def test_the_same_gets_the_same_bytes_and_tells_all_that_the_journal_goes_by(namespace: str) -> None:
    order, signer = order_on(namespace), registry.of(namespace)
    terms = TERMS[namespace](order)
    signed = signer.build(SECRET, order, terms)
    assert signer.build(SECRET, order, terms) == signed
    assert signed.conflicts == frozenset(terms.inputs) and signed.ends == terms.ends
    assert bool(signed.conflicts) != (signed.ends is not None)  # it excludes others by inputs, or ends
    assert 0 < signed.fee_max <= terms.fee_max
    assert bytes.fromhex(signed.raw) and formats.parse_chain_tx(order.chain, signed.chain_tx) == signed.chain_tx


@EACH
def test_two_orders_are_never_one_chain_transaction(namespace: str) -> None:
    """Else the second would count as paid by what paid the first."""
    order, signer = order_on(namespace), registry.of(namespace)
    terms = TERMS[namespace](order)
    first = signer.build(SECRET, order, terms)
    alike = signer.build(SECRET, replace(order, reference="order-2"), terms)
    # Where there are inputs, the journal gives those of the first to no other order.
    assert alike.chain_tx != first.chain_tx or first.conflicts
    other = replace(order, units=UNITS - 1)
    if namespace != "bip122":  # whose terms say what is left over
        assert signer.build(SECRET, other, terms).chain_tx != first.chain_tx


def ordered(**changed: Any) -> Callable[[Order, Terms], tuple[Order, Terms]]:
    return lambda order, terms: (replace(order, **changed), terms)


def termed(**changed: Any) -> Callable[[Order, Terms], tuple[Order, Terms]]:
    return lambda order, terms: (order, replace(terms, **changed))


SPOILT: dict[str, Callable[[Order, Terms], tuple[Order, Terms]]] = {
    "another wallet": lambda order, terms: (replace(order, wallet=order.to), terms),
    "nothing": ordered(units=0),
    "less than nothing": ordered(units=-1),
    "too much": ordered(units=2**256),
    "another chain's asset": ordered(asset="eip155:137/slip44:966"),
    "no asset": ordered(asset="iso4217:USD"),
    "nobody": ordered(to=""),
    "somewhere": ordered(to="somewhere"),
    "another spelling": lambda order, terms: (replace(order, to=f" {order.to}"), terms),
    "another chain": ordered(chain="aptos:1"),
    "a field more": lambda order, terms: (order, replace(terms, fields={**terms.fields, "data": "00"})),
    "no fields": termed(fields={}),
    "fields of other kinds": lambda order, terms: (order, replace(terms, fields=dict.fromkeys(terms.fields, 1))),
    "neither inputs nor an end": termed(inputs=(), ends=None),
    "inputs and an end": termed(inputs=("a:0",), ends=10**6),
    "inputs of another kind": lambda order, terms: (order, replace(terms, inputs=("a/b/c",))),
}


@EACH
@pytest.mark.parametrize("name", SPOILT)
def test_what_is_no_payment_of_its_chain_is_not_signed(namespace: str, name: str) -> None:
    order, signer = order_on(namespace), registry.of(namespace)
    terms = TERMS[namespace](order)
    with pytest.raises(UnfitError) as caught:
        signer.build(SECRET, *SPOILT[name](order, terms))
    assert SECRET.hex() not in str(caught.value)


@EACH
@pytest.mark.parametrize("secret", [b"", b"\x46" * 31, b"\x46" * 33])
def test_a_secret_of_another_length_is_no_key(namespace: str, secret: bytes) -> None:
    with pytest.raises(UnfitError) as caught:
        registry.of(namespace).address(registry.SHOWN_ON[namespace], secret)
    assert not secret or secret.hex() not in str(caught.value)
