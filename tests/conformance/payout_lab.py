"""What the suites of payout providers share: a double of each, and first steps."""

from datetime import UTC, datetime
from typing import Any

from providers.payout.base import PayoutProvider, Refusal, Remittance, RemittanceState, Sent, Standing
from tests.support.payouts.base import Double


def now() -> datetime:
    return datetime.now(UTC)


def sent(double: Double, provider: PayoutProvider, reference: str, **changes: Any) -> Remittance:
    said = provider.send(double.request(reference, **changes))
    assert said.standing is Standing.ACCEPTED, said
    assert said.remittance is not None
    assert (said.refusal, said.why) == (None, None)
    return said.remittance


def find(provider: PayoutProvider, reference: str, ref: str | None = None) -> Remittance | None:
    return provider.find(reference, provider_ref=ref, sent_at=now())


def state(provider: PayoutProvider, reference: str) -> RemittanceState:
    found = find(provider, reference)
    assert found is not None
    return found.state


def asked_to_move(double: Double) -> int:
    return sum(double.moves(asked) for asked in double.traffic.asked)


def rejected(said: Sent) -> Refusal:
    assert (said.standing, said.remittance) == (Standing.REJECTED, None), said
    assert said.why
    assert said.refusal is not None
    return said.refusal
