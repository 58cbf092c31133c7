"""`python -m tests.integration.fiat_payment.doomed <url of the double> <payment>...`: makers of orders that are killed.

Of the n-th payment, the first process to ask for its order dies as by kill -9 at its n-th step: just before and after
each commit and each call of the gateway. Others go on until the order is made. Prints how many died.
"""

import os
import sys
import time
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from pydantic import SecretStr

from core.db import transaction
from core.errors import OutcomeUnknownError, TransientError
from domain.fiat_payment import service
from domain.fiat_payment.states import PaymentState
from providers.fiat.base import Gateway
from providers.fiat.settings import StripeSettings
from providers.fiat.stripe import StripeGateway
from tests.support.gateways.stripe import KEY
from tests.support.stepped import at_commits

KILLED = 137
TRIES_MAX = 200

steps_left = [0]


def step() -> None:
    steps_left[0] -= 1
    if steps_left[0] == 0:
        os._exit(KILLED)


class Stepped:
    """A gateway whose every call is two steps."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._gateway, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            step()
            answer = found(*args, **kwargs)
            step()
            return answer

        return call


def make(url: str, payment_id: UUID) -> None:
    """Until it is made, as its job would."""
    settings = StripeSettings(secret_key=SecretStr(KEY), base_url=url, currencies={"iso4217:USD": (50, 10**6)})
    gateway = cast("Gateway", Stepped(StripeGateway(settings)))
    for _ in range(TRIES_MAX):
        with suppress(OutcomeUnknownError, TransientError):
            service.order(payment_id, {"stripe": gateway})
        with transaction() as session:
            payment = service.get(session, payment_id)
        if payment is not None and payment.current is not PaymentState.CREATED:
            return
        time.sleep(0.05)
    raise AssertionError(f"{payment_id} has no order after {TRIES_MAX} tries")


def main(url: str, payment_ids: list[str]) -> None:
    at_commits(step)
    died = 0
    for number, payment_id in enumerate(payment_ids, 1):
        for steps in (number, 0):  # 0: it is never taken
            pid = os.fork()
            if pid == 0:
                steps_left[0] = steps
                try:
                    make(url, UUID(payment_id))
                except BaseException:  # noqa: BLE001  # a child must not go on as its parent
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert code in (0, KILLED), f"a child ended with {code}"
            died += code == KILLED
    print(died)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
