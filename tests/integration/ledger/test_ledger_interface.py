"""The whole of posting against a plain Python model: one at a time, in batches, many clients at once, with crashes."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.db import transaction
from core.errors import InvalidRequestError, TallyrailError
from core.money import UNITS_MAX
from ledger import accounts
from ledger.batches import book_all
from ledger.errors import (
    AccountFrozenError,
    AlreadyReversedError,
    BatchRefusedError,
    InsufficientFundsError,
    ReferenceReusedError,
)
from ledger.posting import Journal, Posting, post, reverse
from ledger.posting import book as book_one
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, SUSPENSE, USDT
from tests.integration.ledger.crashes import crash, until_answered
from tests.integration.ledger.test_ledger_properties import quick, replay

OWED, CAROL = "user:alice:owed", "user:carol:available"
CODES = [CUSTODY, ALICE, BOB, CAROL, OWED, SUSPENSE, FEES]
codes = st.sampled_from(CODES)
postings = st.builds(
    lambda pair, asset, units: b.move(pair[0], pair[1], units, asset),
    st.tuples(codes, codes).filter(lambda pair: pair[0] != pair[1]),
    st.sampled_from([ETH, USDT]),
    st.one_of(st.integers(1, 100), st.integers(1, UNITS_MAX // 10_000)),
)
contents = st.lists(postings, min_size=1, max_size=4)
bad = st.sampled_from([b.move(ALICE, ALICE, 1), b.move(CUSTODY, ALICE, 0), b.move(CUSTODY, "nobody", 1),
                       b.move(CUSTODY, ALICE, 1, "iso4217:XXX")])  # fmt: skip


class Model(b.Model):
    """Balances, and what is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen: set[tuple[str, str]] = set()

    def refusal(self, content: list[Posting]) -> type[TallyrailError] | None:
        """Book it, or say why not: the first posting that can't be decides."""
        for index, posting in enumerate(content):
            if posting == bad_of(posting):
                return InvalidRequestError
            if (posting.source, posting.asset) in self.frozen and self._sound(content[:index]):
                return AccountFrozenError
        return None if self.accepts(content) else InsufficientFundsError

    def _sound(self, content: list[Posting]) -> bool:
        before = dict(self.accounts)
        try:
            return self.accepts(content) if content else True
        finally:
            self.accounts = before


def bad_of(posting: Posting) -> Posting | None:
    wrong = posting.source == posting.destination or not posting.units or posting.asset == "iso4217:XXX"
    return posting if wrong or "nobody" in (posting.source, posting.destination) else None


