"""Spellings. Vectors: Solana Pay's own tests (github.com/solana-foundation/solana-pay, core/test/encodeURL.test.ts)."""

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from spl.token.instructions import get_associated_token_address

from chains import formats
from core.errors import InvalidRequestError
from tests.support.solana import MAINNET, USDC

PAYEE = "FnHyam9w4NZoWR6mKN1CuGBritdsEWZQa4Z4oawLZGxa"
REFERENCE = "9aE476sH92Vz7DMPyq5WLPkrKWivxeuTKEFKd2sZZcde"
SIGNATURE = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW"
COIN = f"{MAINNET}/slip44:501"
TOKEN = f"{MAINNET}/token:{USDC}"


def uri(asset: str = COIN, scale: int = 9, units: int | None = None, tag: str | None = None) -> str | None:
    return formats.payment_uri(MAINNET, PAYEE, asset=asset, scale=scale, units=units, tag=tag)


def test_a_wallet_is_spelled_as_it_is() -> None:
    assert formats.parse_address(MAINNET, PAYEE) == PAYEE


@pytest.mark.parametrize(
    "text",
    [
        "",
        PAYEE.lower(),
        PAYEE[:-1],
        PAYEE + "1",
        " " + PAYEE,
        PAYEE + "\n",
        "0x" + "ab" * 32,
        "I" * 44,
        "z" * 44,
        SIGNATURE,
        "Ünïcode",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        formats.parse_address(MAINNET, text)
    assert refused.value.field == "address"


def test_a_token_account_is_not_taken_for_its_owner() -> None:
    account = get_associated_token_address(Pubkey.from_string(PAYEE), Pubkey.from_string(USDC))
    with pytest.raises(InvalidRequestError, match="no wallet"):
        formats.parse_address(MAINNET, str(account))


def test_about_half_of_all_misspelled_addresses_are_refused() -> None:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    taken = 0
    for letter in alphabet.replace(PAYEE[20], ""):
        try:
            formats.parse_address(MAINNET, PAYEE[:20] + letter + PAYEE[21:])
            taken += 1
        except InvalidRequestError:
            pass
    assert 15 <= taken <= 42


def test_a_signature_keeps_its_case() -> None:
    assert formats.parse_chain_tx(MAINNET, SIGNATURE) == SIGNATURE
    for text in (SIGNATURE.lower(), SIGNATURE[:-2], PAYEE, "", "0x" + "00" * 64):
        with pytest.raises(InvalidRequestError) as refused:
            formats.parse_chain_tx(MAINNET, text)
        assert refused.value.field == "chain_tx"


def test_a_tag_has_one_spelling() -> None:
    assert formats.parse_tag(MAINNET, " order 7\n") == "order 7"
    assert formats.parse_tag(MAINNET, "Zoe\u0308") == formats.parse_tag(MAINNET, "Zo\u00eb") == "Zo\u00eb"
    assert formats.parse_tag(MAINNET, REFERENCE) == REFERENCE
    for text in ("", " ", "a\nb", "a\x00b", "x" * 65, "\u00fc" * 33, "\ud800", "x" * 10_000):
        with pytest.raises(InvalidRequestError) as refused:
            formats.parse_tag(MAINNET, text)
        assert refused.value.field == "tag"


def test_new_tags_are_reference_keys_that_nobody_has() -> None:
    tags = {formats.new_tag(MAINNET) for _ in range(100)}
    assert len(tags) == 100
    assert all(formats.parse_tag(MAINNET, tag) == tag and len(bytes(Pubkey.from_string(tag))) == 32 for tag in tags)


def test_nothing_is_derived_and_no_key_is_repeated() -> None:
    assert formats.tells_payer(MAINNET) and formats.takes_tags(MAINNET) and not formats.derives(MAINNET)
    secret = str(Keypair())
    with pytest.raises(InvalidRequestError) as refused:
        formats.check_extended_key(MAINNET, secret)
    assert secret not in str(refused.value)
    with pytest.raises(InvalidRequestError):
        formats.derive(MAINNET, secret, 0)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (uri(), f"solana:{PAYEE}"),
        (uri(units=1_000_000_000), f"solana:{PAYEE}?amount=1"),
        (uri(units=1), f"solana:{PAYEE}?amount=0.000000001"),
        (uri(units=716_844_320_000_000), f"solana:{PAYEE}?amount=716844.32"),
        (uri(units=10**30), f"solana:{PAYEE}?amount=1000000000000000000000"),
        (uri(units=0), f"solana:{PAYEE}?amount=0"),
        (uri(asset=TOKEN, scale=6, units=1_010_000), f"solana:{PAYEE}?amount=1.01&spl-token={USDC}"),
        (uri(asset=TOKEN, scale=0, units=120), f"solana:{PAYEE}?amount=120&spl-token={USDC}"),
        (uri(units=100 * 10**9, tag="memo"), f"solana:{PAYEE}?amount=100&memo=memo"),
        (uri(tag="Order 5&6?"), f"solana:{PAYEE}?memo=Order%205%266%3F"),
        (
            uri(units=100_000_123_456_000, tag=REFERENCE),
            f"solana:{PAYEE}?amount=100000.123456&reference={REFERENCE}",
        ),
    ],
)
def test_payment_requests_are_those_of_solana_pay(made: str | None, expected: str) -> None:
    assert made == expected
