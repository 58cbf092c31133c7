"""What doubles of fiat gateways share: a server, payers, webhooks, and what goes wrong.

A double keeps state as its provider does. Tests act as its payers and its bank (`pay`, `refund_outside`, `dispute`),
take what it would send as webhooks from `outbox`, in any order and number, and make its next calls go wrong
(`upset`) with faults of this module or of tests.support.faulty: slow, hanging, saying, hangs_up, dies, html, garbage.
"""

import abc
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

import httpx

from local.http_server import Answer, Asked, HttpServer
from providers.fiat.base import Gateway, OrderRequest
from tests.support.faulty import Fault, Forward

PAYER_EMAIL = "payer.private@mail.example"
PAYER_NAME = "Ada Private"
PAYER_PHONE = "+15550199901"
CARD_LAST4 = "4929"
PRIVATE = (PAYER_EMAIL, PAYER_NAME, PAYER_PHONE, CARD_LAST4)
"""Doubles put these wherever their provider tells of payers. Nothing of ours may repeat them."""


@dataclass(frozen=True)
class Webhook:
    """As the provider sends it, signed."""

    kind: str
    """In the provider's words."""
    reference: str
    body: bytes
    headers: Mapping[str, str]

    def post(self, url: str) -> int:
        """Deliver it. The status that it is answered with."""
        return httpx.post(url, content=self.body, headers=dict(self.headers), trust_env=False).status_code


@dataclass
class _Upset:
    fault: Fault
    left: int
    matches: Callable[[Asked], bool]


@dataclass
class Traffic:
    """What a double was asked, and what it does wrong next."""

    asked: list[Asked] = field(default_factory=list)
    upsets: list[_Upset] = field(default_factory=list)

    def fault(self, asked: Asked) -> Fault | None:
        self.asked.append(asked)
        for upset in self.upsets:
            if upset.left and upset.matches(asked):
                upset.left -= 1
                return upset.fault
        return None


