"""Doubles of providers that write amounts as JSON numbers with a point."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from config import assets
from local.http_server import Answer
from tests.support.gateways.base import Double, Webhook

Json = dict[str, Any]


def written(value: Any) -> bytes:
    """JSON in which each Decimal is a number with its digits."""
    marks: dict[str, str] = {}

    def marked(number: object) -> str:
        if not isinstance(number, Decimal):
            raise TypeError(type(number).__name__)
        mark = f"\x00{len(marks)}\x00"  # no text of ours has such a sign
        marks[json.dumps(mark)] = format(number, "f")
        return mark

    sent = json.dumps(value, default=marked)
    for mark, number in marks.items():
        sent = sent.replace(mark, number)
    return sent.encode()


def read(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal)


def major(units: int, currency: str) -> Decimal | int:
    """As many servers write them: without the point where nothing stands behind it."""
    number = Decimal(units).scaleb(-assets.registry().assets[currency].scale)
    return int(number) if number == int(number) else number


def minor(number: Any, currency: str) -> int:
    units = Decimal(str(number)).scaleb(assets.registry().assets[currency].scale)
    if units != int(units) or units <= 0:
        raise ValueError(number)
    return int(units)


class DecimalDouble(Double):
    def emit(self, kind: str, reference: str, body: Mapping[str, Any]) -> None:
        sent = written(body)
        headers = {"Content-Type": "application/json", **self.signed(sent)}
        with self.lock:
            self.outbox.append(Webhook(kind, reference, sent, headers))


def answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, written(value))
