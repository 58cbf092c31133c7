"""`tallyrail`: for operators and people on call."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from cli.nouns import Commands
from cli.output import AsJson

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    stack: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Use the servers of the `tallyrail up` that runs on this data folder."),
    ] = None,
) -> None:
    """The money worker platform, for operators and people on call.

    The servers are those of DATABASE_URL and REDIS_URL. Commands that change a lot print a plan and do nothing
    without --commit. Exit status: 0 done, 1 not done or not well, 2 wrong usage.
    """
    from cli import logs

    logs.configure()
    if stack is not None:
        _use(stack)


def _use(stack: Path) -> None:
    from core.errors import NotFoundError

    file = stack / "run" / "stack.json"
    if not file.is_file():
        raise NotFoundError(f"no stack has run on {stack}: {file} does not exist")
    facts = json.loads(file.read_text(encoding="utf-8"))
    named = {
        "DATABASE_URL": "database",
        "DATABASE_OWNER_URL": "database_owner",
        "REDIS_URL": "redis",
        "CHAINS_FILE": "chains_file",
        "RPC_URLS": "rpc_urls",
        "FAIRNESS_KEYS": "fairness_keys",
        "VAULT_KEYS": "vault_keys",
        "VAULT_FINGERPRINT_KEY": "vault_fingerprint_key",
    }
    os.environ.update({variable: facts[fact] for variable, fact in named.items() if facts.get(fact)})


@app.command()
def up(
    *,
    data: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("data"),
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="The API's. Default: the last one, if free.")] = (
        None
    ),
    dev_chain: Annotated[bool, typer.Option(help="Also run an EVM node to develop against.")] = False,
) -> None:
    """The whole platform on this machine, until Ctrl-C.

    The data stay. With DATABASE_URL or REDIS_URL set, those servers are used instead of starting some.
    """
    from local.up import up as run

    raise typer.Exit(run(data, port, dev_chain))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema.

    Also tells the ledger of new assets in the registry. Safe to repeat, and safe to run twice at once.
    """
    from cli.migrations import migrate as run

    run()


@app.command()
def health(
    *,
    stale_after: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Older heartbeats are stale.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Heartbeats, queue depths and chains.

    Exit status 1 if a part is stale, a chain can't be read or Redis does not answer.
    """
    from cli.health import health as show

    if not show(stale_after=stale_after, as_json=as_json):
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="tallyrail")
