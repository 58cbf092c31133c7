"""`tallyrail signer`: the keys of our wallets, and the process that holds them. To be run where that process runs."""

import getpass
import os
import secrets
import sys
from typing import Annotated, Any

import typer

from cli.nouns import noun
from cli.output import AsJson, Column, listing, say
from core.errors import InvalidRequestError

app = noun()
COLUMNS = (
    Column("Key", "key"),
    Column("Namespace", "namespace"),
    Column("Wallet", "wallet"),
    Column("Chain", "chain"),
    Column("Address", "address"),
)
Name = Annotated[str, typer.Argument(help="What the policy calls it: a-z, 0-9 and -.")]
Namespace = Annotated[str, typer.Option(help="The kind of chain: eip155, bip122, solana or tron.")]


@app.command("new-wallet")
def new_wallet(name: Name, *, namespace: Namespace) -> None:
    """Make a key and seal it in the keystore. Prints the address.

    The keystore is SIGNER_KEYSTORE, its passphrase that of SIGNER_PASSPHRASE_FILE. Copy both, to different places.
    """
    from signer import keys

    _add(name, namespace, secrets.token_bytes(keys.SECRET_BYTES))


@app.command("import-wallet")
def import_wallet(name: Name, *, namespace: Namespace) -> None:
    """Seal a key that there is. Its 64 hexadecimal digits are read from standard input, never from an argument."""
    given = getpass.getpass("The secret in hex: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        secret = bytes.fromhex(given.strip().removeprefix("0x"))
    except ValueError:
        secret = b""
    if not secret:  # what was given is not repeated
        raise InvalidRequestError("that is no secret: 64 hexadecimal digits")
    _add(name, namespace, secret)


def _add(name: str, namespace: str, secret: bytes) -> None:
    from signer import keys, registry
    from signer.settings import signer

    if namespace not in registry.SIGNERS:
        raise typer.BadParameter(f"{namespace!r} is none of {', '.join(registry.SIGNERS)}")
    chosen = signer()
    passphrase = chosen.reveal_passphrase()
    # Before it is kept: not every 32 bytes are a key.
    address = registry.of(namespace).address(registry.SHOWN_ON[namespace], secret)
    chosen.keystore.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys.add(chosen.keystore, passphrase, name, namespace, secret)
    typer.echo(address)
    say(f"The key {name!r} is in {chosen.keystore}. Its address is shown as on {registry.SHOWN_ON[namespace]}.")


@app.command()
def addresses(*, as_json: AsJson = False) -> None:
    """The address of each key, on the chains for which the policy uses it. Exit status 1 if the signer couldn't start.

    A key that no policy uses is shown as on the main network of its kind.
    """
    from signer import keys, policy, registry, signing
    from signer.settings import signer

    chosen = signer()
    found = keys.read(chosen.keystore, chosen.reveal_passphrase())
    rows: list[dict[str, Any]] = []
    if chosen.policy.exists():
        rules = policy.read(chosen.policy)
        names = {each.chain: name for name, each in rules.wallets.items()}
        rows = [
            _row(wallet.policy.key, found, names[chain], chain, wallet.address)
            for chain, wallet in signing.wallets(rules, found).items()
        ]
    else:
        say(f"There is no policy {chosen.policy} yet, without which the signer doesn't start.")
    for name in sorted(found.keys() - {row["key"] for row in rows}):
        chain = registry.SHOWN_ON[found[name].namespace]
        address = registry.of(found[name].namespace).address(chain, found[name].secret)
        rows.append(_row(name, found, None, chain, address))
    listing("addresses", rows, COLUMNS, as_json=as_json, empty="The keystore is empty.")


def _row(key: str, found: Any, wallet: str | None, chain: str, address: str) -> dict[str, Any]:
    return {"key": key, "namespace": found[key].namespace, "wallet": wallet, "chain": chain, "address": address}


@app.command("new-journal")
def new_journal() -> None:
    """Make the empty journal of a signer that has signed nothing yet. Refused if the file is there.

    Never for keys that have signed before: what was signed would be forgotten. docs/signer.md says what to do then.
    """
    from signer.journal import Journal
    from signer.settings import signer

    path = signer().journal
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    Journal.create(path)
    say(f"{path} is made.")


@app.command()
def run() -> None:
    """The signer, until it is told to end."""
    # A program of its own, so that nothing which this one has imported is in the process that holds the keys.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "signer.main"])  # noqa: S606
