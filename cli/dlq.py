"""`tallyrail dlq`: dead letters, read, mended, replayed or given up. Nothing happens without --commit."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import letters, values
from cli.acting import NOTHING_DONE, Actor, Commit, Reason, checked, user
from cli.jobs import row_of, show_job
from cli.letters import Chosen, Edit, Filters
from cli.nouns import noun
from cli.output import AsJson, Column, document, listing, say, section, table
from core import db, jobs
from core.errors import ConflictError, NotFoundError
from domain.dead_letter import service

app = noun()
SHOWN = 20
"""Letters that a plan lists one by one. A storm is shown by its kinds."""
BULK_MAX = 10_000
COLUMNS = (
    Column("Letter", "id"),
    Column("Task", "task"),
    Column("Tenant", "tenant"),
    Column("Kind", "error_kind"),
    Column("Died", "finished_at"),
    Column("Subject", "subject"),
    Column("Error", lambda row: str(row["error"] or "").strip().split("\n", 1)[0], free=True),
)
ACTIONS = (
    Column("At", "at"),
    Column("Action", "action"),
    Column("By", "actor"),
    Column("Reason", "reason", free=True),
    Column("Arguments", lambda row: "edited" if row["args_before"] != row["args_after"] else "as they were"),
)
PLANNED = (Column("Letter", "id"), Column("Task", "task"), Column("Tenant", "tenant"), Column("Kind", "kind"))
GROUPS = (Column("Letters", "count", right=True), *PLANNED[1:])

Ids = Annotated[list[UUID] | None, typer.Argument(metavar="[LETTER]...", help="Ids of dead letters.")]
Task = Annotated[str | None, typer.Option(help="Only of this task, by its whole name.")]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Kind = Annotated[
    str | None, typer.Option(help="Only errors of this kind: transient, permanent, outcome_unknown, invariant, ...")
]
Since = Annotated[
    datetime | None, typer.Option(parser=values.past, metavar="TIME", help="Died since: 2h, or 2026-01-31T12:00Z.")
]
Every = Annotated[bool, typer.Option("--all", help="Every dead letter, without a filter.")]
Bulk = Annotated[int, typer.Option(min=1, max=100_000, help="Letters at most, of those that filters choose.")]


@app.command("list")
def list_letters(
    *,
    task: Task = None,
    tenant: Tenant = None,
    kind: Kind = None,
    since: Since = None,
    limit: values.Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Dead letters, oldest first."""
    with db.transaction() as session:
        found = Filters(task, tenant, kind, since).find(session, limit + 1)
    rows = [row_of(job) for job in found[:limit]]
    listing("letters", rows, COLUMNS, as_json=as_json, empty="There are no such dead letters.")
    if len(found) > limit:
        say(f"There are more than {limit}: narrow the filters, or raise --limit.")


@app.command()
def show(letter: UUID, *, as_json: AsJson = False) -> None:
    """One letter: arguments, error, traceback, and what was done with it."""
    with db.transaction() as session:
        job = jobs.get(session, letter)
        actions = [
            {
                "at": action.created_at,
                "action": action.action,
                "actor": action.actor,
                "reason": action.reason,
                "args_before": action.args_before,
                "args_after": action.args_after,
            }
            for action in service.actions(session, letter)
        ]
    if job is None:
        raise NotFoundError(f"there is no job {letter}")
    if as_json:
        document({**row_of(job), "last_error": job.last_error, "actions": actions})
        return
    show_job(job)
    if actions:
        typer.echo("")
        table(actions, ACTIONS, title="What was done")


