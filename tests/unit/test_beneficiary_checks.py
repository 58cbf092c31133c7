"""What a destination must be, what spelling is kept of it, and what is shown."""

from typing import Any

import pytest
from base58 import b58encode_check
from hypothesis import given
from hypothesis import strategies as st

from config.assets import registry
from core.errors import InvalidRequestError
from domain.beneficiary import sealing
from domain.beneficiary.checks import ENQUIRED, checked, nuban_fits
from providers.payout.base import Destination, Kind

GTB: dict[str, Any] = {"kind": Kind.BANK_NG, "bank_code": "058", "number": "0123456785", "holder": "Ada Obi"}
HDFC: dict[str, Any] = {
    "kind": Kind.BANK_IN,
    "bank_code": "HDFC0001234",
    "number": "50100123456789",
    "holder": "Ada Obi",
}
UPI: dict[str, Any] = {"kind": Kind.UPI, "number": "ada@okaxis", "holder": "Ada Obi"}
DE: dict[str, Any] = {"kind": Kind.IBAN, "number": "DE89370400440532013000", "holder": "Ada Obi"}
ACCT: dict[str, Any] = {"kind": Kind.STRIPE, "number": "acct_1032D82eZvKYlo2C"}
ETH: dict[str, Any] = {"kind": Kind.CHAIN, "chain": "eip155:1", "number": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}
CHAINS = {
    kind: next(chain for chain in registry().chains if chain.startswith(kind))
    for kind in ("bip122", "solana", "tron", "aptos")
}


def check(*, chain: str | None = None, **given_: Any) -> Destination:
    return checked(Destination(**given_), chain)


def wrong(base: dict[str, Any], **given_: Any) -> str | None:
    with pytest.raises(InvalidRequestError) as error:
        check(**base | given_)
    if (number := str((base | given_)["number"])) and any(each.isdigit() for each in number):
        assert number not in str(error.value)
    assert error.value.__cause__ is None and error.value.__suppress_context__ is (error.value.__context__ is not None)
    return error.value.field


# --- Nigeria ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bank", "number"),
    # The first two from the circular of the Central Bank of Nigeria, the last a test account of Flutterwave's.
    [("011", "0000014579"), ("011", "0000000220"), ("058", "0123456785"), ("044", "0690000032")],
)
def test_a_nuban_has_the_check_digit_of_its_bank(bank: str, number: str) -> None:
    assert nuban_fits(bank, number)
    assert check(kind=Kind.BANK_NG, bank_code=bank, number=number, holder="A").number == number
    for digit in set("0123456789") - {number[9]}:
        assert wrong(GTB, bank_code=bank, number=number[:9] + digit) == "number"


@given(st.text("0123456789", min_size=9, max_size=9))
def test_of_ten_last_digits_one_fits(serial: str) -> None:
    assert [nuban_fits("058", f"{serial}{digit}") for digit in range(10)].count(True) == 1


def test_where_the_digit_is_made_of_another_code_it_is_not_checked() -> None:
    for bank in ("305", "50211", "090267", "999992"):
        assert nuban_fits(bank, "8031234567") is None
        assert check(**GTB | {"bank_code": bank, "number": "8031234567"}).bank_code == bank


def test_nigerian_accounts() -> None:
    assert check(**GTB | {"number": "0123-456 785"}).number == "0123456785"
    for number in ("012345678", "01234567855", "012345678X", "", "٠١٢٣٤٥٦٧٨٥"):
        assert wrong(GTB, number=number) == "number"
    for bank in (None, "58", "0580000", "GTB", "", "٠٥٨"):
        assert wrong(GTB, bank_code=bank) == "bank_code"


# --- India ------------------------------------------------------------------------------------------------------------


def test_indian_accounts() -> None:
    assert check(**HDFC | {"bank_code": "hdfc0001234", "number": "5010 0123 456789"}) == Destination(**HDFC)
    for bank in (None, "HDFC1001234", "HDFC000123", "HDFC00012345", "HDF00001234", "HDFC0-01234"):
        assert wrong(HDFC, bank_code=bank) == "bank_code"
    for number in ("1234", "1" * 36, "5010/123", ""):
        assert wrong(HDFC, number=number) == "number"


@pytest.mark.parametrize("address", ["ada@okaxis", "9876543210@ybl", "a.b-c_1@upi", "ada1@rmhdfcbank", "a1@s2b"])
def test_upi_ids(address: str) -> None:
    assert check(**UPI | {"number": address}).number == address
    assert check(**UPI | {"number": f" {address.upper()} "}).number == address


