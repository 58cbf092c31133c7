"""Tron's spellings. Vectors: developers.tron.network, public wallets' tests of m/44'/195'/0' (see each)."""

import hashlib
import subprocess
import sys

import base58
import pytest
from bip32 import BIP32  # type: ignore[import-untyped]

from chains.tron import formats
from core.errors import InvalidRequestError

CHAIN = "tron:728126428"
USDT, USDT_HEX = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "41a614f803b6fd780986a42c78ec9c7f77e6ded13c"

SEED = hashlib.pbkdf2_hmac("sha512", b"abandon " * 11 + b"about", b"mnemonic", 2048)
"""BIP-39's best known test phrase, without a passphrase."""
MASTER = BIP32.from_seed(SEED)
XPUB = MASTER.get_xpub_from_path("m/44'/195'/0'")


@pytest.mark.parametrize("text", [USDT, USDT_HEX, USDT_HEX.upper(), "0x" + USDT_HEX])
def test_an_address_has_one_spelling(text: str) -> None:
    assert formats.parse_address(CHAIN, text) == USDT


@pytest.mark.parametrize(
    "text",
    [
        "",
        USDT.lower(),
        USDT[:-1] + "u",
        USDT + " ",
        " " + USDT,
        USDT[:-1],
        "0x" + USDT_HEX[2:],  # an EVM chain's
        USDT_HEX[2:],
        "a0" + USDT_HEX[2:],  # the prefix of a network that is no more
        "00" + USDT_HEX[2:],
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        base58.b58encode_check(bytes.fromhex("40" + USDT_HEX[2:])).decode(),
        base58.b58encode_check(bytes.fromhex(USDT_HEX + "00")).decode(),
    ],
)
def test_what_is_no_address_of_tron_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        formats.parse_address(CHAIN, text)
    assert caught.value.field == "address"


def test_a_transaction_has_one_spelling() -> None:
    id_ = "5e8e3cdf239f31c678b6119c95c76c402a71f50947d960c3905825ee648cd75a"
    for text in (id_, id_.upper(), "0x" + id_, "0x" + id_.upper()):
        assert formats.parse_chain_tx(CHAIN, text) == id_
    for wrong in ("", id_[:-1], id_ + "0", id_ + "\n", id_.replace("5", "g")):
        with pytest.raises(InvalidRequestError):
            formats.parse_chain_tx(CHAIN, wrong)


def test_a_tag_is_short_text_in_one_spelling() -> None:
    assert formats.parse_tag(CHAIN, "  Order 7 ") == "Order 7"
    assert formats.parse_tag(CHAIN, "Zu\u0308rich") == "Z\u00fcrich"
    assert formats.parse_tag(CHAIN, "\u00e9" * 32) == "\u00e9" * 32
    for wrong in ("", "  ", "\u00e9" * 33, "x" * 65, "a\nb", "a\x00", "a\u200bb", "\ud800", "x" * 10_000):
        with pytest.raises(InvalidRequestError) as caught:
            formats.parse_tag(CHAIN, wrong)
        assert caught.value.field == "tag"


def test_a_new_tag_is_nobodys_and_can_be_read_out() -> None:
    made = {formats.new_tag(CHAIN) for _ in range(1_000)}
    assert len(made) == 1_000
    assert not set("".join(made)) & set("0O1IL2Z5SBUoil")
    assert all(formats.parse_tag(CHAIN, tag) == tag for tag in made)


def test_addresses_are_those_that_wallets_show() -> None:
    # Public wallets show these five for the phrase (Ian Coleman's BIP-39 tool, Ledger's Tron app for the first).
    assert [formats.derive(CHAIN, formats.check_extended_key(CHAIN, XPUB), index) for index in range(5)] == [
        "TUEZSdKsoDHQMeZwihtdoBiN46zxhGWYdH",
        "TSeJkUh4Qv67VNFwY8LaAxERygNdy6NQZK",
        "TYJPRrdB5APNeRs4R7fYZSwW3TcrTKw2gx",
        "TRhVWK5XEDkQBDevcdCWW7RW51aRncty4W",
        "TT2X2yyubp7qpAWYYNE5JQWBtoZ7ikQFsY",
    ]
    for wrong in (-1, 2**31):
        with pytest.raises(InvalidRequestError):
            formats.derive(CHAIN, XPUB, wrong)


def test_keys_that_have_no_place_here_are_refused_and_not_repeated() -> None:
    private, other = MASTER.get_xpriv_from_path("m/44'/195'/0'"), BIP32.from_seed(SEED, network="test")
    no_point = base58.b58decode_check(XPUB)[:46] + b"\xff" * 32
    refused = {
        private: "private",
        other.get_xpriv_from_path("m/44'/195'/0'"): "private",
        other.get_xpub_from_path("m/44'/195'/0'"): "another network",
        MASTER.get_xpub(): "depth is 0",
        MASTER.get_xpub_from_path("m/44'/195'/0'/0"): "depth is 4",
        XPUB[:-1] + ("C" if XPUB[-1] != "C" else "D"): "checksum",
        XPUB[:-1]: "checksum",
        "": "checksum",
        "xprv" + "1" * 107: "checksum",
        MASTER.get_privkey_from_path("m/44'/195'/0'").hex(): "checksum",
        base58.b58encode_check(no_point).decode(): "no point of the curve",
    }
    for key, why in refused.items():
        with pytest.raises(InvalidRequestError, match=why) as caught:
            formats.check_extended_key(CHAIN, key)
        assert caught.value.field == "key"
        assert not key or key not in str(caught.value)
        assert caught.value.__context__ is None or key == "" or key not in str(caught.value.__context__)


def test_there_is_no_agreed_request_for_payment() -> None:
    assert formats.payment_uri(CHAIN, USDT, asset=f"{CHAIN}/slip44:195", scale=6, units=1, tag=None) is None


def test_spelling_needs_no_client_library() -> None:
    """The API imports this module, and tronpy takes a second and 50 MB."""
    code = (
        "import sys, chains.tron.formats; print([name for name in ('tronpy', 'web3', 'bip32') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
