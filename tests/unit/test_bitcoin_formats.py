"""Spellings of Bitcoin. Vectors: BIP-13, BIP-32, BIP-49, BIP-84, BIP-173 and BIP-350, each document's own."""

import re
from collections.abc import Callable

import pytest
from bip32 import BIP32  # type: ignore[import-untyped]
from btclib import base58
from btclib.network import NETWORKS
from btclib.script import script_pub_key
from hypothesis import given
from hypothesis import strategies as st

from chains import formats
from chains.bitcoin import formats as bitcoin
from core.errors import InvalidRequestError

MAIN = "bip122:000000000019d6689c085ae165831e93"
TEST = "bip122:000000000933ea01ad0ee984209779ba"
TEST4 = "bip122:00000000da84f2bafbbc53dee25a72ae"
SIGNET = "bip122:00000008819873e925422c1ff0f99f7c"
REGTEST = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"

ADDRESSES = {
    # P2PKH and P2SH: the examples of BIP-13's talk of version bytes are these two prefixes
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": (MAIN, "76a91477bff20c60e522dfaa3350c39b030a5d004e839a88ac"),
    "3P14159f73E4gFr7JterCCQh9QjiTjiZrG": (MAIN, "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87"),
    "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn": (TEST, "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac"),
    "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc": (TEST, "a9144e9f39ca4688ff102128ea4ccda34105324305b087"),
    # BIP-350, section "Test vectors for v0-v16 native segregated witness addresses"
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4": (MAIN, "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7": (
        TEST,
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
    ),
    "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy": (
        TEST,
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c": (
        TEST,
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0": (
        MAIN,
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    ),
}

REFUSED = {
    # BIP-350: valid, but of a witness version or length that nobody spends by a rule yet
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y": "witness version",
    "BC1SW50QGDZ25J": "witness version",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs": "witness version",
    # BIP-350: invalid, with the reason that stands there
    "tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut": "checksum",  # human-readable part
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd": "checksum",  # Bech32 instead of Bech32m
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL": "checksum",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh": "checksum",  # Bech32m instead of Bech32
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4": "checksum",  # character
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R": "checksum",  # witness version
    "bc1pw5dgrnzv": "letters",  # program of 1 byte
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav": "checksum",  # 41 bytes
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P": "checksum",  # length for version 0
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf": "checksum",  # padding
    "bc1gmk9yu": "letters",  # empty data section
    # one character changed, and what people paste around an address
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3": "checksum",
    "1bvbmseystwetqtfn5au4m4gfg7xjanvn2": "checksum",  # base58 is never lower-cased
    "bc1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4": "checksum",  # mixed case
    " 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": "letters",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2\n": "letters",
    "bitcoin:1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": "letters",
    "0x52908400098527886E0F7030069857D2E4169EE7": "checksum",
    "1" * 25: "checksum",
    "": "letters",
    # other coins that look alike
    "LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1": "checksum",
    "ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9": "checksum",
}

# BIP-84, test vectors: account 0, m/84'/0'/0'
ZPUB = "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs"
ZPRV = "zprvAdG4iTXWBoARxkkzNpNh8r6Qag3irQB8PzEMkAFeTRXxHpbF9z4QgEvBRmfvqWvGp42t42nvgGpNgYSJA9iefm1yYNZKEm7z6qUWCroSQnE"
ZPUB_ROOT = (
    "zpub6jftahH18ngZxLmXaKw3GSZzZsszmt9WqedkyZdezFtWRFBZqsQH5hyUmb4pCEeZGmVfQuP5bedXTB8is6fTv19U1GQRyQUKQGUTzyHACMF"
)
# BIP-49, test vectors: account 0, m/49'/1'/0'
UPUB = "upub5EFU65HtV5TeiSHmZZm7FUffBGy8UKeqp7vw43jYbvZPpoVsgU93oac7Wk3u6moKegAEWtGNF8DehrnHtv21XXEMYRUocHqguyjknFHYfgY"
UPRV = "uprv91G7gZkzehuMVxDJTYE6tLivdF8e4rvzSu1LFfKw3b2Qx1Aj8vpoFnHdfUZ3hmi9jsvPifmZ24RTN2KhwB8BfMLTVqaBReibyaFFcTP1s9n"
# BIP-32, test vector 1: chain m/0H/1/2H (depth 3)
XPUB = "xpub6D4BDPcP2GT577Vvch3R8wDkScZWzQzMMUm3PWbmWvVJrZwQY4VUNgqFJPMM3No2dFDFGTsxxpG5uJh7n7epu4trkrX7x7DogT5Uv6fcLW5"
XPRV = "xprv9z4pot5VBttmtdRTWfWQmoH1taj2axGVzFqSb8C9xaxKymcFzXBDptWmT7FwuEzG3ryjH4ktypQSAewRiNMjANTtpgP4mLTj34bhnZX7UiM"


