"""What doubles of payout providers share: a server, banks, a ledger of what was really made, and what goes wrong.

A double keeps state as its provider does. Tests act as the banks (`pay`, `fail`, `give_back`), as time (`age`), take
what it would send as webhooks from `outbox`, and make its next calls go wrong (`upset`) with faults of
tests.support.gateways.base (then_says, then_stalls, ...) or tests.support.faulty.

What a campaign asks in the end: `accepted(reference)` payouts were made under one reference, `paid_units()` reached
beneficiaries, `balance_units` are left of what we had there.
"""

import abc
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from local.http_server import Answer, Asked, HttpServer
from providers.payout.base import Destination, Kind, PayoutProvider, PayoutRequest, Refusal
from tests.support.faulty import Fault
from tests.support.gateways.base import Traffic, Webhook, _Upset

Json = dict[str, Any]

HOLDER = "Ada Private"
EMAIL = "ada.private@mail.example"
PHONE = "+15550199901"


class Double(abc.ABC):
    """One provider. `with FlutterwaveDouble() as double: double.provider()` is the adapter, pointed at it."""

    name: ClassVar[str]
    """As in the registry of payout providers."""
    currency: ClassVar[str]
    units: ClassVar[int] = 125_000_00
    units_max: ClassVar[int] = 500_000_00
    """More than that at once is refused."""
    destinations: ClassVar[tuple[Destination, ...]]
    """One of each kind that it takes."""
    secrets: ClassVar[tuple[str, ...]]
    """Credentials that the adapter has: must not be seen anywhere but in its requests."""
    webhook_secret: ClassVar[bytes]
    key_window: ClassVar[timedelta | None]
    """So long it remembers a key, as its documentation says."""
    tells_returns: ClassVar[bool] = True
    """What came back is told apart from what failed."""
    fails: ClassVar[bool] = True
    """What was accepted may fail before it is paid."""
    page_max: int = 100
    """Rows that it tells of at once: less, and lists have several pages."""
    hidden: int = 0
    """So many of the next look-ups by our reference find nothing, though there is something."""
    deaf: bool = False
    """It sends no webhooks."""
    spoilt: Any = None
    """Written wherever the amount of a payout belongs, if it isn't None."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.outbox: list[Webhook] = []
        self.traffic = Traffic()
        self.passed = timedelta(0)
        self.balance_units = 10_000_000_00
        self.closed: set[str] = set()
        """Numbers of accounts that are closed, or are none."""
        self.holders: dict[str, str] = {each.number: HOLDER for each in self.destinations}
        """Whose each account is."""
        self._made: Counter[str] = Counter()
        self._http = HttpServer(self._answer)

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}"

    @property
    def private(self) -> tuple[str, ...]:
        """Put wherever the provider tells of beneficiaries. Nothing of ours may repeat it."""
        return (HOLDER, EMAIL, PHONE, *(each.number for each in self.destinations))

    # --- what tests do to it ------------------------------------------------------------------------------------------

    def upset(self, fault: Fault, *, times: int = 1, when: Callable[[Asked], bool] | None = None) -> None:
        """The next requests for a payout go wrong, or those that `when` picks."""
        self.traffic.upsets.append(_Upset(fault, times, when or self.moves))

    def calm(self) -> None:
        self.traffic.upsets.clear()

    def take(self) -> list[Webhook]:
        """The outbox, emptied."""
        with self.lock:
            taken, self.outbox = self.outbox, []
        return taken

    def age(self, passed: timedelta) -> None:
        """So much time goes by: keys that are older than `key_window` are forgotten."""
        with self.lock:
            self.passed += passed

    def request(self, reference: str, **changes: Any) -> PayoutRequest:
        """A request that it accepts."""
        request = PayoutRequest(
            reference=reference,
            currency=self.currency,
            units=self.units,
            destination=self.destinations[0],
            narration="Withdrawal 4711",
        )
        return replace(request, **changes)

    def accepted(self, reference: str) -> int:
        """How many payouts it made under one reference: more than one is money that left twice."""
        with self.lock:
            return self._made[reference]

    def twice(self) -> list[str]:
        """References under which it made more than one."""
        with self.lock:
            return [reference for reference, made in self._made.items() if made > 1]

    @abc.abstractmethod
    def paid_units(self) -> int:
        """What beneficiaries have of us now."""

    @abc.abstractmethod
    def provider(self, *, answer_timeout: float = 10.0) -> PayoutProvider:
        """A new adapter of this provider, with its credentials and this double's URL, that waits so many seconds."""

    @abc.abstractmethod
    def pay(self, reference: str) -> None:
        """The money reaches the beneficiary."""

    def fail(self, reference: str, refusal: Refusal = Refusal.DESTINATION) -> None:
        """It doesn't, for this kind of reason."""
        raise NotImplementedError

    @abc.abstractmethod
    def give_back(self, reference: str) -> None:
        """The bank sends it back, also after it was paid."""

    @abc.abstractmethod
    def puzzle(self, reference: str) -> None:
        """From now on its status is a word that no page of the provider's documentation has."""

    def fee(self, units: int) -> int:
        """What the provider takes on top of a payout of so many units."""
        return 0

    # --- what each is made of -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def serve(self, asked: Asked) -> Answer:
        """Answer as the provider would. Called by one thread at a time."""

    @abc.abstractmethod
    def signed(self, body: bytes) -> Mapping[str, str]:
        """The headers of a webhook of this body, with the provider's real signature, of now."""

    @abc.abstractmethod
    def moves(self, asked: Asked) -> bool:
        """Whether a request asks for a payout."""

    def now(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def remembers(self, since: datetime) -> bool:
        """Whether a key that was first used then is still known."""
        return self.key_window is None or self.now() - since < self.key_window

    def found(self) -> bool:
        """To be asked once by each look-up by our reference: whether what is there may be seen yet."""
        if self.hidden:
            self.hidden -= 1
            return False
        return True

    def count(self, reference: str) -> None:
        """A payout was made."""
        self._made[reference] += 1

    def amount(self, told: Any) -> Any:
        return told if self.spoilt is None else self.spoilt

    def emit(self, kind: str, reference: str, sent: bytes) -> None:
        """Put a webhook into the outbox, unless webhooks are lost."""
        if not self.deaf:
            headers = {"Content-Type": "application/json", **self.signed(sent)}
            self.outbox.append(Webhook(kind, reference, sent, headers))

    def _answer(self, asked: Asked) -> Answer:
        def serve(asked: Asked) -> Answer:
            with self.lock:
                return self.serve(asked)

        with self.lock:
            fault = self.traffic.fault(asked)
        return serve(asked) if fault is None else fault(asked, serve)


def refusing(status: int, body: Any) -> Fault:
    """Answers so, and does nothing."""
    return lambda _asked, _forward: Answer(status, json.dumps(body).encode())


NUBAN = Destination(kind=Kind.BANK_NG, number="0690000031", bank_code="044", holder=HOLDER)
