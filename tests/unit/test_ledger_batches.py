"""How a batch is cut into statements."""

from ledger.batches import JOURNALS_MAX, POSTINGS_MAX, _runs
from ledger.posting import Journal, Posting

MOVE = Posting(source="custody:eip155:1", destination="user:42:available", asset="eip155:1/slip44:60", units=5)


def journal(reference: str, *, postings: int = 1, tenant: str = "t") -> Journal:
    return Journal(tenant=tenant, reference=reference, category="test", postings=[MOVE] * postings)


def runs(journals: list[Journal]) -> list[list[int]]:
    return list(_runs(journals, range(len(journals))))


def test_statements_are_bounded_by_journals_and_by_postings() -> None:
    assert [len(run) for run in runs([journal(str(n)) for n in range(2 * JOURNALS_MAX + 1)])] == [1000, 1000, 1]
    assert runs([journal(str(n), postings=POSTINGS_MAX // 2) for n in range(5)]) == [[0, 1], [2, 3], [4]]
    assert runs([journal(str(n), postings=POSTINGS_MAX + 1) for n in range(2)]) == [[0], [1]]


def test_a_repeat_comes_in_a_later_statement_and_tenants_keep_their_own_order() -> None:
    assert runs([journal("a"), journal("b"), journal("a"), journal("c")]) == [[0, 1], [2, 3]]
    assert runs([journal("a"), journal("a", tenant="u"), journal("b")]) == [[0, 2], [1]]


def test_nothing_needs_no_statement() -> None:
    assert runs([]) == []
