"""`python -m tests.support.doomed <chain> <stride>`: one round of scan and poll, killed again and again.

Each child of this process does the round from the start, and dies as by kill -9 a stride of steps later than the one
before it (stepped.py). The last child is the one that lived. Prints how many died.
"""

import os
import sys
from importlib import import_module
from itertools import count

from sqlalchemy import func, update

from chains import registry
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import Deposit
from tests.support.stepped import at_commits, stepped

KILLED = 137
ROUNDS_MAX = 500

steps_left = [0]


def step() -> None:
    steps_left[0] -= 1
    if steps_left[0] == 0:
        os._exit(KILLED)


def round_(chain: str) -> None:
    reader = stepped(registry.get(chain), step)
    with transaction() as session:
        session.execute(update(Deposit).where(Deposit.next_poll_at.is_not(None)).values(next_poll_at=func.now()))
    service.scan(reader)
    service.poll(reader)


def main(chain: str, stride: int) -> None:
    import_module(registry.READERS[chain.partition(":")[0]].partition(":")[0])  # once, not in each child
    at_commits(step)
    for died in count():
        assert died < ROUNDS_MAX, "a round takes more steps than this was made for"
        pid = os.fork()
        if pid == 0:
            steps_left[0] = (died + 1) * stride
            try:
                round_(chain)
            except BaseException:  # noqa: BLE001  # a child must not go on as its parent
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            print(died)
            return
        assert code == KILLED, f"a child ended with {code}"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
