"""`tallyrail fairness`: seeds of provably fair draws, and the check of a draw that anybody can make."""

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import values
from cli.acting import NOTHING_DONE, Commit
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, plain, say
from core import db
from domain.fairness import service as fairness
from domain.fairness import verification
from domain.fairness.models import FairnessSeed
from domain.fairness.outcomes import EDGE_BPS, Game, Outcome
from domain.fairness.states import SeedState
from domain.fairness.verification import Verdict

app = noun()
COLUMNS = (
    Column("Seed", "id"),
    Column("State", "state"),
    Column("Tenant", "tenant"),
    Column("Owner", "owner"),
    Column("Hash", "seed_hash"),
    Column("Client seed", "client_seed"),
    Column("Nonces", "nonces", right=True),
    Column("Sealed by", "sealed_by"),
    Column("Created", "created_at"),
    Column("Revealed", "revealed_at"),
)
TEXT = Column("Server seed", "server_seed")


# --- verifying ---------------------------------------------------------------------------------------------------


@app.command()
def verify(  # noqa: PLR0917  # typer names them at the call
    server_seed: Annotated[str, typer.Argument(help="As it was revealed: 64 hexadecimal digits.")],
    client_seed: Annotated[str, typer.Argument()],
    nonce: Annotated[int, typer.Argument()],
    game: Annotated[Game, typer.Argument()],
    edge_bps: Annotated[
        int | None, typer.Option(help=f"crash: the house's share in hundredths of a percent. Default: {EDGE_BPS}.")
    ] = None,
    mines: Annotated[int | None, typer.Option(help="mines: how many, 1 to 24.")] = None,
    rows: Annotated[int | None, typer.Option(help="plinko: 8 to 16.")] = None,
    seed_hash: Annotated[str | None, typer.Option(help="As it was shown before the draw.")] = None,
    outcome: Annotated[
        str | None, typer.Option(metavar="JSON", help="""As it was told after the draw: '{"roll": 5012}'.""")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a draw again from its seeds. Asks no server. Exit status 1 if what was shown or told doesn't fit."""
    given = {"edge_bps": edge_bps, "mines": mines, "rows": rows}
    verdict = verification.verify(
        server_seed=server_seed,
        client_seed=client_seed,
        nonce=nonce,
        game=game,
        params={name: value for name, value in given.items() if value is not None},
        seed_hash=seed_hash,
        outcome=None if outcome is None else _outcome(outcome),
    )
    if as_json:
        document(
            {
                "outcome": verdict.outcome,
                "seed_hash": verdict.seed_hash,
                "hash_fits": verdict.hash_fits,
                "outcome_fits": verdict.outcome_fits,
            }
        )
    else:
        details({"Outcome": _said(game, verdict.outcome), "Hash of the server seed": verdict.seed_hash})
        typer.echo(f"\n{_sentence(verdict)}")
    if not verdict.fits:
        raise typer.Exit(1)


def _outcome(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{text[:80]!r} is no outcome: write it as the API tells it")
    return found


def _said(game: Game, outcome: Outcome) -> str:
    match game:
        case Game.CRASH:
            return f"crash at {_hundredths(int(str(outcome['point'])))}"
        case Game.DICE:
            return f"a roll of {_hundredths(int(str(outcome['roll'])))}"
        case Game.MINES:
            return f"mines on the tiles {plain(outcome['mines'])}"
        case Game.PLINKO:
            return f"{outcome['path']}, into slot {outcome['slot']}"


def _hundredths(number: int) -> str:
    return f"{number // 100}.{number % 100:02}"


def _sentence(verdict: Verdict) -> str:
    parts = []
    if verdict.hash_fits is not None:
        fits = "is" if verdict.hash_fits else "is NOT"
        parts.append(f"The server seed {fits} the one whose hash was shown.")
    if verdict.outcome_fits is not None:
        fits = "is" if verdict.outcome_fits else "is NOT"
        parts.append(f"The outcome {fits} the one that was told.")
    return " ".join(parts) or "Compare the hash and the outcome with what was shown and told."


# --- seeds -------------------------------------------------------------------------------------------------------


def _row(seed: FairnessSeed, *, reveal: bool) -> dict[str, Any]:
    return {
        "id": seed.id,
        "tenant": seed.tenant,
        "owner": seed.owner,
        "state": seed.state,
        "seed_hash": seed.seed_hash,
        "client_seed": seed.client_seed,
        "nonces": seed.next_nonce,
        "sealed_by": seed.sealed_by,
        "created_at": seed.created_at,
        "activated_at": seed.activated_at,
        "revealed_at": seed.revealed_at,
    } | ({"server_seed": fairness.revealed_seed(seed)} if reveal else {})


@app.command()
def seeds(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    owner: Annotated[str | None, typer.Option(help="Only of this player.")] = None,
    state: Annotated[SeedState | None, typer.Option()] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Also the texts of those that are revealed.")] = False,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Seeds, newest first: by their hashes. The text of a seed that is not revealed is never shown."""
    with db.transaction() as session:
        found = fairness.seeds(session, tenant=tenant, owner=owner, state=state, before=cursor, limit=limit + 1)
    rows = [_row(seed, reveal=reveal) for seed in found[:limit]]
    listing(
        "seeds",
        rows,
        (*COLUMNS, TEXT) if reveal else COLUMNS,
        as_json=as_json,
        empty="There are no such seeds.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def rotate(
    owner: Annotated[str, typer.Argument(help="The player.")],
    *,
    tenant: Annotated[str, typer.Option()],
    client_seed: Annotated[str | None, typer.Option(help="Default: the last one.")] = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Reveal a player's active seed and begin the next. Prints the plan unless --commit is given."""
    with db.transaction() as session:
        if commit:
            made = fairness.rotate(session, tenant, owner, client_seed=client_seed)
            before, coming = made.revealed, made.active
        else:
            found = fairness.seeds_of(session, tenant, owner)
            before, coming = found.active, found.committed
    if as_json:
        told = {
            "revealed": None if before is None else _row(before, reveal=commit),
            "active": _row(coming, reveal=False),
        }
        document({**told, "committed": commit})
        return
    details(
        {
            "Reveals": None if before is None else before.seed_hash,
            "Nonces": None if before is None else before.next_nonce,
            "Server seed": None if before is None or not commit else fairness.revealed_seed(before),
            "Begins": coming.seed_hash,
            "Client seed": client_seed or coming.client_seed or (before.client_seed if before else None),
        }
    )
    typer.echo("\nRotated." if commit else f"\n{NOTHING_DONE}")


@app.command()
def reseal(*, commit: Commit = False) -> None:
    """Seal every seed by the first of FAIRNESS_KEYS, so that the others can be taken out. Safe to interrupt."""
    with db.transaction() as session:
        by, before = fairness.sealed_otherwise(session)
    if not commit:
        typer.echo(f"{before} seeds are sealed by another key than {by}. {NOTHING_DONE}")
        return
    last: UUID | None = None
    while True:
        with db.transaction() as session:
            last = fairness.reseal(session, after=last)
        if last is None:
            break
    with db.transaction() as session:
        _, left = fairness.sealed_otherwise(session)
    typer.echo(f"Of {before} seeds that another key had sealed, {left} are not sealed by {by} yet.")
    if left:
        say("These can't be opened: the log says why.")
        raise typer.Exit(1)