@app.command()
def replay(
    ids: Ids = None,
    *,
    task: Task = None,
    tenant: Tenant = None,
    kind: Kind = None,
    since: Since = None,
    every: Every = False,
    limit: Bulk = BULK_MAX,
    rate: Annotated[
        timedelta,
        typer.Option(parser=values.pause_of, metavar="RATE", help="How fast they may begin: 50/s, 600/m, 1000/h."),
    ] = "50/s",  # type: ignore[assignment]  # goes through the parser
    args: Annotated[
        str | None, typer.Option(metavar="JSON", help="New arguments, for one letter. Needs --reason.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back on their queues. Prints the plan unless --commit is given.

    Replaying twice queues once. Many are spread over time by --rate. If it is interrupted, run it again: what is queued
    already is not touched.
    """
    ids = ids or []
    if args is not None and (len(ids) != 1 or not (reason or "").strip()):
        raise typer.BadParameter("--args edits one letter, named by its id, and needs --reason")
    chosen = letters.choose(ids, Filters(task, tenant, kind, since), every=every, limit=limit, runnable=True)
    _need_any(ids, chosen)
    edit = None if args is None else letters.edit(ids[0], args)
    who = actor or user()
    plan: dict[str, Any] = {**_plan("replay", chosen, who, reason), "last_begins_after": _last(chosen, rate)}
    if edit is not None:
        plan["args"] = {"before": edit.before, "after": edit.after}
    if not as_json:
        spread = f", the last {_last(chosen, rate)} s after the first" if len(chosen.letters) > 1 else ""
        _show_plan(chosen, f"Replay {len(chosen.letters)} as {who}{spread}.")
        _show_edit(edit)
    done = 0
    if commit:
        done = letters.act(
            chosen,
            lambda session, letter, delay: service.replay(
                session, letter, actor=who, reason=reason, args=edit.after if edit else None, delay=delay
            ),
            pause=rate,
        )
    _report(plan, chosen, done, "queued", commit=commit, as_json=as_json)


@app.command()
def discard(
    ids: Ids = None,
    *,
    task: Task = None,
    tenant: Tenant = None,
    kind: Kind = None,
    since: Since = None,
    every: Every = False,
    limit: Bulk = BULK_MAX,
    reason: Reason,
    actor: Actor = None,
    commit: Commit = False,
    as_json: AsJson = False,
) -> None:
    """Give dead letters up for good. Prints the plan unless --commit is given."""
    reason = checked(reason)
    ids = ids or []
    chosen = letters.choose(ids, Filters(task, tenant, kind, since), every=every, limit=limit, runnable=False)
    _need_any(ids, chosen)
    who = actor or user()
    if not as_json:
        _show_plan(chosen, f"Discard {len(chosen.letters)} as {who}: {reason}")
    done = 0
    if commit:
        done = letters.act(
            chosen, lambda session, letter, _: service.discard(session, letter, actor=who, reason=reason)
        )
    _report(_plan("discard", chosen, who, reason), chosen, done, "discarded", commit=commit, as_json=as_json)


def _need_any(ids: list[UUID], chosen: Chosen) -> None:
    """Whoever names letters means them; a filter may well find none."""
    if ids and not chosen.letters:
        raise ConflictError("nothing to do: " + "; ".join(f"{job}: {why}" for job, why in chosen.left.items()))


def _last(chosen: Chosen, pause: timedelta) -> float:
    return round((pause * max(len(chosen.letters) - 1, 0)).total_seconds(), 3)


def _plan(action: str, chosen: Chosen, actor: str, reason: str | None) -> dict[str, Any]:
    return {
        "action": action,
        "actor": actor,
        "reason": reason,
        "letters": [
            {"id": letter.id, "task": letter.task, "tenant": letter.tenant, "kind": letter.kind}
            for letter in chosen.letters
        ],
        "more": chosen.more,
    }


def _show_plan(chosen: Chosen, words: str) -> None:
    found = chosen.letters
    if not found:
        return
    if len(found) <= SHOWN:
        rows = [{"id": one.id, "task": one.task, "tenant": one.tenant, "kind": one.kind} for one in found]
        table(rows, PLANNED)
    else:
        counts = Counter((one.task, one.tenant, one.kind) for one in found)
        table(
            [
                {"count": count, "task": task, "tenant": tenant, "kind": kind}
                for (task, tenant, kind), count in counts.most_common()
            ],
            GROUPS,
        )
    typer.echo(f"\n{words}")


def _show_edit(edit: Edit | None) -> None:
    if edit is not None:
        section("Arguments", edit.diff or "as they are")
        typer.echo("")


def _report(plan: dict[str, Any], chosen: Chosen, done: int, verb: str, *, commit: bool, as_json: bool) -> None:
    if as_json:
        left = [{"id": job, "why": why} for job, why in chosen.left.items()]
        document({**plan, "committed": commit, "done": done, "left": left})
        return
    for job, why in chosen.left.items():
        say(f"Left alone: {job}: {why}")
    if chosen.more:
        say("There are more than --limit let through: run it again afterwards.")
    if not chosen.letters:
        typer.echo("No dead letter fits: nothing to do.")
    elif commit:
        typer.echo(f"{done} {verb}, {len(chosen.left)} left alone.")
    else:
        typer.echo(NOTHING_DONE)
