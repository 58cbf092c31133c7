"""`tallyrail up`: the stack at a terminal, until Ctrl-C."""

import os
import sys
from pathlib import Path

from rich.console import Console as Terminal
from rich.table import Table

from local.logs import Console
from local.process import StartError
from local.processes import Program
from local.stack import Stack


def up(data: Path = Path("data"), api_port: int | None = None, dev_chain: bool = False) -> int:  # noqa: FBT001, FBT002
    """Run the stack in the foreground. Returns the exit status: 0 after a wished end, 1 if it could not start."""
    return run(data, api_port=api_port, dev_chain=dev_chain)


def run(data: Path, *, api_port: int | None = None, dev_chain: bool = False, program: Program | None = None) -> int:
    """As `up`, for any program."""
    environ = {"LOG_FORMAT": "console", **os.environ}
    stack = Stack(data, api_port=api_port, dev_chain=dev_chain, sink=Console(), program=program, environ=environ)
    with stack.supervisor.signals():
        try:
            stack.start()
            _tell(stack)
            stack.supervisor.wait()
        except StartError as error:
            if stack.supervisor.stopping():
                return 0
            print(f"tallyrail up: {error}", file=sys.stderr)
            return 1
        finally:
            stack.stop()
    return 0


def _tell(stack: Stack) -> None:
    table = Table(title="Tallyrail is up. Ctrl-C stops it; the data stay.", show_header=False, title_justify="left")
    table.add_row("API", stack.api_url)
    table.add_row("API docs", f"{stack.api_url}/docs")
    table.add_row("Flower", f"{stack.flower_url}  (login {stack.addresses.flower_login})")
    if stack.rpc_url:
        table.add_row("EVM node", stack.rpc_url)
    table.add_row("Database, Redis", f"in {stack.data_dir / 'run' / 'stack.json'}")
    Terminal(soft_wrap=True).print(table)