class Interface(RuleBasedStateMachine):
    superuser_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.tenant, self.model, self.number = b.new_tenant(), Model(), 0
        self.booked: dict[str, tuple[list[Posting], UUID]] = {}
        self.undone: set[str] = set()

    def journal(self, content: list[Posting], reference: str = "") -> Journal:
        self.number += 1
        return b.journal(self.tenant, reference or f"j:{self.number}", *content)

    def expects(self, journal: Journal, expected: type[TallyrailError] | None, error: Exception | None) -> None:
        assert type(error) is (expected or type(None)), (journal, error)

    @rule(content=contents)
    def books_one(self, content: list[Posting]) -> None:
        journal, expected = self.journal(content), self.model.refusal(content)
        try:
            posted, error = book_one(journal), None
        except TallyrailError as raised:
            posted, error = None, raised
        self.expects(journal, expected, error)
        if posted is not None:
            self.booked[journal.reference] = (content, posted.id)

    @rule(several=st.lists(st.one_of(contents, contents, bad.map(lambda one: [one])), min_size=1, max_size=8),
          again=st.booleans())  # fmt: skip
    def books_a_batch(self, several: list[list[Posting]], again: bool) -> None:
        """Each as if it were booked after the one before; bad ones are named and sink nothing. Twice is once."""
        journals = [self.journal(content) for content in several]
        if again:
            journals += journals[:2]
        expected: list[type[TallyrailError] | None] = []
        for journal in journals:
            known = journal.reference in self.booked
            expected.append(None if known else self.model.refusal(list(journal.postings)))
            if expected[-1] is None and not known:
                self.booked[journal.reference] = (list(journal.postings), UUID(int=0))
        outcomes = book_all(journals)
        assert [outcome.reference for outcome in outcomes] == [journal.reference for journal in journals]
        for journal, refusal, outcome in zip(journals, expected, outcomes, strict=True):
            self.expects(journal, refusal, outcome.error)
            if outcome.posted is not None:
                content, first = self.booked[journal.reference]
                assert first in (UUID(int=0), outcome.posted.id)
                assert outcome.posted.created == (first == UUID(int=0))
                self.booked[journal.reference] = (content, outcome.posted.id)

    @rule(several=st.lists(contents, min_size=1, max_size=5))
    def books_all_or_nothing(self, several: list[list[Posting]]) -> None:
        journals = [self.journal(content) for content in several]
        before = dict(self.model.accounts)
        refused = [journal.reference for journal in journals if self.model.refusal(list(journal.postings))]
        try:
            outcomes = book_all(journals, whole=True)
        except BatchRefusedError as error:
            named = [reference for reference, _ in error.refused]
            self.model.accounts = before
        else:
            named = []
        assert named == refused
        if refused:
            return
        for journal, outcome in zip(journals, outcomes, strict=True):
            assert outcome.posted is not None
            self.booked[journal.reference] = (list(journal.postings), outcome.posted.id)

    @precondition(lambda self: self.booked)
    @rule(data=st.data(), other=contents, batched=st.booleans())
    def repeats_or_contradicts(self, data: st.DataObject, other: list[Posting], batched: bool) -> None:
        reference = data.draw(st.sampled_from(sorted(self.booked)))
        content, journal_id = self.booked[reference]
        if reference.startswith("undo:"):
            return
        for asked in (content, other):
            journal = self.journal(asked, reference)
            try:
                if batched:
                    [outcome] = book_all([journal])
                    if outcome.error is not None:
                        raise outcome.error
                    posted = outcome.posted
                else:
                    posted = book_one(journal)
            except ReferenceReusedError:
                assert asked != content
                continue
            assert posted is not None
            assert asked == content
            assert (posted.id, posted.created) == (journal_id, False)

    @precondition(lambda self: self.booked)
    @rule(data=st.data())
    def reverses(self, data: st.DataObject) -> None:
        reference = data.draw(st.sampled_from(sorted(self.booked)))
        content, journal_id = self.booked[reference]
        mirror = [b.move(p.destination, p.source, p.units, p.asset) for p in reversed(content)]
        frozen, self.model.frozen = self.model.frozen, set()  # a reversal takes back what a frozen account got
        expected = AlreadyReversedError if reference in self.undone else self.model.refusal(mirror)
        self.model.frozen = frozen
        self.number += 1
        try:
            with transaction() as session:
                made = reverse(session, tenant=self.tenant, reference=f"undo:{self.number}", journal_id=journal_id)
        except TallyrailError as error:
            # Where both are true, which one is said depends on which the database meets first.
            assert type(error) is expected or expected is AlreadyReversedError  # noqa: PT017
            return
        assert expected is None
        self.undone.add(reference)
        self.booked[f"undo:{self.number}"] = (mirror, made.id)

    @rule(code=codes, asset=st.sampled_from([ETH, USDT]), frozen=st.booleans())
    def freezes_or_unfreezes(self, code: str, asset: str, frozen: bool) -> None:
        act = accounts.freeze if frozen else accounts.unfreeze
        if not frozen and (code, asset) not in self.model.frozen:
            return
        with transaction() as session:
            act(session, tenant=self.tenant, code=code, asset=asset, reason="a test", actor="test")
        (self.model.frozen.add if frozen else self.model.frozen.discard)((code, asset))

    @rule(content=contents, at=st.integers(0, 5), before=st.booleans())
    def crashes_while_posting(self, content: list[Posting], at: int, before: bool) -> None:
        """Killed at some statement, then asked again: the answer is what it would have been, and it is booked once."""
        journal = self.journal(content)

        def work() -> UUID:
            with transaction() as session:
                return post(session, journal).id

        with crash(self.superuser_url, at=at, before=before), suppress(DBAPIError, TallyrailError):
            work()
        expected = self.model.refusal(content)
        try:
            self.booked[journal.reference] = (content, until_answered(work))
        except TallyrailError as error:
            self.expects(journal, expected, error)
            return
        assert expected is None

    @rule(several=st.lists(st.lists(contents, min_size=1, max_size=4), min_size=2, max_size=4))
    def many_clients_at_once(self, several: list[list[list[Posting]]]) -> None:
        """In whatever order it happened: there is one in which the model books exactly what was booked."""
        lists = [[self.journal(content) for content in client] for client in several]

        def client(number: int) -> list[str]:
            if number % 2:
                return [outcome.reference for outcome in book_all(lists[number]) if outcome.posted]
            done = []
            for journal in lists[number]:
                try:
                    book_one(journal)
                except (InsufficientFundsError, AccountFrozenError):
                    continue
                done.append(journal.reference)
            return done

        with ThreadPoolExecutor(len(lists)) as pool:
            told = {reference for done in pool.map(client, range(len(lists))) for reference in done}
        journals = {journal.reference: journal for client in lists for journal in client}
        with transaction() as session:
            rows = session.execute(
                text("SELECT id, reference FROM ledger_journals WHERE tenant = :tenant AND reference = ANY(:these)"
                     " ORDER BY number"),
                {"tenant": self.tenant, "these": list(journals)},
            ).all()  # fmt: skip
        assert {row.reference for row in rows} == told
        for row in rows:  # numbers are taken under the locks
            content = list(journals[row.reference].postings)
            assert self.model.refusal(content) is None
            self.booked[row.reference] = (content, row.id)

    @invariant()
    def agrees_with_the_model(self) -> None:
        with transaction() as session:
            assert b.raw_balances(session, self.tenant) == self.model.accounts

    def teardown(self) -> None:
        with transaction() as session:
            assert replay(session, self.tenant) == self.model.accounts
            assert b.references(session, self.tenant) == {name: made for name, (_, made) in self.booked.items()}
        b.assert_sound()


def test_any_order_of_everything_agrees_with_the_model(books: str, superuser_url: str) -> None:
    Interface.superuser_url = superuser_url
    run_state_machine_as_test(Interface, settings=settings(quick, max_examples=6, stateful_step_count=15))


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_any_order_of_everything_for_long(books: str, superuser_url: str) -> None:
    Interface.superuser_url = superuser_url
    run_state_machine_as_test(Interface, settings=settings(quick, max_examples=600, stateful_step_count=40))
