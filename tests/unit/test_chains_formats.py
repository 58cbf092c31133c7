from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains import formats
from core.errors import InvalidRequestError

CHAIN = "eip155:1"
# From EIP-55 itself.
CHECKSUMMED = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("address", CHECKSUMMED)
def test_an_address_has_one_spelling(address: str) -> None:
    assert formats.parse_address(CHAIN, address) == address
    assert formats.parse_address(CHAIN, address.lower()) == address
    assert formats.parse_address(CHAIN, "0x" + address[2:].upper()) == address


def test_a_wrong_checksum_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="checksum") as caught:
        formats.parse_address(CHAIN, CHECKSUMMED[4].replace("Beaed", "BeaeD").replace("BeAed", "BeaEd"))
    assert caught.value.field == "address"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        CHECKSUMMED[4][2:],
        CHECKSUMMED[4][:-1],
        CHECKSUMMED[4] + "0",
        CHECKSUMMED[4] + "\n",
        " " + CHECKSUMMED[4],
        "0X" + CHECKSUMMED[4][2:],
        "0x" + "g" * 40,
        "0x" + "\u0660" * 40,
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
        "vitalik.eth",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        formats.parse_address(CHAIN, text)
    assert caught.value.field == "address"


@given(st.binary(min_size=32, max_size=32), st.booleans(), st.booleans())
def test_a_transaction_has_one_spelling(raw: bytes, prefixed: bool, upper: bool) -> None:
    digits = raw.hex().upper() if upper else raw.hex()
    assert formats.parse_chain_tx(CHAIN, ("0x" if prefixed else "") + digits) == "0x" + raw.hex()


@pytest.mark.parametrize(
    "text", ["", "0x", "ab" * 31, "0x" + "ab" * 33, "0x" + "zz" * 32, "ab" * 32 + "\n", "0X" + "ab" * 32]
)
def test_what_is_no_transaction_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        formats.parse_chain_tx(CHAIN, text)
    assert caught.value.field == "chain_tx"


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (formats.parse_address, formats.parse_chain_tx):
        with suppress(InvalidRequestError):
            assert parse(CHAIN, parse(CHAIN, text)) == parse(CHAIN, text)


def test_other_kinds_of_chain_are_refused() -> None:
    for parse in (formats.parse_address, formats.parse_chain_tx):
        with pytest.raises(InvalidRequestError) as caught:
            parse("cosmos:cosmoshub-4", "ab" * 32)
        assert caught.value.field == "chain"
