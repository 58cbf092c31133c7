"""Extended keys and payment requests of EVM chains. Addresses: tests/unit/test_chains_formats.py."""

import hashlib
from contextlib import suppress

import pytest
from bip32 import BIP32  # type: ignore[import-untyped]
from bip32.base58 import b58decode_check, b58encode_check  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from chains import formats
from core.errors import InvalidRequestError

CHAIN = "eip155:1"
ADDRESS = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
USDT = "0xdAC17F958D2ee523a2206206994597C13D831ec7"

# The accounts that anvil and Hardhat print when they start (m/44'/60'/0'/0/index), and their well-known words.
WORDS = "test test test test test test test test test test test junk"
ACCOUNTS = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
]


@pytest.fixture(scope="module")
def wallet() -> BIP32:
    """What the words stand for (BIP-39)."""
    return BIP32.from_seed(hashlib.pbkdf2_hmac("sha512", WORDS.encode(), b"mnemonic", 2048))


@pytest.mark.parametrize("path", ["m/44'/60'/0'", "m/44'/60'/0'/0"])
def test_addresses_are_those_that_wallets_derive(wallet: BIP32, path: str) -> None:
    key = formats.check_extended_key(CHAIN, wallet.get_xpub_from_path(path))
    assert [formats.derive(CHAIN, key, index) for index in range(len(ACCOUNTS))] == ACCOUNTS
    assert formats.derive("eip155:56", key, 0) == ACCOUNTS[0]
    assert formats.derives(CHAIN)


def test_a_key_of_bip32_itself_is_read() -> None:
    # Test vector 1 of BIP-32, chain m/0'/1/2': depth 3.
    start = "xpub6D4BDPcP2GT577Vvch3R8wDkScZWzQzMMUm3PWbmWvVJrZwQY4VUNgqFJPMM3No2"
    key = start + "dFDFGTsxxpG5uJh7n7epu4trkrX7x7DogT5Uv6fcLW5"
    assert formats.check_extended_key(CHAIN, key) == key


@pytest.mark.parametrize("index", [-1, 2**31])
def test_a_hardened_child_is_refused(wallet: BIP32, index: int) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        formats.derive(CHAIN, wallet.get_xpub_from_path("m/44'/60'/0'"), index)
    assert caught.value.field == "index"


def altered(key: str, place: int, value: bytes) -> str:
    raw = bytearray(b58decode_check(key))
    raw[place : place + len(value)] = value
    return str(b58encode_check(bytes(raw)).decode())


def test_what_is_no_such_key_is_refused_and_never_repeated(wallet: BIP32) -> None:
    good = wallet.get_xpub_from_path("m/44'/60'/0'")
    bad = {
        wallet.get_xpriv_from_path("m/44'/60'/0'"): "private",
        altered(good, 45, b"\x00"): "private",
        altered(good, 0, bytes.fromhex("043587cf")): "not an xpub",
        altered(good, 45, b"\x05"): "no point",
        altered(good, 46, b"\xff" * 32): "no point",
        wallet.get_xpub(): "depth is 0",
        wallet.get_xpub_from_path("m/44'/60'/0'/1"): "branch 1",
        wallet.get_xpub_from_path("m/44'/60'/0'/0/0"): "depth is 5",
        good[:-1]: "checksum",
        good.lower(): "checksum",
        good + "\n": "checksum",
        "": "checksum",
        "xpub": "checksum",
    }
    for key, why in bad.items():
        with pytest.raises(InvalidRequestError, match=why) as caught:
            formats.check_extended_key(CHAIN, key)
        assert caught.value.field == "key" and (not key or key not in str(caught.value))


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with suppress(InvalidRequestError):
        formats.check_extended_key(CHAIN, text)
        raise AssertionError(text)


@pytest.mark.parametrize(
    ("chain", "asset", "units", "expected"),
    [
        (CHAIN, "slip44:60", 2_014_000_000_000_000_000, f"ethereum:{ADDRESS}@1?value=2014000000000000000"),
        (CHAIN, "slip44:60", None, f"ethereum:{ADDRESS}@1"),
        ("eip155:56", "slip44:714", 0, f"ethereum:{ADDRESS}@56?value=0"),
        (CHAIN, f"erc20:{USDT.lower()}", 1, f"ethereum:{USDT}@1/transfer?address={ADDRESS}&uint256=1"),
        (CHAIN, f"erc20:{USDT.lower()}", None, f"ethereum:{USDT}@1/transfer?address={ADDRESS}"),
    ],
)
def test_a_payment_request_is_as_eip_681_has_it(chain: str, asset: str, units: int | None, expected: str) -> None:
    # The shapes are those of the examples in EIP-681; the chain is always named, so that no wallet pays on another.
    made = formats.payment_uri(chain, ADDRESS.lower(), asset=f"{chain}/{asset}", scale=18, units=units)
    assert made == expected


def test_a_payment_request_for_an_asset_of_another_chain_is_refused() -> None:
    for asset in ("eip155:56/slip44:714", f"{CHAIN}/erc721:{USDT.lower()}", CHAIN, "iso4217:USD"):
        with pytest.raises(InvalidRequestError) as caught:
            formats.payment_uri(CHAIN, ADDRESS, asset=asset, scale=18, units=1)
        assert caught.value.field == "asset"
    with pytest.raises(InvalidRequestError, match="no tag"):
        formats.payment_uri(CHAIN, ADDRESS, asset=f"{CHAIN}/slip44:60", scale=18, units=1, tag="7")


def test_an_evm_payment_has_no_tag() -> None:
    assert not formats.takes_tags(CHAIN) and formats.tells_payer(CHAIN)
    with pytest.raises(InvalidRequestError, match="no tag"):
        formats.new_tag(CHAIN)
