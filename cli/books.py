"""`tallyrail ledger verify`, `heads`, `audits` and `audit`: whether the books hold, and how it is known."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from cli.output import AsJson, Column, age, details, document, listing, say
from core import db, jobs
from core.errors import InvalidRequestError
from core.jobs import NewJob
from ledger import audit as proofs
from ledger import seals
from ledger.seals import Head
from ledger.violations import Violation, merged

HEADS = (
    Column("Shard", "shard", right=True),
    Column("Seal", "seal", right=True),
    Column("Number", "number", right=True),
    Column("Journals", "journals", right=True),
    Column("Head", "hash"),
    Column("Sealed at", "sealed_at"),
)
_HEADS = TypeAdapter(dict[str, list[Head]])


def verify(
    *,
    full: Annotated[
        bool, typer.Option("--full/--since-seal", help="All of the books, or what was booked since the last seal.")
    ] = True,
    exported: Annotated[
        Path | None,
        typer.Option("--heads", help="Heads that `ledger heads --json` gave: the chain must still go through them."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove the books from their rows alone. Exit status 1, and each rule that does not hold, if they are wrong.

    Reads piece by piece, so it may run while money moves, and holds nobody up.
    """
    known = _read(exported) if exported is not None else []
    with db.transaction() as session:
        found = seals.check_heads(session, known)
        after = 0 if full else seals.sealed_upto(session)
    for _, _, wrong in proofs.walk(after=after, full=full):
        found += wrong
    violations = merged(found)
    if as_json:
        document({"holds": not violations, "violations": [asdict(one) for one in violations]})
    elif not violations:
        typer.echo("The books balance: every rule holds.")
    else:
        _show(violations)
    if violations:
        say(f"tallyrail: the books are wrong: {len(violations)} of the rules do not hold")
        raise typer.Exit(1)


def _read(path: Path) -> list[Head]:
    try:
        return _HEADS.validate_json(path.read_bytes())["heads"]
    except OSError as error:
        raise InvalidRequestError(f"{path} can't be read: {error.strerror}") from error
    except (ValidationError, KeyError) as error:
        raise InvalidRequestError(f"{path} holds no heads: make it by `tallyrail ledger heads --json`") from error


def _show(violations: Sequence[Violation]) -> None:
    for violation in violations:
        typer.echo(str(violation))


def heads(*, as_json: AsJson = False) -> None:
    """The ends of the hash chain. Keep them outside the database: `verify --heads` proves history against them."""
    with db.transaction() as session:
        rows = [asdict(head) for head in seals.heads(session)]
    listing("heads", rows, HEADS, as_json=as_json, empty="Nothing is sealed.")


def audits(*, as_json: AsJson = False) -> None:
    """What the audits by schedule say. Exit status 1 if something was found and not proved right since."""
    with db.transaction() as session:
        status = proofs.status(session)
    if as_json:
        document(asdict(status))
    else:
        details(
            {
                "Last audit": _ago(status.since_incremental),
                "Last full audit": _ago(status.since_full),
                "Not sealed": f"{status.unsealed.journals} journals",
                "Oldest of them": status.unsealed.oldest if status.unsealed.journals else None,
            }
        )
        _show(status.violations)
    if status.violations:
        say("tallyrail: the audits found what is wrong with the books: see `tallyrail ledger verify`")
        raise typer.Exit(1)


def _ago(since: timedelta | None) -> str:
    return "never" if since is None else f"{age(since)} ago"


def audit() -> None:
    """Ask for a full audit now, instead of waiting for the night. What it proves right is no longer told as wrong."""
    with db.transaction() as session:
        made = jobs.submit(session, NewJob("maintenance.audit_ledger", {"kind": "full"}))
    typer.echo(made)
    say("The audit is a job: `tallyrail jobs show` it; `tallyrail ledger audits` tells what it found.")
