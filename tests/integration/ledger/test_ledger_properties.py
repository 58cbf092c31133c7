"""Random journals against a plain Python model of the books."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from core.db import transaction
from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from ledger.balances import trial_balance
from ledger.errors import AlreadyReversedError, InsufficientFundsError, ReferenceReusedError
from ledger.posting import Posting, post, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, SUSPENSE, USDT, Model, book

OWED = "user:alice:owed"
quick = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
codes = st.sampled_from([CUSTODY, ALICE, BOB, OWED, SUSPENSE, FEES])
units = st.one_of(st.integers(1, 100), st.integers(1, UNITS_MAX // 1_000))
postings = st.builds(
    lambda pair, asset, amount: b.move(pair[0], pair[1], amount, asset),
    st.tuples(codes, codes).filter(lambda pair: pair[0] != pair[1]),
    st.sampled_from([ETH, USDT]),
    units,
)
journals = st.lists(postings, min_size=1, max_size=5)


@settings(quick, max_examples=30)
@given(wanted=st.lists(journals, min_size=1, max_size=6))
def test_the_books_agree_with_a_model_whatever_is_posted(books: str, wanted: list[list[Posting]]) -> None:
    tenant, model = b.new_tenant(), Model()
    accepted: dict[str, tuple[list[Posting], Any]] = {}
    for number, content in enumerate(wanted):
        with transaction() as session:
            before = b.counts(session)
            try:
                posted = post(session, b.journal(tenant, f"j:{number}", *content))
            except InsufficientFundsError:
                posted = None
            assert (posted is not None) == model.accepts(content)
            grown = 0 if posted is None else 1
            assert b.counts(session) == (before[0] + grown, before[1] + grown * 2 * len(content))
            if posted is not None:
                accepted[f"j:{number}"] = (content, posted.id)
    for reference, (content, journal_id) in accepted.items():
        again = book(tenant, reference, *content)
        assert (again.id, again.created) == (journal_id, False)
    with transaction() as session:
        assert b.raw_balances(session, tenant) == model.accounts
        assert replay(session, tenant) == model.accounts
        assert all(line.difference == 0 for line in trial_balance(session, tenant))
    b.assert_sound()


def replay(session: Any, tenant: str) -> dict[tuple[str, str], tuple[int, int]]:
    """The same balances from the entries alone."""
    rows = session.execute(
        text("""
            SELECT a.code, a.asset, sum(e.units) AS balance, count(*) AS version
            FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
            WHERE a.tenant = :tenant GROUP BY a.code, a.asset"""),
        {"tenant": tenant},
    )
    return {(row.code, row.asset): (int(row.balance), row.version) for row in rows}


class Books(RuleBasedStateMachine):
    """Posts, duplicates, contradictions and reversals in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.tenant, self.model = b.new_tenant(), Model()
        self.booked: list[tuple[str, list[Posting], Any]] = []
        self.undone: dict[Any, str] = {}

    def _pick(self, index: int) -> tuple[str, list[Posting], Any]:
        return self.booked[index % len(self.booked)]

    @rule(content=journals)
    def books_a_journal(self, content: list[Posting]) -> None:
        reference = f"j:{len(self.booked)}"
        if self.model.accepts(content):
            self.booked.append((reference, content, book(self.tenant, reference, *content).id))
            return
        try:
            book(self.tenant, reference, *content)
        except InsufficientFundsError:
            return
        raise AssertionError("a floor was crossed")

    @precondition(lambda self: self.booked)
    @rule(index=st.integers(0, 99))
    def repeats_one(self, index: int) -> None:
        reference, content, journal_id = self._pick(index)
        if reference.startswith("undo:"):
            return
        again = book(self.tenant, reference, *content)
        assert (again.id, again.created) == (journal_id, False)

    @precondition(lambda self: self.booked)
    @rule(index=st.integers(0, 99), content=journals)
    def contradicts_one(self, index: int, content: list[Posting]) -> None:
        reference, booked, _ = self._pick(index)
        if content == booked:
            return
        try:
            book(self.tenant, reference, *content)
        except ReferenceReusedError:
            return
        raise AssertionError("one reference, two contents")

    @precondition(lambda self: self.booked)
    @rule(index=st.integers(0, 99))
    def reverses_one(self, index: int) -> None:
        reference, content, journal_id = self._pick(index)
        mirror = [b.move(p.destination, p.source, p.units, p.asset) for p in reversed(content)]
        first = journal_id not in self.undone
        possible = first and self.model.accepts(mirror)
        try:
            with transaction() as session:
                made = reverse(session, tenant=self.tenant, reference=f"undo:{reference}", journal_id=journal_id)
        except InsufficientFundsError:
            assert first and not possible
            return
        assert made.created == possible
        if possible:
            self.undone[journal_id] = f"undo:{reference}"
            self.booked.append((f"undo:{reference}", mirror, made.id))

    @precondition(lambda self: self.undone)
    @rule(index=st.integers(0, 99))
    def reverses_again_under_another_name(self, index: int) -> None:
        journal_id = list(self.undone)[index % len(self.undone)]
        try:
            with transaction() as session:
                reverse(session, tenant=self.tenant, reference=f"other:{index}", journal_id=journal_id)
        except (AlreadyReversedError, InsufficientFundsError):
            return
        raise AssertionError("a journal was reversed twice")

    @rule(content=journals, bad=st.sampled_from([0, -1, UNITS_MAX + 1]))
    def refuses_bad_units(self, content: list[Posting], bad: int) -> None:
        last = content[-1]
        try:
            book(self.tenant, "bad", *content[:-1], b.move(last.source, last.destination, bad, last.asset))
        except InvalidRequestError:
            return
        raise AssertionError("booked")

    @invariant()
    def agrees_with_the_model(self) -> None:
        with transaction() as session:
            assert b.raw_balances(session, self.tenant) == self.model.accounts

    def teardown(self) -> None:
        b.assert_sound()


def test_any_order_of_posts_repeats_and_reversals_agrees_with_the_model(books: str) -> None:
    run_state_machine_as_test(Books, settings=settings(quick, max_examples=20, stateful_step_count=20))
