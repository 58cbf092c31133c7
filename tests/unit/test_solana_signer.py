"""What the signer signs for Solana: against RFC 8032, real transactions, and a second reading of its bytes."""

import base64
from dataclasses import replace
from typing import Any

import base58
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from solders.transaction import VersionedTransaction

from chains.sending import Order, Terms
from chains.solana.instructions import TOKEN, TOKEN_2022
from chains.solana.payments import OPENING_LAMPORTS_MAX, message, plan_of, reference_key
from chains.solana.transfers import associated
from signer.base import UnfitError
from signer.solana import SolanaSigner
from tests.support.solana import MAINNET, USDC, recorded

SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""RFC 8032, section 7.1, test 1."""
WALLET = base58.b58encode(PUBLIC).decode()
OTHER = "GgifyvZfDFMQZmwmejZv7WuW7yWPFdo2jGrw2hb3Pba4"
HASH = "41mww1wbRbSjvBaXwue59UpGr2K58Kxf8Zq59wgo7b5w"
BARE = {"blockhash": HASH, "slot": "300", "unit_limit": "22184", "unit_price": "10000"}
TOKENS = {"program": TOKEN, "decimals": 6, "opens": True}


def recipient() -> str:
    return str(recorded("usdc").parsed().sender)


def order(**fields: Any) -> Order:
    given: dict[str, Any] = {"reference": "a-1", "chain": MAINNET, "wallet": WALLET, "to": recipient(), "units": 77}
    return Order(**(given | {"asset": f"{MAINNET}/slip44:501"} | fields))


def terms(**fields: Any) -> Terms:
    return Terms(inputs=(), ends=452, fee_max=0, fields=BARE | fields)


Part = tuple[str, list[str], bytes]


def read(raw: str) -> tuple[str, list[Part]]:
    """A transaction without a version, by hand: blockhash, and each instruction's program, accounts and data.

    docs.solana.com, "Transaction format": counts are below 128 here, so each is one byte.
    """
    content = bytes.fromhex(raw)
    assert content[0] == 1
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(content[1:65], content[65:])
    body = content[65:]
    assert body[:2] == bytes([1, 0])
    count, at = body[3], 4
    keys = [base58.b58encode(body[at + 32 * nth : at + 32 * nth + 32]).decode() for nth in range(count)]
    at += 32 * count
    blockhash, number, at, found = base58.b58encode(body[at : at + 32]).decode(), body[at + 32], at + 33, []
    for _ in range(number):
        program, amount = keys[body[at]], body[at + 1]
        accounts = [keys[place] for place in body[at + 2 : at + 2 + amount]]
        at += 2 + amount
        found.append((program, accounts, body[at + 1 : at + 1 + body[at]]))
        at += 1 + body[at]
    assert at == len(body) and keys[0] == WALLET
    return blockhash, found


BUDGET = "ComputeBudget111111111111111111111111111111"
PRICED: list[Part] = [(BUDGET, [], bytes.fromhex("02a8560000")), (BUDGET, [], bytes.fromhex("031027000000000000"))]
"""As in the recorded transaction with a new account, which bids the same."""


def test_the_address_is_the_public_key() -> None:
    assert SolanaSigner().address(MAINNET, SECRET) == WALLET


def test_coins_by_a_second_reading() -> None:
    signed = SolanaSigner().build(SECRET, order(tag="Grüße"), terms())
    memo: Part = ("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", [], "Grüße".encode())
    key = str(reference_key("a-1"))
    pays = ("11111111111111111111111111111111", [WALLET, recipient(), key], bytes.fromhex("020000004d00000000000000"))
    assert read(signed.raw) == (HASH, [*PRICED, memo, pays])
    assert base58.b58encode(bytes.fromhex(signed.raw)[1:65]).decode() == signed.chain_tx
    assert (signed.fee_max, signed.ends, signed.conflicts) == (5_222, 452, frozenset())
    assert SolanaSigner().build(SECRET, order(tag="Grüße"), terms()) == signed


def test_tokens_by_a_second_reading() -> None:
    signed = SolanaSigner().build(SECRET, order(asset=f"{MAINNET}/token:{USDC}"), terms(**TOKENS))
    source, target = (associated(owner, USDC, TOKEN) for owner in (WALLET, recipient()))
    opens = [WALLET, target, recipient(), USDC, "11111111111111111111111111111111", TOKEN]
    pays = [source, USDC, target, WALLET, str(reference_key("a-1"))]
    _, parts = read(signed.raw)
    assert parts == [
        *PRICED,
        ("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL", opens, b"\x01"),
        (TOKEN, pays, bytes.fromhex("0c4d0000000000000006")),
    ]
    assert signed.fee_max == 5_222 + OPENING_LAMPORTS_MAX


@pytest.mark.parametrize(("name", "program"), [("token with a new account", TOKEN_2022), ("usdc", TOKEN)])
def test_a_real_transaction_has_the_same_parts_and_cost_what_is_computed(name: str, program: str) -> None:
    """Of mainnet: it opens an account and pays tokens to it, by another wallet's code."""
    answer = recorded(name).answer
    tx = VersionedTransaction.from_bytes(base64.b64decode(answer["transaction"][0]))
    keys = [str(key) for key in tx.message.account_keys]
    real = [
        (keys[one.program_id_index], [keys[at] for at in one.accounts], one.data) for one in tx.message.instructions
    ]
    opening = next(one for one in real if one[0].startswith("AToken"))
    payer, target, owner, mint = opening[1][:4]
    assert target == associated(owner, mint, program)
    limit, price = (next(data for _, _, data in real if data[:1] == kind) for kind in (b"\x02", b"\x03"))
    fields = BARE | {"program": program, "decimals": 6, "opens": True}
    fields |= {"unit_limit": str(int.from_bytes(limit[1:], "little"))}
    fields |= {"unit_price": str(int.from_bytes(price[1:], "little"))}
    plan = plan_of(fields)
    meta = answer["meta"]
    spent = meta["preBalances"][0] - meta["postBalances"][0]
    assert plan.fee_max - OPENING_LAMPORTS_MAX == meta["fee"]
    assert meta["fee"] <= spent <= plan.fee_max and keys[0] == payer
    if name == "usdc":  # its payer paid itself, which is no payout
        return
    ours = message(order(wallet=payer, to=owner, asset=f"{MAINNET}/token:{mint}"), plan)
    names = [str(key) for key in ours.account_keys]
    assert opening in [
        (names[one.program_id_index], [names[at] for at in one.accounts], one.data) for one in ours.instructions
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"wallet": OTHER},
        {"to": WALLET},
        {"to": "11111111111111111111111111111111x"},
        {"units": 0},
        {"units": 2**64},
        {"asset": "eip155:1/slip44:60"},
        {"asset": f"{MAINNET}/token:{USDC}"},
        {"asset": f"{MAINNET}/nft:{USDC}"},
        {"tag": "x" * 65},
        {"tag": ""},
    ],
    ids=str,
)
def test_an_order_that_can_not_be_built(changed: dict[str, Any]) -> None:
    with pytest.raises(UnfitError):
        SolanaSigner().build(SECRET, order(**changed), terms())


@pytest.mark.parametrize(
    "changed",
    [
        terms(**TOKENS),
        terms(unit_limit="1400001"),
        terms(unit_limit=5),
        terms(unit_price="-1"),
        terms(blockhash="x"),
        terms(more=1),
        replace(terms(), ends=None),
        replace(terms(), cancels=True),
        replace(terms(), inputs=("a/1",)),
        replace(terms(), fields={}),
    ],
    ids=str,
)
def test_terms_that_can_not_be_built(changed: Terms) -> None:
    with pytest.raises(UnfitError):
        SolanaSigner().build(SECRET, order(), changed)


@pytest.mark.parametrize("changed", [{"program": OTHER}, {"decimals": "6"}, {"decimals": 256}, {"opens": 1}], ids=str)
def test_fields_of_tokens_that_can_not_be_built(changed: dict[str, Any]) -> None:
    with pytest.raises(UnfitError):
        SolanaSigner().build(SECRET, order(asset=f"{MAINNET}/token:{USDC}"), terms(**(TOKENS | changed)))
    with pytest.raises(UnfitError, match="32 bytes"):
        SolanaSigner().build(SECRET[:31], order(), terms())