def spelled(key: str, version: bytes, *, depth: int | None = None, number: int | None = None) -> str:
    """The key with other version bytes, depth or child number."""
    raw = bytearray(base58.decode(key, 78))
    raw[:4] = version
    if depth is not None:
        raw[4] = depth
    if number is not None:
        raw[9:13] = number.to_bytes(4, "big")
    return base58.encode(bytes(raw)).decode()


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_has_one_spelling_and_one_script(text: str) -> None:
    chain, script = ADDRESSES[text]
    canonical = formats.parse_address(chain, text)
    assert canonical == (text.lower() if text[:3] in ("BC1", "TB1") else text)
    assert formats.parse_address(chain, canonical) == canonical
    assert bitcoin.script_of(chain, text).hex() == script
    assert bitcoin.address_of(chain, bytes.fromhex(script)) == canonical


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_of_another_network_is_refused(text: str) -> None:
    chain, _ = ADDRESSES[text]
    with pytest.raises(InvalidRequestError, match="not of another") as caught:
        formats.parse_address(TEST if chain == MAIN else MAIN, text)
    assert caught.value.field == "address"


def test_the_test_networks_share_prefixes_but_for_one() -> None:
    address = "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7"
    assert {formats.parse_address(chain, address) for chain in (TEST, TEST4, SIGNET)} == {address}
    with pytest.raises(InvalidRequestError, match="not of another"):
        formats.parse_address(REGTEST, address)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=REFUSED[text]) as caught:
        formats.parse_address(MAIN, text)
    assert caught.value.field == "address"
    assert not text or text not in str(caught.value)


@given(st.binary(max_size=50) | st.binary(min_size=32, max_size=32).map(lambda program: b"\x51\x20" + program))
def test_scripts_and_addresses_are_as_btclib_has_them(script: bytes) -> None:
    ours, theirs = bitcoin.address_of(MAIN, script), script_pub_key.address(script, "mainnet")
    known = script_pub_key.type_and_payload(script)[0] in ("p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr")
    assert ours == (theirs if known else None)
    if ours is not None:
        assert bitcoin.script_of(MAIN, ours) == script


def test_other_chains_of_the_namespace_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="not supported"):
        formats.parse_address("bip122:12a765e31ffd4059bada1e25190f6e98", "LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1")


def test_a_transaction_id_is_lower_case() -> None:
    id_ = "4A5E1E4BAAB89F3A32518A88C31BC87F618F76673E2CC77AB2127B7AFDEDA33B"
    assert formats.parse_chain_tx(MAIN, id_) == id_.lower()
    for wrong in ("0x" + id_, id_[:-1], id_ + "0", id_[:-1] + "g", id_ + "\n", ""):
        with pytest.raises(InvalidRequestError, match="64 hex") as caught:
            formats.parse_chain_tx(MAIN, wrong)
        assert caught.value.field == "chain_tx"
        assert not wrong or wrong not in str(caught.value), "it may be a private key"


def test_payments_carry_no_tag() -> None:
    assert not formats.takes_tags(MAIN) and not formats.tells_payer(MAIN)
    acts: list[Callable[[], str]] = [lambda: formats.parse_tag(MAIN, "7"), lambda: formats.new_tag(MAIN)]
    for act in acts:
        with pytest.raises(InvalidRequestError) as caught:
            act()
        assert caught.value.field == "tag"


# --- addresses from extended keys ----------------------------------------------------------------------------------


def test_the_vectors_of_bip_84() -> None:
    assert formats.derives(MAIN)
    assert formats.check_extended_key(MAIN, ZPUB) == ZPUB
    assert formats.derive(MAIN, ZPUB, 0) == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"
    assert formats.derive(MAIN, ZPUB, 1) == "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"


def test_the_vector_of_bip_49() -> None:
    assert formats.check_extended_key(TEST, UPUB) == UPUB
    assert formats.derive(TEST, UPUB, 0) == "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"


def test_an_xpub_means_what_a_zpub_means() -> None:
    mainnet, testnet = NETWORKS["mainnet"], NETWORKS["testnet"]
    xpub = spelled(ZPUB, mainnet.bip32_pub)
    assert xpub.startswith("xpub")
    assert formats.derive(MAIN, xpub, 1) == formats.derive(MAIN, ZPUB, 1)
    for version, prefix in ((testnet.bip32_pub, "tpub"), (testnet.slip132_p2wpkh_pub, "vpub")):
        key = spelled(ZPUB, version)
        assert key.startswith(prefix)
        for chain in (TEST, TEST4, SIGNET):
            assert formats.derive(chain, key, 0) == "tb1qcr8te4kr609gcawutmrza0j4xv80jy8zmfp6l0"
        assert formats.derive(REGTEST, key, 0).startswith("bcrt1qcr8te4kr609gcawutmrza0j4xv80jy8z")


