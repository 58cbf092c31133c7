"""What commands print: tables for people, JSON for machines. Nothing is ever shortened: ids are there to be copied."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on standard output.")]

PIPE_WIDTH = 240
"""Where there is no screen and no COLUMNS, lines may be long: they are searched, not looked at."""
GAP = 2
"""Between columns: one is the table's own."""
FREE_WIDTH = 24
"""The least width of a column whose words may wrap."""

Row = Mapping[str, Any]


def plain(value: object) -> str:  # noqa: PLR0911  # a case a kind
    """A value as people read it, with what could steer a terminal made visible."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        case timedelta():
            return age(value)
        case list() | tuple():
            return " ".join(plain(part) for part in value)
        case dict():
            return _visible(json.dumps(value, ensure_ascii=False, default=_for_json))
        case _:
            return _visible(str(value))


def _visible(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign == "\n" else f"\\x{ord(sign):02x}" for sign in text)


def age(span: timedelta) -> str:
    """The two largest parts: `3d 4h`, `12m 5s`, `7s`."""
    seconds = int(span.total_seconds())
    if seconds < 0:
        return f"-{age(-span)}"
    parts: list[str] = []
    for letter, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or (parts and len(parts) < 2):  # noqa: PLR2004  # two parts
            parts.append(f"{count}{letter}")
    return " ".join(parts[:2]) or "0s"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, and its key in the row or how to make its text out of the row."""

    title: str
    of: str | Callable[[Row], object]
    right: bool = False
    free: bool = False
    """Words, which may wrap. All else is kept whole on a line."""

    def text(self, row: Row) -> str:
        return plain(row[self.of] if isinstance(self.of, str) else self.of(row))


def console() -> Console:
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size().columns if known else PIPE_WIDTH
    return Console(file=sys.stdout, width=max(width, 40), highlight=False, markup=False, emoji=False)


def listing(
    name: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    as_json: bool,
    empty: str,
    next_cursor: str | None = None,
    paged: bool = False,
) -> None:
    """A list. Machines get every field of each row, people the columns."""
    if as_json:
        document(({name: rows, "next_cursor": next_cursor}) if paged else {name: rows})
        return
    if not rows:
        typer.echo(empty)
        return
    table(rows, columns)
    if next_cursor is not None:
        typer.echo(f"\nMore: --cursor {next_cursor}")


def document(content: object) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=_for_json))


def _for_json(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case Mapping():
            return dict(value)
        case set() | frozenset():
            return sorted(value)
        case _:
            return str(value)


def table(rows: Sequence[Row], columns: Sequence[Column], *, title: str | None = None) -> None:
    """As a table where it fits; on a narrower screen, each row as a small block, so that no id is ever broken."""
    cells = [[column.text(row) for column in columns] for row in rows]
    screen = console()
    if title is not None:
        screen.print(Text(_visible(title), style="bold"), soft_wrap=True)
    if _width(columns, cells) <= screen.width:
        _print_table(screen, columns, cells)
    else:
        _print_blocks(screen, columns, cells)


def _width(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> int:
    total = GAP * (len(columns) - 1)
    for place, column in enumerate(columns):
        texts = [column.title, *(line for row in cells for line in row[place].splitlines())]
        needed = max(cell_len(text) for text in texts)
        total += min(needed, FREE_WIDTH) if column.free else needed
    return total


def _print_table(screen: Console, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), collapse_padding=True
    )
    for column in columns:
        made.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=not column.free, overflow="fold"
        )
    for row in cells:
        made.add_row(*(Text(text) for text in row))
    with screen.capture() as captured:
        screen.print(made)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _print_blocks(screen: Console, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    for place, row in enumerate(cells):
        if place:
            typer.echo("")
        typer.echo(row[0])
        said = [f"{column.title}: {text}" for column, text in zip(columns[1:], row[1:], strict=True) if text]
        for line in flow(said, screen.width - GAP):
            typer.echo(" " * GAP + line.rstrip())


def flow(parts: Iterable[str], width: int) -> list[str]:
    """As many whole parts a line as fit. One that is longer than a line stands alone on it, unbroken."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + 3 + cell_len(part) <= width:
            lines[-1] += f"   {part}"
        else:
            lines.append(part)
    return lines


def details(pairs: Mapping[str, object]) -> None:
    """One thing, a line for each of its fields that says something."""
    said = {title: text for title, value in pairs.items() if (text := plain(value))}
    width = max(map(len, said), default=0)
    for title, text in said.items():
        typer.echo(f"{title:<{width}}  {text}".replace("\n", "\n" + " " * (width + 2)))


def section(title: str, body: str) -> None:
    """A longer text under its title."""
    typer.echo(f"\n{title}\n{'─' * len(title)}\n{_visible(body.rstrip())}")


def pretty(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=_for_json)


def say(words: str) -> None:
    """Words beside the result, on standard error: standard output stays what a script can use."""
    typer.echo(words, err=True)
