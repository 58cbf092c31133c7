"""The functions behind the ledger, called by hand with what our code never passes: the books stay whole, or unchanged.

Whoever has the processes' role may call them, so they trust no argument.
"""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from core.db import APP_ROLE, transaction
from ledger.accounts import freeze
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, EUR, SUSPENSE, book

Call = dict[str, Any]
POST = """SELECT ledger_post(%(tenant)s, %(ids)s::uuid[], %(refs)s::text[], %(hashes)s::bytea[], %(categories)s::text[],
    NULL, NULL, NULL, NULL, NULL, %(mirrored)s::uuid[], %(codes)s::text[], %(assets)s::text[], %(journal_of)s::int[],
    %(sources)s::int[], %(destinations)s::int[], %(amounts)s::numeric[])"""
ONE = """SELECT ledger_post_one(%(tenant)s, %(id)s::uuid, %(ref)s, 'x'::bytea, 'test', NULL, NULL, NULL, NULL, NULL,
    %(mirrored)s::uuid, %(asset)s, %(source)s, %(source_stripes)s::int, %(destination)s, %(destination_stripes)s::int,
    %(units)s::numeric)"""
OPEN = """SELECT ledger_open(%(tenant)s, %(codes)s::text[], %(assets)s::text[], %(kinds)s::text[], %(sides)s::text[],
    %(floors)s::numeric[], %(stripes)s::int[])"""
PLACE = """SELECT ledger_place(%(tenant)s, %(id)s::uuid, 'hold', 'x'::bytea, %(source)s, %(target)s, %(asset)s,
    %(units)s::numeric, %(deadline)s::timestamptz, NULL, NULL, NULL, NULL)"""
CAPTURE = """SELECT ledger_capture(%(tenant)s, %(hold)s::uuid, %(id)s::uuid, 'capture', 'x'::bytea, 'test', NULL, NULL,
    NULL, NULL, NULL, %(units)s::numeric)"""
LIMIT = "SELECT ledger_control(%(tenant)s, %(code)s, %(asset)s, 'limit', %(wanted)s::jsonb, 'why', 'who')"

AMOUNTS = ("-1", "0", "-11", "0.5", "0.4", "1.5", "NaN", "Infinity", "-Infinity", "1" + 38 * "0", None, "11")
"""None of them can leave an account that has 10."""


@pytest.fixture
def app(database_url: str) -> Iterator[psycopg.Connection]:
    """What a process has, and no more."""
    with psycopg.connect(database_url, options=f"-c role={APP_ROLE}", autocommit=True) as made:
        yield made


@pytest.fixture
def tenant(books: str) -> str:
    """Alice and Bob have 10 each, Alice in euros too."""
    book(books, "open", b.move(CUSTODY, ALICE, 10), b.move(CUSTODY, BOB, 10), b.move(CUSTODY, ALICE, 10, EUR))
    return books


def journal(tenant: str) -> Call:
    """One unit from Alice to Bob."""
    return {
        "tenant": tenant, "ids": [uuid.uuid4()], "refs": ["r1"], "hashes": [b"x"], "categories": ["test"],
        "mirrored": None, "codes": [ALICE, BOB], "assets": [ETH, ETH], "journal_of": [1], "sources": [1],
        "destinations": [2], "amounts": ["1"],
    }  # fmt: skip


def two(**more: Any) -> Call:
    return {
        "ids": [uuid.uuid4(), uuid.uuid4()], "refs": ["r1", "r2"], "hashes": [b"x", b"y"], "categories": ["test"] * 2,
        "journal_of": [1, 2], "sources": [1, 1], "destinations": [2, 2], "amounts": ["1", "1"], **more,
    }  # fmt: skip