def test_the_key_of_the_external_branch_gives_the_same_addresses() -> None:
    xprv = spelled(ZPRV, NETWORKS["mainnet"].bip32_prv)
    branch = BIP32.from_xpriv(xprv).get_xpub_from_path("m/0")
    assert formats.derive(MAIN, branch, 7) == formats.derive(MAIN, ZPUB, 7)
    change = BIP32.from_xpriv(xprv).get_xpub_from_path("m/1")
    with pytest.raises(InvalidRequestError, match="change"):
        formats.check_extended_key(MAIN, change)


def test_the_public_side_derives_what_the_private_side_can_spend() -> None:
    from btclib.hashes import hash160

    for index in (0, 1, 2**31 - 1):
        public = BIP32.from_xpriv(XPRV).get_pubkey_from_path(f"m/0/{index}")
        assert bitcoin.script_of(MAIN, formats.derive(MAIN, XPUB, index)) == b"\x00\x14" + hash160(public)


@pytest.mark.parametrize("index", [-1, 2**31, 2**32])
def test_hardened_children_are_refused(index: int) -> None:
    with pytest.raises(InvalidRequestError, match="no child") as caught:
        formats.derive(MAIN, ZPUB, index)
    assert caught.value.field == "index"


WRONG_KEYS = {
    ZPRV: "private",
    XPRV: "private",
    spelled(ZPRV, NETWORKS["mainnet"].bip32_pub): "private",  # in the clothes of a public one
    spelled(ZPRV, NETWORKS["testnet"].slip132_p2wsh_prv): "private",
    UPRV: "private",
    UPUB: "another network",
    spelled(ZPUB, NETWORKS["mainnet"].slip132_p2wsh_pub): "another kind",
    spelled(ZPUB, b"\x01\x9d\xa4\x62"): "another network",  # Litecoin's Ltub (SLIP-132)
    ZPUB_ROOT: "depth is 0",
    spelled(ZPUB, NETWORKS["mainnet"].bip32_pub, depth=2): "depth is 2",
    spelled(ZPUB, NETWORKS["mainnet"].bip32_pub, depth=5): "depth is 5",
    ZPUB[:-1] + "t": "checksum",
    ZPUB.lower(): "checksum",
    ZPUB[:60]: "checksum",
    f" {ZPUB}": "checksum",
    f"{ZPUB}\n": "checksum",
    # BIP-84's own private key of m/84'/0'/0'/0/0, in WIF
    "KyZpNDKnfs94vbrwhJneDi77V6jF64PWPF8x5cdJb8ifgg2DUc9d": "78 bytes",
    "": "78 bytes",
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about": "base58",
    "ключ": "base58",
}


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_wrong_key_is_refused_and_not_repeated(key: str) -> None:
    acts: list[Callable[[], str]] = [
        lambda: formats.check_extended_key(MAIN, key),
        lambda: formats.derive(MAIN, key, 0),
    ]
    for act in acts:
        with pytest.raises(InvalidRequestError, match=WRONG_KEYS[key]) as caught:
            act()
        assert caught.value.field == "key"
        assert caught.value.__suppress_context__ or caught.value.__context__ is None, "nor by what lies behind it"
        assert not key or key not in str(caught.value)


def test_a_point_that_is_not_on_the_curve_is_refused() -> None:
    raw = bytearray(base58.decode(ZPUB, 78))
    raw[46:] = bytes(31) + b"\x05"  # x = 5 has no y on secp256k1
    with pytest.raises(InvalidRequestError, match="no point"):
        formats.check_extended_key(MAIN, base58.encode(bytes(raw)).decode())


# --- payment requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "amount"),
    [
        (1, "0.00000001"),
        (50_000_000, "0.5"),
        (100_000_000, "1"),
        (2_030_000_000, "20.3"),
        (100_000_000_000, "1000"),
        (2_099_999_997_690_000, "20999999.9769"),
        (123_456_789, "1.23456789"),
        (0, "0"),
    ],
)
def test_a_payment_request_is_exact(units: int, amount: str) -> None:
    uri = formats.payment_uri(
        MAIN, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", asset=f"{MAIN}/slip44:0", scale=8, units=units
    )
    assert uri == f"bitcoin:1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2?amount={amount}"
    assert re.fullmatch(r"\d+(\.\d{1,8})?", amount)


def test_a_payment_request_without_an_amount() -> None:
    address = "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4"
    assert formats.payment_uri(MAIN, address, asset=f"{MAIN}/slip44:0", scale=8) == f"bitcoin:{address.lower()}"
    assert formats.payment_uri(MAIN, address, asset=f"{MAIN}/ordinals:0", scale=8) is None
    with pytest.raises(InvalidRequestError):
        formats.payment_uri(MAIN, address, asset=f"{MAIN}/slip44:0", scale=8, tag="7")
