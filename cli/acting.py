"""Options of commands that a person answers for: who, why, and whether to do it at all."""

import getpass
from typing import Annotated

import typer

Commit = Annotated[bool, typer.Option("--commit", help="Do it. Without this only the plan is printed.")]
Actor = Annotated[str | None, typer.Option(help="Who does it, for the record. Default: the user of this machine.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
NOTHING_DONE = "Nothing was done. Add --commit to do it."


def user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        raise typer.BadParameter("this user has no name: say who you are with --actor") from None


def checked(reason: str) -> str:
    """A reason that says something."""
    if not reason.strip():
        raise typer.BadParameter("--reason must say why")
    return reason
