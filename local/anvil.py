"""anvil, a real EVM node for demos and tests, out of an npm package."""

import base64
import hashlib
import itertools
import json
import os
import platform
import shutil
import signal
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

from local.npm import cached, npm
from local.process import Process, StartError
from local.server import HOST, Server

VERSION = "1.7.1"
PACKAGES = {
    ("linux", "x86_64"): (
        "@foundry-rs/anvil-linux-amd64",
        "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    ),
}
"""Platform -> npm package and the integrity of its tarball. A line is added only for a tarball that was fetched,
checked and run; elsewhere TALLYRAIL_ANVIL names a binary."""


class RpcError(Exception):
    """The node answered with an error."""


class Anvil(Server):
    """One EVM development chain. Its state is written when it stops, and every few seconds in case it can't."""

    name = "anvil"

    def __init__(
        self, data_dir: Path | str, port: int | None = None, *, chain_id: int = 31337, automine: bool = True
    ) -> None:
        """`automine=False`: transactions wait until `mine` is called."""
        super().__init__(data_dir, port)
        self.chain_id = chain_id
        self.automine = automine
        self._ids = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> None:
        self._program = binary()
        state = self.data_dir / "state.json"
        if not state.exists():
            return
        try:
            json.loads(state.read_bytes())
        except ValueError:  # killed while writing it
            state.rename(state.with_suffix(".broken"))

    def _process(self, lock_fd: int) -> Process:
        argv = [
            str(self._program), "--host", HOST, "--port", str(self.port), "--chain-id", str(self.chain_id), "--quiet",
            "--state", str(self.data_dir / "state.json"), "--state-interval", "5",
            # Blocks become safe and finalized one and two blocks later; with the default nothing ever is.
            "--slots-in-an-epoch", "1",
        ]  # fmt: skip
        if not self.automine:
            argv.append("--no-mining")
        return Process(
            self.name,
            argv,
            ready=self._answers,
            stop_signal=signal.SIGINT,  # on which it writes its state
            pass_fds=(lock_fd,),
        )

    def _answers(self) -> bool:
        try:
            return int(self.rpc("eth_chainId"), 16) == self.chain_id
        except (OSError, RpcError, ValueError):
            return False

    def rpc(self, method: str, *params: Any) -> Any:
        """Call the node.

        Raises:
            RpcError: it answered with an error.
            OSError: it did not answer.

        """
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        request = urllib.request.Request(
            self.url, json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        # No proxy: an address on this machine is nobody else's.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            answer = json.load(reply)
        if "error" in answer:
            raise RpcError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def reorg(self, depth: int) -> None:
        """Replace the last `depth` blocks by empty ones: their transactions, receipts and logs are gone."""
        self.rpc("anvil_reorg", depth, [])

    def drop(self, tx_hash: str) -> None:
        """Forget a transaction that waits in the mempool."""
        self.rpc("anvil_dropTransaction", tx_hash)

    def impersonate(self, address: str) -> None:
        """Let `eth_sendTransaction` send from this address without its key."""
        self.rpc("anvil_impersonateAccount", address)


def binary() -> Path:
    """The node's program, fetched on first use, never unless its tarball is the very one that was pinned.

    Raises:
        StartError: it can't be had here.

    """
    if own := os.environ.get("TALLYRAIL_ANVIL"):
        return Path(own)
    key = (platform.system().lower(), platform.machine().lower())
    if key not in PACKAGES:
        raise StartError(f"no pinned anvil for {' '.join(key)}: set TALLYRAIL_ANVIL to a binary of version {VERSION}")
    package, integrity = PACKAGES[key]

    def make(folder: Path) -> Path:
        tarball = _fetch(f"{package}@{VERSION}", folder)
        _check(tarball, integrity)
        return _extract(tarball, folder / "anvil")

    return cached(f"anvil-{VERSION}-{'-'.join(key)}", make)


def _fetch(package: str, folder: Path) -> Path:
    """The tarball of a package."""
    done = npm("pack", package, "--pack-destination", str(folder), folder=folder, cache=folder / "npm")
    found = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(found) != 1:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), "npm gave no reason")
        raise StartError(f"{package} could not be fetched: {reason}")
    return found[0]


def _check(tarball: Path, integrity: str) -> None:
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if integrity != f"sha512-{digest}":
        raise StartError(f"{tarball.name} is not the file that was pinned (sha512-{digest}); it was not used")


def _extract(tarball: Path, target: Path) -> Path:
    with tarfile.open(tarball) as archive:
        member = archive.extractfile("package/bin/anvil")
        assert member is not None, "the pinned tarball holds it"
        with target.open("wb") as out:
            shutil.copyfileobj(member, out)
    target.chmod(0o755)
    return target
