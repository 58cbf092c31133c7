"""The commands by noun. A noun's module is imported when one of its commands runs, so that help comes at once."""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from cli import failures

NOUNS = {
    "tenants": "The upstream apps that may ask for work.",
    "keys": "The API keys of tenants.",
    "addresses": "Our deposit addresses.",
    "wallets": "Extended public keys, from which addresses are derived.",
    "chains": "How far each chain was read.",
    "deposits": "Payments that are watched for, and what became of them.",
    "fiat": "Payments by card, bank and wallet, and what gateways say of them.",
    "jobs": "Durable work: what waits, what runs, how it ended.",
    "beneficiaries": "Where money may be sent, and whether its holders fit.",
    "payouts": "Money that leaves: what waits for people, and what they decide.",
    "reconcile": "What providers say against our record and the books, and what differs.",
    "onchain": "What we send on chains, and how far each has come.",
    "rates": "What assets are worth in currencies.",
    "fairness": "Provably fair draws: seeds, and the check that anybody can make.",
    "dlq": "Dead letters: jobs that wait for a person.",
    "breaks": "Differences between two sources, until somebody explains them.",
    "signer": "The process that holds the keys of our wallets.",
    "vault": "What is encrypted at rest, and by which keys.",
    "webhooks": "What providers told us, and what became of it.",
    "ledger": "The books: balances, journals, and whether they hold.",
    "accounts": "Accounts of the books: freeze, close and bound them, with a reason.",
}


def noun() -> typer.Typer:
    """A noun's own commands."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Commands(TyperGroup):
    """The root: loads nouns late, and turns every failure into one sentence."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for name, help_text in NOUNS.items():
            self.commands[name] = TyperGroup(name=name, help=help_text, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in NOUNS:
            loaded = get_group(importlib.import_module(f"cli.{name}").app)
            loaded.name, loaded.help = name, NOUNS[name]
            self.commands[name] = loaded
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with failures.told():
            return super().invoke(ctx)
