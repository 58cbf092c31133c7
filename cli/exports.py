"""`tallyrail ledger export`: a tenant's books as a file."""

import os
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated

import typer

from cli import values
from core.errors import InvalidRequestError
from ledger.exports import Format
from ledger.exports import export as read

Since = Annotated[
    datetime | None,
    typer.Option(parser=values.past, metavar="TIME", help="Booked since: 30d, or 2026-01-31T12:00Z."),
]
Until = Annotated[
    datetime | None, typer.Option(parser=values.past, metavar="TIME", help="Booked before: 1h, or 2026-02-28T12:00Z.")
]


def export(
    *,
    tenant: Annotated[str, typer.Option(help="Whose books.")],
    form: Annotated[Format, typer.Option("--format", help="beancount is text that `bean-check` proves.")],
    since: Since = None,
    until: Until = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: standard output. The file appears when it is whole.")
    ] = None,
) -> None:
    """A tenant's journals with their entries, all or of a period by the booked clock, for other programs.

    A file is for the eyes of its owner only, and is replaced if there is one already.
    """
    pieces = read(tenant, form, since=since, until=until)
    if output is None:
        # As bytes: UTF-8 and line ends as they are, whatever the terminal's are.
        _write(pieces, sys.stdout.buffer)
        return
    if output.exists() and not output.is_file():
        raise InvalidRequestError(f"{output} is no file that could be replaced", field="output")
    with NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", suffix=".part", delete=False) as part:
        try:
            _write(pieces, part.file)
            os.fsync(part.fileno())
            Path(part.name).replace(output)
        except BaseException:  # Ctrl-C too
            Path(part.name).unlink(missing_ok=True)
            raise
    typer.echo(f"Wrote {output}")


def _write(pieces: Iterable[str], file: IO[bytes]) -> None:
    file.writelines(piece.encode() for piece in pieces)
    file.flush()
