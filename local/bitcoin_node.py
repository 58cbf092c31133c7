"""A Bitcoin regtest node for demos and tests: bcoin, out of npm packages, speaking as Bitcoin Core does."""

import hashlib
import os
import shutil
import signal
from pathlib import Path

import httpx

from local.npm import cached, node, npm
from local.process import Process, StartError
from local.server import HOST, Server, secret_file

FOLDER = Path(__file__).with_name("bitcoin")
"""package.json and the lock file, which pins every package by its hash; and the program that runs bcoin."""

USER = "tallyrail"


class BitcoinNode(Server):
    """A node with a chain of its own, which survives it; what waits in its mempool does not. It talks to no other."""

    name = "bitcoin"

    @property
    def url(self) -> str:
        return f"http://{USER}:{self._password}@{HOST}:{self.port}"

    def _prepare(self) -> None:
        self._password = secret_file(self.data_dir / "password")
        self._modules = modules()

    def _process(self, lock_fd: int) -> Process:
        return Process(
            self.name,
            [
                str(node()), "--no-deprecation", str(FOLDER / "node.js"),
                f"--port={self.port}", f"--file={self.data_dir / 'blocks'}",
            ],
            {
                "PATH": os.environ.get("PATH", ""),
                "NODE_PATH": str(self._modules),
                "NODE_BACKEND": "js",  # without the native parts, which would have to be compiled here
                "NODE_PASSWORD": self._password,
            },
            ready=self._answers,
            stop_signal=signal.SIGTERM,
            pass_fds=(lock_fd,),
        )  # fmt: skip

    def _answers(self) -> bool:
        call = {"jsonrpc": "2.0", "id": 1, "method": "getblockcount", "params": []}
        try:
            with httpx.Client(timeout=5, trust_env=False) as client:  # no proxy: the node is on this machine
                return client.post(self.url, json=call).is_success
        except httpx.HTTPError:
            return False


def modules() -> Path:
    """The folder of bcoin and what it needs, fetched on first use. No package's own scripts are run.

    Raises:
        StartError: it can't be had here.

    """
    lock = FOLDER / "package-lock.json"

    def make(scratch: Path) -> Path:
        folder = scratch / "packages"
        folder.mkdir(mode=0o755)
        for file in (FOLDER / "package.json", lock):
            shutil.copy(file, folder)
        _install(folder, scratch / "npm")
        return folder

    return cached(f"bitcoin-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}", make) / "node_modules"


def _install(folder: Path, cache: Path) -> None:
    """What the lock file says, or nothing: npm refuses a package whose hash is another."""
    done = npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder, cache=cache)
    if done.returncode != 0:
        lines = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if line.strip()]
        raise StartError(f"bcoin could not be fetched: {' '.join(lines[:2]) or 'npm gave no reason'}"[:400])
