"""What the signer signs on EVM chains: published vectors, and eth_account's own reading of the bytes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from chains.sending import Order, Terms
from signer.base import UnfitError
from signer.evm import EvmSigner

SIGNER = EvmSigner()
SECRET = bytes.fromhex("46" * 32)
"""Of EIP-155's example."""
WALLET = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
CHAIN = "eip155:1"
TOKEN = "0xdac17f958d2ee523a2206206994597c13d831ec7"
ORDER = Order(
    reference="a",
    chain=CHAIN,
    wallet=WALLET,
    asset=f"{CHAIN}/slip44:60",
    to="0x3535353535353535353535353535353535353535",
    units=10**18,
)
LEGACY = Terms(inputs=(f"{WALLET}/9",), fee_max=10**18, fields={"gas": "21000", "gas_price": "20000000000"})
TERMS = Terms(
    inputs=(f"{WALLET}/9",),
    fee_max=10**18,
    fields={"gas": "60000", "max_fee_per_gas": "30", "max_priority_fee_per_gas": "2"},
)


@pytest.fixture(scope="module", autouse=True)
def _recursion_as_it_was() -> None:
    """eth_account raises the limit of recursion a hundredfold, for BLS keys: deep JSON would end this whole process."""
    limit = sys.getrecursionlimit()
    import eth_account  # noqa: F401

    sys.setrecursionlimit(limit)


def read(raw: str) -> dict[str, Any]:
    """The fields of a type 2, as eth_account reads them."""
    from eth_account.typed_transactions.typed_transaction import TypedTransaction

    found: Any = TypedTransaction.from_bytes(HexBytes(raw)).transaction
    return dict(found.dictionary)


def test_the_example_of_eip_155_comes_out_to_the_byte() -> None:
    """https://eips.ethereum.org/EIPS/eip-155, "Example"."""
    signed = SIGNER.build(SECRET, ORDER, LEGACY)
    assert signed.raw == (
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc"
        "2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb196"
        "6a3b6d83"
    )
    assert signed.fee_max == 21_000 * 20 * 10**9
    assert signed.conflicts == {f"{WALLET}/9"}
    assert signed.ends is None


def test_a_type_2_comes_out_as_in_besu_s_vectors() -> None:
    """The first of ethereumjs-monorepo, packages/tx/test/json/eip1559.json, which is of Besu; chain 7822."""
    secret = bytes.fromhex("8f2a55949038a9610f50fb23b5883af3b4ecb3c3bb792cbcefbd1542c692be63")
    wallet = SIGNER.address("eip155:7822", secret)
    order = replace(
        ORDER,
        chain="eip155:7822",
        wallet=wallet,
        asset="eip155:7822/slip44:60",
        to=to_checksum_address("0x000000000000000000000000000000000000aaaa"),
        units=43_203_529,
    )
    prices = {"gas": "35552", "max_fee_per_gas": "121212", "max_priority_fee_per_gas": "75853"}
    signed = SIGNER.build(secret, order, Terms(inputs=(f"{wallet}/819",), fee_max=0, fields=prices))
    assert signed.raw == (
        "02f870821e8e8203338301284d8301d97c828ae094000000000000000000000000000000000000aaaa8402933bc980c080a0d067f21670"
        "08c59219652f91cbf8788dbca5f771f6e91e2b7657e85b78b472e0a01d305af9fe81fdba43f0dfcd400ed24dcace0a7e30d4e85701dc"
        "aaf484cd079e"
    )


def test_a_token_is_paid_by_its_contract_s_transfer() -> None:
    order = replace(ORDER, asset=f"{CHAIN}/erc20:{TOKEN}", units=2**255 + 7)
    signed = SIGNER.build(SECRET, order, TERMS)
    from eth_account import Account

    assert Account.recover_transaction(HexBytes(signed.raw)) == WALLET
    assert signed.chain_tx == "0x" + keccak(bytes.fromhex(signed.raw)).hex()
    fields = read(signed.raw)
    called = encode(["address", "uint256"], [order.to, order.units])
    assert fields["data"] == function_signature_to_4byte_selector("transfer(address,uint256)") + called
    assert (fields["to"].hex(), fields["value"]) == (TOKEN[2:], 0)
    assert (fields["chainId"], fields["nonce"], fields["gas"]) == (1, 9, 60_000)
    assert (fields["maxFeePerGas"], fields["maxPriorityFeePerGas"]) == (30, 2)
    assert signed.fee_max == 60_000 * 30
    assert SIGNER.build(SECRET, order, TERMS) == signed