HOSTILE_JOURNALS: dict[str, Call] = {
    **{f"{units} units": {"amounts": [units]} for units in AMOUNTS},
    "no array of units": {"amounts": None},
    "an account to itself": {"destinations": [1]},
    "a source that is place 0": {"sources": [0]},
    "a source beyond the accounts": {"sources": [9]},
    "a destination beyond the accounts": {"destinations": [9]},
    "no source": {"sources": [None]},
    "no destination": {"destinations": [None]},
    "an account twice": {"codes": [ALICE, ALICE]},
    "an account in no asset": {"assets": [ETH, None]},
    "two assets": {"assets": [EUR, ETH]},
    "no postings": {"journal_of": [], "sources": [], "destinations": [], "amounts": []},
    "nothing at all": {"ids": [], "refs": [], "journal_of": [], "sources": [], "destinations": [], "amounts": []},
    "no arrays": {"journal_of": None, "sources": None, "destinations": None, "amounts": None},
    "a posting of journal 0": {"journal_of": [0]},
    "a posting of journal 2 of 1": {"journal_of": [2]},
    "a posting of no journal": {"journal_of": [None]},
    "more units than postings": {"amounts": ["1", "2"]},
    "more postings than units": {"journal_of": [1, 1]},
    "units in a matrix": {"amounts": [["1"]]},
    "two, the second first": two(journal_of=[2, 1]),
    "two, the first again": two(journal_of=[1, 2, 1], sources=[1] * 3, destinations=[2] * 3, amounts=["1"] * 3),
    "two, the second without postings": two(journal_of=[1], sources=[1], destinations=[2], amounts=["1"]),
    "two, the first without postings": two(journal_of=[2], sources=[1], destinations=[2], amounts=["1"]),
    "two of one reference": two(refs=["r1", "r1"]),
    "two with one reference": two(refs=["r1"]),
    "two of one id": two(ids=[uuid.UUID(int=7)] * 2),
    "no reference": {"refs": [None]},
    "no id": {"ids": [None]},
    "no ids": {"ids": None},
    "no hash": {"hashes": [None]},
    "no tenant": {"tenant": None},
    "the reversal of nothing": {"mirrored": [uuid.UUID(int=7)]},
}
HOSTILE_POSTS: dict[str, Call] = {
    **{f"{units} units": {"units": units} for units in AMOUNTS},
    "an account to itself": {"destination": ALICE},
    "a row to another row of its account": {"source": CUSTODY, "source_stripes": 16, "destination": CUSTODY},
    "no stripes": {"source_stripes": 0},
    "an asset that one has not": {"asset": EUR},
    "an asset that nobody has": {"asset": "gold"},
    "no source": {"source": None},
    "no destination": {"destination": None},
    "no reference": {"ref": None},
    "no id": {"id": None},
    "no tenant": {"tenant": None},
    "the reversal of nothing": {"mirrored": uuid.UUID(int=7)},
}
HOSTILE_OPENINGS: dict[str, Call] = {
    "rows added to an account": {"codes": [ALICE], "stripes": [16]},
    "rows of two widths": {"codes": ["new", "new"], "stripes": [2, 16]},
    "no such kind": {"kinds": ["gold"]},
    "the wrong side": {"sides": ["debit"]},
    "more rows than can be": {"stripes": [100_000]},
    "no rows": {"stripes": [0]},
    "a floor in rows": {"floors": ["0"], "stripes": [16]},
    "a floor above nothing": {"floors": ["1"]},
    "a floor that is no number": {"floors": ["NaN"]},
    "no such asset": {"assets": ["gold"]},
}


def post_one(tenant: str) -> Call:
    return {
        "tenant": tenant, "id": uuid.uuid4(), "ref": "r1", "mirrored": None, "asset": ETH, "source": ALICE,
        "source_stripes": 1, "destination": BOB, "destination_stripes": 1, "units": "1",
    }  # fmt: skip


def opening(tenant: str, change: Call) -> Call:
    rows = len(change.get("codes", ["new"]))
    return {
        "tenant": tenant, "codes": ["new"], "assets": [ETH] * rows, "kinds": ["liability"] * rows,
        "sides": ["credit"] * rows, "floors": [None] * rows, "stripes": [1] * rows, **change,
    }  # fmt: skip


