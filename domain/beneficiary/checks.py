"""What can be said of a destination without asking anybody: whether it can exist, and its one spelling.

No message repeats what was given: messages are logged.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from stdnum import iban
from stdnum.exceptions import InvalidChecksum, ValidationError

from chains import formats
from config.assets import registry
from core.errors import InvalidRequestError
from providers.payout.base import Destination, Kind

HOLDER_LENGTH_MAX = 140
"""What ISO 20022 gives a name."""
ENQUIRED = frozenset({Kind.BANK_NG, Kind.BANK_IN, Kind.UPI})
"""Kinds whose holder somebody may be able to tell. All others are verified by what is checked here."""
NAMED = ENQUIRED | {Kind.IBAN}
"""Kinds that can't be paid without a holder's name."""
BANKED = frozenset({Kind.BANK_NG, Kind.BANK_IN})

_NUBAN = re.compile(r"[0-9]{10}")
_BANK_NG = re.compile(r"[0-9]{3,6}")
_IFSC = re.compile(r"[A-Z]{4}0[A-Z0-9]{6}")
_ACCOUNT_IN = re.compile(r"[A-Z0-9]{5,35}")
_UPI = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}[a-z0-9]@[a-z][a-z0-9]{1,63}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_STRIPE = re.compile(r"acct_[A-Za-z0-9]{8,64}")
_SEPARATORS = re.compile(r"[ \u00a0-]")
_UPI_LENGTH_MAX = 255


def checked(destination: Destination, chain: str | None) -> Destination:
    """The destination in its one spelling. Raises InvalidRequestError with the name of the field at fault.

    `chain` is a CAIP-2 id, for addresses alone.
    """
    kind = destination.kind
    if (chain is None) is (kind is Kind.CHAIN):
        raise _wrong("chain", f"a destination {kind} " + ("needs the chain" if chain is None else "has no chain"))
    if destination.bank_code is None and kind in BANKED:
        raise _wrong("bank_code", f"a destination {kind} needs a bank_code")
    if destination.bank_code is not None and kind not in BANKED:
        raise _wrong("bank_code", f"a destination {kind} has no bank_code")
    if destination.tag is not None and kind is not Kind.CHAIN:
        raise _wrong("tag", f"a destination {kind} has no tag")
    named = replace(destination, holder=_holder(destination))
    return _on_chain(named, chain) if chain is not None else _CHECKS[kind](named)


def _wrong(field: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(why, field=field)


def _holder(destination: Destination) -> str | None:
    given = destination.holder
    if given is None:
        if destination.kind in NAMED:
            raise _wrong("holder", f"a destination {destination.kind} needs its holder's name")
        return None
    name = " ".join(given.split())
    if not (0 < len(name) <= HOLDER_LENGTH_MAX and name.isprintable() and any(each.isalpha() for each in name)):
        raise _wrong("holder", f"a holder's name has 1 to {HOLDER_LENGTH_MAX} printable characters, letters among them")
    return name


# --- Nigeria -------------------------------------------------------------------------------------------------------


def nuban_fits(bank_code: str, number: str) -> bool | None:
    """Whether a NUBAN's last digit is the one that its bank's code makes of the rest. None: it can't be told.

    Central Bank of Nigeria, NUBAN scheme (2010, revised 2020): code and serial number, weighted 3, 7, 3 again and
    again, and the check digit sum to a multiple of ten. Deposit money banks have three digits, up to 303, and keep to
    it. What can't be told: codes from 304 on were given to mobile money operators, whose accounts are telephone
    numbers, and to microfinance and mortgage banks before they had NUBANs; longer codes are NIBSS's or a provider's
    own, and not what the digit is made of. For these the enquiry is the check.
    """
    if len(bank_code) != _CBN_DIGITS or bank_code > _DEPOSIT_MONEY_MAX:
        return None
    weighted = sum(int(digit) * weight for digit, weight in zip(bank_code + number[:9], (3, 7, 3) * 4, strict=True))
    return (weighted + int(number[9])) % 10 == 0


_CBN_DIGITS, _DEPOSIT_MONEY_MAX = 3, "303"


def _bank_ng(destination: Destination) -> Destination:
    code, number = destination.bank_code or "", _SEPARATORS.sub("", destination.number)
    if not _BANK_NG.fullmatch(code):
        raise _wrong("bank_code", "a Nigerian bank's code has 3 to 6 digits: GET /v1/banks?kind=bank_ng lists them")
    if not _NUBAN.fullmatch(number):
        raise _wrong("number", "a Nigerian account number (NUBAN) has 10 digits")
    if nuban_fits(code, number) is False:
        raise _wrong("number", "this is no account number of that bank: its check digit (NUBAN) is wrong")
    return replace(destination, number=number)


# --- India ---------------------------------------------------------------------------------------------------------


def _bank_in(destination: Destination) -> Destination:
    """IFSC (Reserve Bank of India): four letters, 0, six letters or digits.

    Account numbers have no form in common, nor a check digit; providers take 5 to 35 letters and digits.
    """
    code = (destination.bank_code or "").strip().upper()
    number = _SEPARATORS.sub("", destination.number).upper()
    if not _IFSC.fullmatch(code):
        raise _wrong("bank_code", "an IFSC is four letters, 0, and six letters or digits, such as HDFC0001234")
    if not _ACCOUNT_IN.fullmatch(number):
        raise _wrong("number", "an Indian account number has 5 to 35 letters and digits")
    return replace(destination, bank_code=code, number=number)


def _upi(destination: Destination) -> Destination:
    """NPCI's virtual payment address: letters, digits, `.`, `-`, `_`, then `@` and a handle. Case makes no difference.

    Handles come and go, so none is unknown here. One with a dot is refused: that is an email address.
    """
    address = destination.number.strip().lower()
    if len(address) > _UPI_LENGTH_MAX or not _UPI.fullmatch(address):
        raise _wrong("number", "a UPI id is a name, @ and a handle, such as name@bank")
    return replace(destination, number=address)


# --- others --------------------------------------------------------------------------------------------------------


def _iban(destination: Destination) -> Destination:
    """ISO 13616: check digits (ISO 7064, MOD 97-10), and the country's length and form by the SWIFT registry.

    Countries' own checks are left to banks: some go by lists of banks, which grow old with the library.
    """
    number = _SEPARATORS.sub("", destination.number).upper()
    if not _IBAN.fullmatch(number):
        raise _wrong("number", "an IBAN is a country, two check digits, and 11 to 30 letters and digits")
    try:
        iban.validate(number, check_country=False)
    except InvalidChecksum:
        raise _wrong("number", "this is no IBAN: its check digits are wrong") from None
    except ValidationError:
        raise _wrong("number", "this is no IBAN: its country has none, or another length or form") from None
    return replace(destination, number=number)


def _stripe(destination: Destination) -> Destination:
    number = destination.number.strip()
    if not _STRIPE.fullmatch(number):
        raise _wrong("number", "a connected account at Stripe is acct_ and letters and digits")
    return replace(destination, number=number)


_CHECKS: dict[Kind, Callable[[Destination], Destination]] = {
    Kind.BANK_NG: _bank_ng,
    Kind.BANK_IN: _bank_in,
    Kind.UPI: _upi,
    Kind.IBAN: _iban,
    Kind.STRIPE: _stripe,
}

_NOBODY = {
    "eip155": "0x" + "0" * 40,
    "solana": "1" * 32,  # the system program
    "tron": "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb",
    "aptos": "0x" + "0" * 64,
}
"""By namespace, the address of zeros: nobody has its key, and what goes there is gone."""


def _on_chain(destination: Destination, chain: str) -> Destination:
    """The chain's own spelling and checksum: EIP-55, base58check, bech32(m). Solana's and Aptos's have none."""
    if chain not in registry().chains:
        raise _wrong("chain", "there is no such chain in the registry")
    try:
        address = formats.parse_address(chain, destination.number.strip())
    except InvalidRequestError:
        # The chain's own words repeat what was given.
        raise _wrong("number", f"this is no address of {chain}, or its checksum is wrong") from None
    if address == _NOBODY.get(chain.partition(":")[0]):
        raise _wrong("number", "nobody has the key of that address")
    tag = destination.tag
    if tag is not None:
        try:
            tag = formats.parse_tag(chain, tag)
        except InvalidRequestError:
            raise _wrong("tag", f"payments on {chain} carry no such tag") from None
    return replace(destination, number=address, tag=tag)