@pytest.mark.parametrize("legacy", [True, False])
def test_the_bytes_are_those_that_eth_account_would_sign(legacy: bool) -> None:
    """Over enough of them for both parities and for numbers that are shorter in RLP."""
    from eth_account import Account

    for nonce in range(0, 600, 25):
        terms = replace(LEGACY if legacy else TERMS, inputs=(f"{WALLET}/{nonce}",))
        prices = {"gasPrice": 20 * 10**9} if legacy else {"type": 2, "maxFeePerGas": 30, "maxPriorityFeePerGas": 2}
        order = replace(ORDER, units=1 + nonce**7)
        fields = {"to": order.to, "value": order.units, "data": b"", "nonce": nonce, "chainId": 1}
        wanted = Account.sign_transaction({**fields, **prices, "gas": int(terms.fields["gas"])}, SECRET)
        signed = SIGNER.build(SECRET, order, terms)
        assert bytes.fromhex(signed.raw) == bytes(wanted.raw_transaction)
        assert signed.chain_tx == "0x" + bytes(wanted.hash).hex()


@pytest.mark.parametrize("asset", [ORDER.asset, f"{CHAIN}/erc20:{TOKEN}"])
def test_what_cancels_pays_nobody(asset: str) -> None:
    signed = SIGNER.build(SECRET, replace(ORDER, asset=asset), replace(TERMS, cancels=True))
    fields = read(signed.raw)
    assert (fields["to"].hex(), fields["value"], fields["data"]) == (WALLET[2:].lower(), 0, b"")
    assert signed.conflicts == {f"{WALLET}/9"}


def fields(**changed: str) -> Callable[[Order, Terms], tuple[Order, Terms]]:
    return lambda order, terms: (order, replace(terms, fields={**terms.fields, **changed}))


def ordered(**changed: Any) -> Callable[[Order, Terms], tuple[Order, Terms]]:
    return lambda order, terms: (replace(order, **changed), terms)


def termed(**changed: Any) -> Callable[[Order, Terms], tuple[Order, Terms]]:
    return lambda order, terms: (order, replace(terms, **changed))


@pytest.mark.parametrize(
    "spoil",
    [
        ordered(wallet="0x3535353535353535353535353535353535353535"),
        ordered(wallet=WALLET.lower()),
        lambda order, terms: (replace(order, wallet=order.to), replace(terms, inputs=(f"{order.to}/9",))),
        ordered(chain="eip155:01"),
        ordered(asset="eip155:10/slip44:60"),
        ordered(asset=f"{CHAIN}/erc721:{TOKEN}"),
        ordered(asset=f"{CHAIN}/erc20:{TOKEN.upper()}"),
        ordered(to="0x5AAEB6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        ordered(to="0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"),
        ordered(to="somebody"),
        ordered(units=0),
        ordered(units=2**256),
        ordered(tag="memo"),
        termed(inputs=()),
        termed(inputs=(f"{WALLET}/9", f"{WALLET}/10")),
        termed(inputs=(f"{WALLET}/09",)),
        termed(inputs=(f"{WALLET.lower()}/9",)),
        termed(inputs=("0x3535353535353535353535353535353535353535/9",)),
        termed(inputs=(f"{WALLET}/{2**64 - 1}",)),
        termed(ends=5),
        fields(gas="20999"),
        fields(gas="100000001"),
        fields(gas="6e4"),
        fields(max_priority_fee_per_gas="31"),
        fields(max_fee_per_gas=str(2**256 - 1)),
        fields(data="0x00"),
        termed(fields={"gas": "21000"}),
        termed(fields={"gas": 21_000, "gas_price": "1"}),
    ],
)
def test_what_is_no_payment_of_ours_is_not_signed(spoil: Callable[[Order, Terms], tuple[Order, Terms]]) -> None:
    assert SIGNER.build(SECRET, ORDER, TERMS)
    with pytest.raises(UnfitError):
        SIGNER.build(SECRET, *spoil(ORDER, TERMS))


@pytest.mark.parametrize("secret", [b"\0" * 32, b"\xff" * 32, b"\x01" * 31])
def test_of_a_secret_that_is_no_key_nothing_is_told(secret: bytes) -> None:
    with pytest.raises(UnfitError) as caught:
        SIGNER.address(CHAIN, secret)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert secret.hex() not in str(caught.value)
