"""Statements of all providers, matched with our record and the books."""

from domain.payout.states import PayoutState
from tests.integration.payout_statements.counter import UNITS, Counter

BEGUN = 10_000_000_00
"""What the doubles have of ours at first."""


def test_where_all_three_agree_nothing_is_said(each: Counter) -> None:
    """Paid, returned, and under way; read three times, over times that overlap, in pages of two."""
    each.double.page_max = 2
    kept, back = each.paid(), each.returned()
    each.later(seconds=5)
    for _ in range(2):
        outcome = each.reconcile()
        assert (outcome.differing, outcome.waiting) == (0, {})
        assert each.kinds() == []
    each.later(days=3)
    statement = each.read()
    assert (statement.added, statement.withdrawn) == (0, 0)
    assert each.match().agreed == 2
    assert each.kinds() == []
    lines = [line for line in each.lines() if line.payout_id == kept]
    assert [(line.state, line.why) for line in lines] == [("matched", None)]
    assert each.state(back) is PayoutState.RETURNED
    # Whether Flutterwave gives the fee back with what failed it tells nowhere.
    untold = 0 if each.double.tells_returns else each.double.fee(UNITS)
    assert each.here() == each.double.balance_units - BEGUN - untold
    each.check_books()