def written(app: psycopg.Connection) -> Any:
    """All that these functions write, but for the time at which a row was last tried."""
    return app.execute("""
        SELECT (SELECT count(*) FROM ledger_journals), (SELECT count(*) FROM ledger_entries),
               (SELECT count(*) FROM ledger_holds), (SELECT count(*) FROM ledger_account_changes),
               (SELECT count(*) FROM ledger_freezes),
               (SELECT jsonb_agg(to_jsonb(a) - 'booked_at' ORDER BY id) FROM ledger_accounts a)""").fetchone()


def changes_nothing(app: psycopg.Connection, statement: str, call: Call, **settings: str) -> None:
    before = written(app)
    for name, value in settings.items():
        app.execute("SELECT set_config(%s, %s, false)", [f"tallyrail.{name}", value])
    with suppress(psycopg.Error):  # an answer that says what is wrong is as good
        app.execute(statement, call)
    assert written(app) == before
    b.assert_sound()


def test_what_these_tests_start_from_is_booked(app: psycopg.Connection, tenant: str) -> None:
    """Or else every refusal below might be for another reason."""
    for statement, call in (
        (POST, journal(tenant)),
        (POST, journal(tenant) | two(refs=["r2", "r3"])),
        (ONE, post_one(tenant) | {"ref": "r4"}),
        (OPEN, opening(tenant, {})),
    ):
        before = written(app)
        assert app.execute(statement, call).fetchone() in [(None,), ("",)]
        assert written(app) != before
    b.assert_sound()


def test_no_argument_of_ledger_post_harms_the_books(
    app: psycopg.Connection, tenant: str, subtests: pytest.Subtests
) -> None:
    for name, change in HOSTILE_JOURNALS.items():
        with subtests.test(name):
            changes_nothing(app, POST, journal(tenant) | change)


def test_the_word_that_spares_a_post_the_trigger_is_not_the_callers_to_say(
    app: psycopg.Connection, tenant: str, subtests: pytest.Subtests
) -> None:
    for name, change in HOSTILE_JOURNALS.items():
        with subtests.test(name):
            changes_nothing(app, POST, journal(tenant) | change, entries="one pair")


def test_no_argument_of_ledger_post_one_harms_the_books(
    app: psycopg.Connection, tenant: str, subtests: pytest.Subtests
) -> None:
    for name, change in HOSTILE_POSTS.items():
        with subtests.test(name):
            changes_nothing(app, ONE, post_one(tenant) | change)


def test_a_width_that_an_account_has_not_finds_its_rows_all_the_same(app: psycopg.Connection, tenant: str) -> None:
    for place, (stripes, source) in enumerate([(-16, ALICE), (None, ALICE), (16, ALICE), (3, CUSTODY), (-3, CUSTODY)]):
        call = post_one(tenant) | {"ref": f"w{place}", "source": source, "source_stripes": stripes}
        assert app.execute(ONE, call).fetchone() == (None,)
        b.assert_sound()


def test_no_journal_takes_the_id_of_another(app: psycopg.Connection, tenant: str) -> None:
    with transaction() as session:
        taken = b.references(session, tenant)["open"]
    changes_nothing(app, ONE, post_one(tenant) | {"id": taken})
    changes_nothing(app, POST, journal(tenant) | {"ids": [taken]})
    changes_nothing(app, POST, journal(tenant) | two(ids=[uuid.uuid4(), taken]))
    with pytest.raises(psycopg.errors.UniqueViolation):
        app.execute(ONE, post_one(tenant) | {"id": taken})
    with pytest.raises(psycopg.errors.UniqueViolation):
        app.execute(POST, journal(tenant) | {"ids": [taken], "mirrored": [taken]})


def test_what_calls_itself_a_reversal_must_be_one(session: Session, app: psycopg.Connection, tenant: str) -> None:
    """It may take money out of a frozen account, and the journal it names can't be reversed again."""
    original = book(tenant, "gift", b.move(ALICE, BOB, 3)).id
    freeze(session, tenant=tenant, code=BOB, asset=ETH, reason="stolen", actor="ops")
    session.commit()
    back = {"source": BOB, "destination": ALICE}
    for change in (
        back,
        {**back, "units": "4"},
        {"source": BOB, "destination": CUSTODY, "destination_stripes": 16},
        {},
    ):
        changes_nothing(app, ONE, post_one(tenant) | change | {"mirrored": original})
    mirror = journal(tenant) | {"mirrored": [original], "sources": [2], "destinations": [1]}
    changes_nothing(app, POST, mirror | {"amounts": ["2"]})
    assert app.execute(POST, mirror | {"amounts": ["3"]}).fetchone() == (None,)
    b.assert_sound()


