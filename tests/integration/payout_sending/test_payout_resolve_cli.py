"""`tallyrail payouts resolve`, as two people use it."""

from uuid import UUID

from typer.testing import CliRunner

from cli.main import app
from domain.payout.states import PayoutState
from providers.payout.base import Standing
from tests.integration.payout_sending.desk import Desk


def say(payout_id: UUID, *options: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["payouts", "resolve", str(payout_id), *options])
    assert result.exit_code == code, result.output
    return result.output


def test_one_proposes_another_confirms_and_nothing_is_done_without_commit(desk: Desk) -> None:
    desk.provider.answers = [Standing.UNKNOWN]
    desk.provider.makes_unknown = False
    payout_id = desk.sent()
    shown = say(payout_id)
    assert desk.reference(payout_id) in shown
    assert "transit:payouts -> custody:provider:acme  10000 iso4217:NGN" in shown
    assert "transit:payouts -> user:42:available  10150 iso4217:NGN" in shown
    proposal = ("--outcome", "failed", "--note", "their support says so")
    assert "Nothing was done" in say(payout_id, *proposal, "--actor", "ann")
    assert "proposed" not in say(payout_id)
    assert "Another person confirms" in say(payout_id, *proposal, "--actor", "ann", "--commit")
    assert "person:ann proposed failed: their support says so" in say(payout_id)
    say(payout_id, "--outcome", "failed", "--confirm", "--actor", "ann", "--commit", code=1)
    assert desk.state(payout_id) is PayoutState.UNKNOWN
    assert "is failed" in say(payout_id, "--outcome", "failed", "--confirm", "--actor", "bob", "--commit")
    assert desk.state(payout_id) is PayoutState.FAILED