@pytest.mark.parametrize(
    "address",
    ["ada", "ada@", "@okaxis", "a@okaxis", "ada@ok.axis", "ada@example.com", "ada@@okaxis", "a b@okaxis", ".ada@okaxis",
     "ada@1bank", "ada@o", f"{'a' * 250}@okaxis", "ada@okaxis\n@x", "ádá@okaxis"],
)  # fmt: skip
def test_what_is_no_upi_id(address: str) -> None:
    assert wrong(UPI, number=address) == "number"


# --- Europe, Stripe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    # From the SWIFT registry's examples.
    ["DE89370400440532013000", "GB29NWBK60161331926819", "NO9386011117947", "FR1420041010050500013M02606",
     "MT84MALT011000012345MTLCAST001S", "ES9121000418450200051332", "BE68539007547034"],
)  # fmt: skip
def test_ibans(number: str) -> None:
    spaced = " ".join(number[at : at + 4] for at in range(0, len(number), 4)).lower()
    assert check(**DE | {"number": spaced}).number == number
    for at, sign in enumerate(number):  # any one digit that was misread
        if sign.isdigit():
            assert wrong(DE, number=number[:at] + str((int(sign) + 1) % 10) + number[at + 1 :]) == "number"


@pytest.mark.parametrize(
    "number", ["", "DE", "DE8937040044053201300", "XX89370400440532013000", "US64SVBKUS6S3300958879"]
)
def test_what_is_no_iban(number: str) -> None:
    assert wrong(DE, number=number) == "number"


def test_connected_accounts() -> None:
    assert check(**ACCT) == Destination(**ACCT)
    for number in ("acct_", "1032D82eZvKYlo2C", "acct_1032D82e/vKYlo2C", "ba_1032D82eZvKYlo2C"):
        assert wrong(ACCT, number=number) == "number"


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chain", "written", "kept"),
    [
        ("eip155:1", str(ETH["number"]).lower(), ETH["number"]),
        (CHAINS["bip122"], "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        (CHAINS["tron"], "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"),
        (CHAINS["aptos"], "0x" + "AB" * 32, "0x" + "ab" * 32),
    ],
)
def test_an_address_is_kept_as_its_chain_spells_it(chain: str, written: str, kept: str) -> None:
    assert check(kind=Kind.CHAIN, chain=chain, number=written).number == kept


def test_what_is_no_address() -> None:
    for number in ("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5aAe", "", "not one"):
        assert wrong(ETH, number=number) == "number"
    assert wrong(ETH, chain="eip155:999999999") == "chain"
    assert wrong(ETH, tag="12345") == "tag"  # it has none
    assert (
        check(kind=Kind.CHAIN, chain=CHAINS["tron"], number="TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", tag=" 77 ").tag
        == "77"
    )


def test_nobody_has_the_key_of_the_address_of_zeros() -> None:
    tron = b58encode_check(b"\x41" + bytes(20)).decode()
    zeros = {"eip155:1": "0x" + "0" * 40, CHAINS["tron"]: tron, CHAINS["aptos"]: "0x0", CHAINS["solana"]: "1" * 32}
    for chain, number in zeros.items():
        assert wrong(ETH, chain=chain, number=number) == "number"


# --- all kinds --------------------------------------------------------------------------------------------------------


def test_each_kind_has_its_fields_and_no_other() -> None:
    for base in (GTB, HDFC, UPI, DE, ACCT):
        assert wrong(base, chain="eip155:1") == "chain"
        assert wrong(base, tag="1") == "tag"
    for base in (UPI, DE, ACCT, ETH):
        assert wrong(base, bank_code="058") == "bank_code"
    assert wrong(ETH, chain=None) == "chain"
    for base in (GTB, HDFC, UPI, DE):
        for holder in (None, "", "  ", "123", "Ada\nObi\x00", "a" * 141):
            assert wrong(base, holder=holder) == "holder"
    assert check(**GTB | {"holder": "  Ada   Obi "}).holder == "Ada Obi"
    assert set(Kind) == {base["kind"] for base in (GTB, HDFC, UPI, DE, ACCT, ETH)} and Kind.STRIPE not in ENQUIRED


@pytest.mark.parametrize(
    ("given_", "masked"),
    [
        (GTB, "058 ******6785"),
        (HDFC, "HDFC **********6789"),
        (HDFC | {"number": "12345"}, "HDFC ***45"),
        (UPI, "a***@okaxis"),
        (UPI | {"number": "9876543210@ybl"}, "98***@ybl"),
        (DE, "DE****3000"),
        (ACCT, "acct_****lo2C"),
        (ETH, "0x5aAe****1BeAed"),
    ],
)
def test_what_is_shown(given_: dict[str, Any], masked: str) -> None:
    assert sealing.masked(check(**given_)) == masked