def test_no_argument_of_ledger_open_harms_an_account(
    app: psycopg.Connection, tenant: str, subtests: pytest.Subtests
) -> None:
    for name, change in HOSTILE_OPENINGS.items():
        with subtests.test(name):
            changes_nothing(app, OPEN, opening(tenant, change))


def test_no_argument_of_a_hold_harms_the_books(app: psycopg.Connection, tenant: str, subtests: pytest.Subtests) -> None:
    place: Call = {
        "tenant": tenant, "id": uuid.uuid4(), "source": ALICE, "target": BOB, "asset": ETH, "units": "4",
        "deadline": None,
    }  # fmt: skip
    hostile: list[Call] = [
        *({"units": units} for units in ("-1", "0", "0.4", "NaN", "Infinity", "-Infinity", "1" + 38 * "0", None, "11")),
        {"target": "user:nobody:available"},
        {"source": CUSTODY},
        {"source": None},
        {"id": None},
        {"tenant": None},
        {"deadline": "-infinity"},
    ]
    for change in hostile:
        with subtests.test(**change):
            changes_nothing(app, PLACE, place | change)
    assert app.execute(PLACE, place).fetchone() == (None,)
    capture = {"tenant": tenant, "hold": place["id"], "id": uuid.uuid4(), "units": "4"}
    with transaction() as session:
        taken = b.references(session, tenant)["open"]
    hostile = [*({"units": units} for units in AMOUNTS), {"id": None}, {"id": taken}, {"tenant": None}]
    for change in hostile:
        with subtests.test("capture", **change):
            changes_nothing(app, CAPTURE, capture | change)
    assert app.execute(CAPTURE, capture).fetchone() == (None,)
    b.assert_sound()


def test_a_limit_is_a_number(app: psycopg.Connection, tenant: str, subtests: pytest.Subtests) -> None:
    for wanted in ('{"ceiling": "NaN"}', '{"floor": "NaN"}', '{"ceiling": "Infinity"}', '{"floor": "x"}', None, "7"):
        with subtests.test(wanted):
            changes_nothing(app, LIMIT, {"tenant": tenant, "code": ALICE, "asset": ETH, "wanted": wanted})


def test_batches_that_share_references_and_no_row_never_deadlock(
    app: psycopg.Connection, database_url: str, books: str
) -> None:
    """Of striped accounts each session has rows of its own, so the references are all that they meet in."""
    book(books, "open", b.move(CUSTODY, SUSPENSE, 1))
    count, rounds, clients = 300, 8, 4
    start = threading.Barrier(clients)

    def post(client: int) -> list[str]:
        """The same references as everybody, half of us backwards. What the database said of each try."""
        said = []
        with psycopg.connect(database_url, options=f"-c role={APP_ROLE}", autocommit=True) as connection:
            for one in range(rounds):
                order = range(count) if client % 2 else range(count)[::-1]
                call = two(
                    ids=[uuid.uuid4() for _ in order], refs=[f"r{one}:{place}" for place in order],
                    hashes=[b"x"] * count, categories=["test"] * count, journal_of=list(range(1, count + 1)),
                    sources=[1] * count, destinations=[2] * count, amounts=["1"] * count,
                )  # fmt: skip
                start.wait(30)
                try:
                    connection.execute(POST, journal(books) | {"codes": [CUSTODY, SUSPENSE]} | call)
                except psycopg.Error as error:
                    said.append(str(error.sqlstate))
        return said

    with ThreadPoolExecutor(clients) as pool:
        said = [word for words in pool.map(post, range(clients)) for word in words]
    assert set(said) <= {"40001"}
    assert app.execute("SELECT count(*) FROM ledger_journals").fetchone() == (1 + rounds * count,)
    b.assert_sound()
