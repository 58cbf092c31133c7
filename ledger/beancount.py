"""The books in beancount's words: names, strings, amounts, and the split of assets that it can't add up. Pure text.

Beancount's grammar: https://beancount.github.io/docs/beancount_language_syntax.html. Nothing of beancount is imported:
its licence is the GPL, and a text file needs none of it.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from core.errors import InvariantError
from ledger.chart import Kind

ROOTS = {
    Kind.ASSET: "Assets",
    Kind.LIABILITY: "Liabilities",
    Kind.EQUITY: "Equity",
    Kind.INCOME: "Income",
    Kind.EXPENSE: "Expenses",
}
OPENING = "Equity:Opening-Balances"
"""No account of the books has this name: `account_name` never makes "-B"."""

EXACT = 10**27
"""Beancount computes with 28 digits. Below this many smallest units, no sum or difference of it is rounded."""
PART_DIGITS = 18
PART = 10**PART_DIGITS
"""An asset whose sums are larger is written as two commodities, and one of the larger is this many smallest units. Then
10^9 entries of 38 digits add up without a rounding."""

_ESCAPES = {"-": "--", ".": "-d", "_": "-u"}
_SYMBOL = re.compile(r"[A-Z][A-Z0-9.]{0,10}[A-Z0-9]")
_STEM = re.compile(r"[A-Z][A-Z0-9]{0,5}")
_RESERVED = {"TRUE", "FALSE", "NULL"}
_IN_STRINGS = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_STRING = re.compile(r'[\\"\n\r\t]')


def account_name(kind: Kind, code: str) -> str:
    """`Liabilities:User:42:Available` for `user:42:available`. No two codes have one name; `account_code` reads it.

    Beancount wants each part to begin with a capital or a digit, and to have letters, digits and hyphens only. So the
    first letter is raised, and a hyphen begins what can't be written: `--` is a hyphen, `-d` a dot, `-u` an underscore,
    and `-c` after the first letter says that it was a capital before.
    """
    return ":".join([ROOTS[kind], *map(_component, code.split(":"))])


def _component(segment: str) -> str:
    first, rest = segment[0], "".join(_ESCAPES.get(sign, sign) for sign in segment[1:])
    return f"{first.upper()}-c{rest}" if first.isupper() else f"{first.upper()}{rest}"


def account_code(name: str) -> str:
    """The code that `account_name` made the name of."""
    return ":".join(_segment(part) for part in name.split(":")[1:])


def _segment(component: str) -> str:
    first, rest = component[0], component[1:]
    first, rest = (first, rest[2:]) if rest.startswith("-c") else (first.lower(), rest)
    back = {escape: sign for sign, escape in _ESCAPES.items()}
    return first + re.sub(r"-.", lambda found: back[found[0]], rest)


def commodity_names(symbols: Mapping[str, str]) -> dict[str, str]:
    """A name for each asset, by its id; `symbols` has the symbol of each, or "" where it has none.

    The symbol in capitals, where beancount can read it and no other asset has it; otherwise its beginning and 60 bits
    of the id's SHA-256: `USDT-7ZK2QW3M4PAB`. The latter have a hyphen and the former none, so the two can't meet.
    """
    upper = {asset: symbol.upper() for asset, symbol in symbols.items()}
    taken = Counter(upper.values())
    names = {}
    for asset, symbol in upper.items():
        if _SYMBOL.fullmatch(symbol) and symbol not in _RESERVED and taken[symbol] == 1:
            names[asset] = symbol
        else:
            digest = base64.b32encode(hashlib.sha256(asset.encode()).digest()).decode()
            stem = _STEM.match(symbol)
            names[asset] = f"{stem[0] if stem else 'X'}-{digest[:12]}"
    if len(set(names.values())) < len(names):
        raise InvariantError("two assets have one commodity name: their ids' SHA-256 begin alike")
    return names


def quoted(value: str) -> str:
    """A string of one line, which beancount reads back as it was."""
    return '"' + _STRING.sub(lambda found: _IN_STRINGS[found[0]], value) + '"'


def fixed(units: int, scale: int) -> str:
    """Units as a decimal with all of the asset's places: 1500000 at scale 6 is `1.500000`. Exact."""
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def parts(units: int) -> tuple[int, int]:
    """(larger, smaller): units = larger * PART + smaller, both with the sign of units."""
    larger, smaller = divmod(abs(units), PART)
    return (larger, smaller) if units >= 0 else (-larger, -smaller)


@dataclass(frozen=True, slots=True)
class Commodity:
    """An asset in the file."""

    asset: str
    name: str
    scale: int
    wide: bool
    """Its sums may have more digits than beancount computes with, so it is written in two parts."""

    @property
    def larger(self) -> str:
        return f"{self.name}_E{PART_DIGITS}"

    def directives(self, first: date) -> Iterator[str]:
        yield f"{first} commodity {self.name}\n  asset: {quoted(self.asset)}\n  scale: {self.scale}\n"
        if self.wide:
            yield f"{first} commodity {self.larger}\n  asset: {quoted(self.asset)}\n  units: {PART}\n"

    def amounts(self, units: int) -> Iterator[str]:
        """What units of the asset are in the file: one amount, or two where it is wide."""
        larger, smaller = parts(units) if self.wide else (0, units)
        if larger:
            yield f"{larger} {self.larger}"
        if smaller:
            yield f"{fixed(smaller, self.scale)} {self.name}"

    def balances(self, units: int, larger: int) -> Iterator[str]:
        """The same for a balance, nought too, if it was added up from entries whose larger parts sum to `larger`."""
        if self.wide:
            yield f"{larger} {self.larger}"
            units -= larger * PART
        yield f"{fixed(units, self.scale)} {self.name}"


def header(title: str) -> str:
    """No tolerance: a balance that is off by the smallest unit is wrong."""
    return f'option "title" {quoted(title)}\noption "tolerance_multiplier" "0"\n'


def opened(day: date, name: str, code: str | None = None) -> str:
    return f"{day} open {name}\n" + ("" if code is None else f"  code: {quoted(code)}\n")


def transaction(
    day: date,
    narration: str,
    notes: Mapping[str, str | None],
    lines: Iterator[str],
    links: tuple[str, ...] = (),
) -> str:
    """`notes` become metadata, without those that are None. `lines` are postings as `posting` makes them."""
    said = [f"  {key}: {quoted(value)}\n" for key, value in notes.items() if value is not None]
    linked = "".join(f" ^{link}" for link in links)
    return f"{day} * {quoted(narration)}{linked}\n{''.join(said)}{''.join(lines)}"


def posting(name: str, amount: str) -> str:
    return f"  {name}  {amount}\n"


def balance(day: date, name: str, amount: str) -> str:
    """What the account has as the day begins."""
    return f"{day} balance {name}  {amount}\n"