class Double(abc.ABC):
    """One provider. `with StripeDouble() as double: double.gateway()` is the adapter, pointed at it."""

    name: ClassVar[str]
    """As in the registry of gateways."""
    currency: ClassVar[str]
    """One that it takes, such as `iso4217:USD`. It takes `other_currency` too."""
    other_currency: ClassVar[str]
    units: ClassVar[int] = 125_00
    units_refused: ClassVar[int] = 1
    """So few that the provider refuses to ask anybody for them."""
    secrets: ClassVar[tuple[str, ...]]
    """Credentials that the adapter has: must not be seen anywhere but in its requests."""
    webhook_secret: ClassVar[bytes]
    charges_back: ClassVar[bool] = True
    """`find` tells of disputes."""
    gives_back: ClassVar[bool] = True
    """It gives back what it is asked to."""
    refunds_fail: ClassVar[bool] = False
    """`fail_refunds` is there."""
    partial_refunds: ClassVar[bool] = True
    pays_twice: ClassVar[bool] = False
    """A payer may pay one order a second time: `pay` after `pay` is money once more."""
    tells_asked: ClassVar[bool] = True
    """`find` tells what was asked for, also where something else was paid."""
    page_max: int = 100
    """Rows that it tells of at once: less, and lists have several pages."""
    hidden: int = 0
    """So many of the next look-ups find nothing, though there is something."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.outbox: list[Webhook] = []
        self.traffic = Traffic()
        self.start = datetime.now(UTC) - timedelta(minutes=1)
        self.paid_out: dict[str, int] = {}
        """Settlement -> units that reached our bank, of those that `settle` made, where the provider says it."""
        self._http = HttpServer(self._answer)

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}"

    # --- what tests do to it ------------------------------------------------------------------------------------------

    def upset(self, fault: Fault, *, times: int = 1, when: Callable[[Asked], bool] | None = None) -> None:
        """The next requests that make an order or a refund go wrong, or those that `when` picks."""
        self.traffic.upsets.append(_Upset(fault, times, when or self.moves))

    def calm(self) -> None:
        self.traffic.upsets.clear()

    def take(self) -> list[Webhook]:
        """The outbox, emptied."""
        with self.lock:
            taken, self.outbox = self.outbox, []
        return taken

    def order(self, reference: str, **changes: Any) -> OrderRequest:
        """A request that it accepts."""
        request = OrderRequest(
            reference=reference,
            currency=self.currency,
            units=self.units,
            description="Top-up",
            expires_at=datetime.now(UTC) + timedelta(hours=2),
            return_url="https://app.example/back",
            email=PAYER_EMAIL,
            webhook_url="https://api.example/v1/webhooks/" + self.name,
        )
        return replace(request, **changes)

    @abc.abstractmethod
    def gateway(self, *, answer_timeout: float = 10.0) -> Gateway:
        """A new adapter of this provider, with its credentials and this double's URL, that waits so many seconds."""

    @abc.abstractmethod
    def pay(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        """The payer pays what was asked, or so many units of ours, or in another currency. Also after it expired."""

    @abc.abstractmethod
    def fail(self, reference: str) -> None:
        """The payer's attempt fails for good, or as far as the provider has such."""

    @abc.abstractmethod
    def expire(self, reference: str) -> None:
        """Its time is up."""

    @abc.abstractmethod
    def puzzle(self, reference: str) -> None:
        """From now on its status is a word that no page of the provider's documentation has."""

    @abc.abstractmethod
    def refund_outside(self, reference: str, units: int | None = None) -> None:
        """Somebody refunds it in the provider's dashboard. None: what is left, and no more is taken."""

    @abc.abstractmethod
    def finish_refunds(self) -> None:
        """Refunds that are under way reach their payers."""

    def fail_refunds(self) -> None:
        """Refunds that are under way come back to us."""
        raise NotImplementedError

    def dispute(self, reference: str) -> None:
        """The payer's bank asks for the whole payment back."""
        raise NotImplementedError

    def charge_back(self, reference: str) -> None:
        """The bank takes it for good, after `dispute` or without it."""
        raise NotImplementedError

    def win_dispute(self, reference: str) -> None:
        """The bank gives in."""
        raise NotImplementedError

    def settle(self) -> str:
        """Pay out all of `currency` that was not paid out yet. Its id. Only of those whose `abilities.settlements`."""
        raise NotImplementedError

    def fee(self, units: int) -> int:
        """What the provider keeps of a payment of so many units."""
        return units * 29 // 1000 + 30

    # --- what each is made of -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def serve(self, asked: Asked) -> Answer:
        """Answer as the provider would. Called by one thread at a time."""

    @abc.abstractmethod
    def signed(self, body: bytes) -> Mapping[str, str]:
        """The headers of a webhook of this body, with the provider's real signature, of now."""

    def moves(self, asked: Asked) -> bool:
        """Whether a request makes an order or a refund. Override, if not each POST does."""
        return asked.method == "POST"

    def found(self) -> bool:
        """To be asked once by each look-up by our reference: whether what is there may be seen yet."""
        if self.hidden:
            self.hidden -= 1
            return False
        return True

    def emit(self, kind: str, reference: str, body: Mapping[str, Any]) -> None:
        """Put a webhook into the outbox."""
        sent = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.signed(sent)}
        with self.lock:
            self.outbox.append(Webhook(kind, reference, sent, headers))

    def _answer(self, asked: Asked) -> Answer:
        def serve(asked: Asked) -> Answer:
            with self.lock:
                return self.serve(asked)

        with self.lock:
            fault = self.traffic.fault(asked)
        return serve(asked) if fault is None else fault(asked, serve)


def told(value: Any, status: int = 200) -> Answer:
    """As JSON."""
    return Answer(status, json.dumps(value).encode())


# --- faults -----------------------------------------------------------------------------------------------------------


def then_says(status: int) -> Fault:
    """Does what it is asked, and answers with this status and a page."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        forward(asked)
        return Answer(status, b"<html>oops</html>", {"Content-Type": "text/html"})

    return fault


def then_hangs_up(asked: Asked, forward: Forward) -> Answer:
    """Does what it is asked, and closes the connection without a word."""
    forward(asked)
    return Answer(200, b"", cut_after=-1)


def then_stalls(seconds: float) -> Fault:
    """Does what it is asked, and answers too late."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        threading.Event().wait(seconds)
        return answer

    return fault


def before_reply(act: Callable[[], None]) -> Fault:
    """Does what it is asked, and something else happens before the answer goes out: a payment, a webhook."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        act()
        return answer

    return fault
