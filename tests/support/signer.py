"""A signer for tests: the real process on a free port, with a keystore, a policy and a journal in a folder."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from chains.signer_client import SignerClient
from local.process import launcher
from local.server import HOST, free_port
from signer import keys
from signer.journal import Journal
from signer.registry import namespace_of

ROOT = Path(__file__).parent.parent.parent
START_S = 30.0
COST = 2**10
"""scrypt's: nothing here needs to be kept from anybody."""
PLENTY = str(10**30)


@dataclass(frozen=True)
class RunningSigner:
    url: str
    token: str = field(repr=False)
    addresses: Mapping[str, str]
    """Chain -> the address that it pays from."""
    process: "subprocess.Popen[bytes]"
    log: Path

    def client(self) -> SignerClient:
        return SignerClient(self.url, self.token)


def write(folder: Path, wallets: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Keystore, policy and (unless it is there) journal. Returns the environment of a signer that uses them."""
    passphrase, token = "a passphrase of tests", secrets.token_hex(32)
    keystore, policy, journal = folder / "keystore.json", folder / "policy.toml", folder / "journal.db"
    if not keystore.exists():
        for number, (chain, given) in enumerate(wallets.items()):
            secret = given.get("secret") or secrets.token_bytes(32)
            keys.add(keystore, passphrase, f"key-{number}", namespace_of(chain), secret, cost=COST)
    policy.write_text("\n".join(_lines(wallets)))
    policy.chmod(0o600)
    if not journal.exists():
        Journal.create(journal)
    return {
        "SIGNER_KEYSTORE": str(keystore),
        "SIGNER_POLICY": str(policy),
        "SIGNER_JOURNAL": str(journal),
        "SIGNER_PASSPHRASE": passphrase,
        "SIGNER_TOKEN": token,
        "SIGNER_HOST": HOST,
        "SIGNER_PORT": str(free_port()),
    }


def _lines(wallets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for number, (chain, given) in enumerate(wallets.items()):
        yield f"[wallets.wallet-{number}]"
        yield f'chain = "{chain}"\nkey = "key-{number}"'
        yield f'fee_max = "{given.get("fee_max", PLENTY)}"\nfee_day_max = "{given.get("fee_day_max", PLENTY)}"'
        if "destinations" in given:
            yield f"destinations = {json.dumps(given['destinations'])}"
        for asset, (each_max, day_max) in given["assets"].items():
            yield f'[wallets.wallet-{number}.assets."{asset}"]\neach_max = "{each_max}"\nday_max = "{day_max}"'


@contextmanager
def running_signer(
    folder: Path, wallets: Mapping[str, Mapping[str, Any]], *, program: tuple[str, ...] = ("-m", "signer.main")
) -> Iterator[RunningSigner]:
    """The signer until the end of the block. On the same folder again: the same keys, the journal as it was.

    `wallets`: CAIP-2 chain -> what the policy says of its wallet, all but `assets` optional:

        {"eip155:31337": {
            "assets": {"eip155:31337/slip44:60": (10**18, 10**20)},    # asset -> (each_max, day_max), in units
            "fee_max": 10**16, "fee_day_max": 10**18,                  # units of the coin; without them: plenty
            "destinations": ["0x..."],                                 # without it: any
            "secret": bytes.fromhex("..."),                            # 32 bytes; without it: a new key
        }}
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNER_")}
    given = write(folder, wallets)
    url, token = f"http://{HOST}:{given['SIGNER_PORT']}", given["SIGNER_TOKEN"]
    log = folder / "signer.log"
    with log.open("ab") as lines:
        process = subprocess.Popen(
            # A run of tests that is killed leaves no signer behind.
            [*launcher(death_signal=signal.SIGKILL), sys.executable, *program],
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(ROOT), "LOG_FORMAT": "json"} | given,
            stdout=lines,
            stderr=lines,
        )
    try:
        _wait(url, process, log)
        yield RunningSigner(url, token, SignerClient(url, token).wallets(), process, log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/healthz", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"the signer did not start: {log.read_text()}")
