"""Audits as jobs: everything is looked at, in pieces; what is wrong is kept until it is proved away; nothing stops."""

import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs
from core.jobs import JobStatus, NewJob
from ledger import audit, seals
from ledger.audit import Cursor, Kind, Step
from ledger.batches import book_all
from ledger.invariants import verify
from ledger.violations import merged
from schedules import beat
from tasks import maintenance
from tasks.base import TASKS, run_jobs
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY
from tests.integration.ledger.sealing import seal_now
from tests.support.fleet import Fleet, wait_until
from tests.support.jobs import job

ROOT = Path(__file__).parent.parent.parent.parent
AT_ONCE = timedelta(seconds=-1)
"""A budget that ends after one piece."""
WHOLE = timedelta(minutes=1)


def done_by(superuser: Session, statement: str) -> None:
    assert superuser.execute(text(statement)).rowcount != 0  # type: ignore[attr-defined]  # has a count
    superuser.commit()


def deposits(tenant: str, name: str, count: int) -> None:
    made = book_all([b.journal(tenant, f"{name}:{n}", b.move(CUSTODY, ALICE, 100)) for n in range(count)])
    assert all(one.posted for one in made)


def audited(kind: Kind, *, budget: timedelta = WHOLE) -> list[Step]:
    """Run one audit to its end, step by step, each in a transaction of its own."""
    with db.transaction() as session:
        cursor = audit.begin(session, kind)
    steps: list[Step] = []
    while cursor is not None:
        with db.transaction() as session:
            steps.append(audit.step(session, cursor, budget=budget))
        cursor = steps[-1].cursor
    return steps


def standing() -> dict[str, int]:
    with db.transaction() as session:
        return {violation.rule: violation.count for violation in audit.status(session).violations}


def run_all() -> list[str]:
    """Do what is due until nothing is, as workers would. Gives the tasks in their order."""
    ran: list[str] = []
    while True:
        with db.transaction() as session:
            due = session.execute(text("SELECT id, task FROM jobs WHERE status = 'queued' ORDER BY created_at")).all()
        if not due:
            return ran
        for row in due:
            run_jobs(TASKS[row.task], [row.id])
            ran.append(row.task.removeprefix("maintenance."))
            assert job(row.id).current is JobStatus.SUCCEEDED, job(row.id).last_error


def ask(task: str, **args: object) -> None:
    with db.transaction() as session:
        jobs.submit(session, NewJob(f"maintenance.{task}", args))


def ranges(session: Session) -> list[tuple[str, int, int]]:
    rows = session.execute(text("SELECT kind, after_number, upto_number FROM ledger_audits ORDER BY id"))
    return [(row.kind, row.after_number, row.upto_number) for row in rows]


def test_each_audit_begins_where_the_last_one_ended(books: str, session: Session) -> None:
    deposits(books, "a", 10)
    assert audited("incremental")[-1].violations == ()  # nothing is sealed, so nothing is settled yet
    seal_now()
    audited("incremental")
    deposits(books, "b", 5)
    seal_now()
    audited("incremental")
    audited("incremental")
    first, last = session.execute(text("SELECT min(number), max(number) FROM ledger_journals")).one()
    middle = first + 9
    assert ranges(session) == [
        ("incremental", 0, 0),
        ("incremental", 0, middle),
        ("incremental", middle, last),
        ("incremental", last, last),
    ]
    assert standing() == {}


def test_every_rule_is_checked_by_a_full_audit_in_pieces(
    books: str, superuser: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PIECES", {"ledger_journals": ("number", 4), "ledger_accounts": ("id", 10)})
    deposits(books, "a", 10)
    b.book(books, "pay", b.move(ALICE, BOB, 1))
    seal_now()
    steps = audited("full", budget=AT_ONCE)
    assert [step.cursor.phase for step in steps if step.cursor] == ["journals"] * 2 + ["accounts"] * 2 + ["totals"]
    assert [step.violations for step in steps] == [()] * 6
    done_by(superuser, "UPDATE ledger_entries SET balance = balance + 1 WHERE position = 1 AND version IN (3, 7)")
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance - 1 WHERE code = '{BOB}'")
    steps = audited("full", budget=AT_ONCE)
    assert [bool(step.violations) for step in steps] == [True, True, False, False, True, True]
    # Each changed balance is wrong itself and makes the next one wrong.
    assert standing() == {
        "running balances": 4,
        "chain is unbroken": 2,
        "balances equal the replay": 1,
        "trial balance": 1,
    }


def test_an_incremental_audit_finds_what_is_wrong_with_the_new_and_what_it_follows(
    books: str, superuser: Session
) -> None:
    deposits(books, "a", 3)
    seal_now()
    audited("incremental")
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 5 WHERE code = '{ALICE}'")
    deposits(books, "b", 1)
    seal_now()
    [step] = audited("incremental")
    assert {violation.rule for violation in step.violations} == {"running balances"}
    assert standing() == {"running balances": 1}


def test_a_finding_stands_until_a_later_full_audit_proves_it_away(books: str, superuser: Session) -> None:
    deposits(books, "a", 3)
    b.book(books, "pay", b.move(ALICE, BOB, 1))
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{BOB}'")
    seal_now()
    audited("incremental")
    assert standing() == {"balances equal the replay": 1}
    audited("incremental")  # of nothing: it says nothing about the row
    assert standing() == {"balances equal the replay": 1}
    audited("full")
    both = {"balances equal the replay": 1, "trial balance": 1}
    assert standing() == both  # told once, not once an audit: the incremental one's is the full one's now
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance - 1 WHERE code = '{BOB}'")
    with db.transaction() as session:
        begun = audit.begin(session, "full")
    assert begun is not None
    assert standing() == both  # it has not ended
    with db.transaction() as session:
        assert audit.step(session, begun, budget=WHOLE) == Step(None, ())
    assert standing() == {}


def test_a_full_audit_that_began_before_a_finding_does_not_prove_it_away(books: str, superuser: Session) -> None:
    deposits(books, "a", 3)
    seal_now()
    with db.transaction() as session:
        full = audit.begin(session, "full")
    assert full is not None
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{ALICE}'")
    audited("incremental")
    assert standing() == {"balances equal the replay": 1}
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance - 1 WHERE code = '{ALICE}'")
    with db.transaction() as session:
        assert audit.step(session, full, budget=WHOLE).cursor is None
    assert standing() == {"balances equal the replay": 1}
    audited("full")
    assert standing() == {}


def test_a_chain_whose_end_was_cut_off_is_seen_by_the_audit_that_saw_more(books: str, superuser: Session) -> None:
    deposits(books, "a", 8)
    seal_now()
    audited("incremental")
    seen = superuser.scalar(text("SELECT max(number) FROM ledger_links"))
    cut = f"> {seen - 4}"
    for statement in (
        f"DELETE FROM ledger_seals WHERE last_number {cut}",
        f"DELETE FROM ledger_links WHERE number {cut}",
        f"DELETE FROM ledger_entries WHERE journal_number {cut}",
        f"DELETE FROM ledger_journals WHERE number {cut}",
    ):
        done_by(superuser, statement)
    [step] = audited("incremental")
    assert audit.REACH in {violation.rule for violation in step.violations}
    assert audit.REACH in standing()


def test_one_audit_of_a_kind_is_at_work(books: str, session: Session) -> None:
    with db.transaction() as own:
        first = audit.begin(own, "full")
    with db.transaction() as own:
        assert audit.begin(own, "full") is None
        assert audit.begin(own, "incremental") is not None
    assert first is not None
    session.execute(text("UPDATE ledger_audits SET reached_at = now() - interval '1 hour'"))
    session.commit()
    with db.transaction() as own:  # whoever had it is gone
        assert audit.begin(own, "full") is not None


def test_the_status_knows_how_old_its_audits_are(books: str, session: Session) -> None:
    told = audit.status(session)
    assert (told.since_incremental, told.since_full, told.violations) == (None, None, ())
    deposits(books, "a", 3)
    assert audit.status(session).unsealed.journals == 3
    session.commit()
    seal_now()
    audited("incremental")
    told = audit.status(session)
    assert told.since_incremental is not None
    assert timedelta(0) < told.since_incremental < timedelta(minutes=1)
    assert told.since_full is None
    assert told.unsealed.journals == 0


def test_old_audits_that_found_nothing_are_removed(books: str, superuser: Session, session: Session) -> None:
    deposits(books, "a", 2)
    seal_now()
    for _ in range(2):
        audited("full")
        audited("incremental")
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{ALICE}'")
    audited("full")
    audited("incremental")
    done_by(superuser, "UPDATE ledger_audits SET started_at = started_at - interval '40 days'")
    assert audit.remove_old(session, keep=timedelta(days=50)) == 0
    assert audit.remove_old(session, keep=timedelta(days=30)) == 4
    assert [kind for kind, _, _ in ranges(session)] == ["full", "incremental"]
    assert {row.kind: bool(row.violations) for row in session.execute(text("SELECT * FROM ledger_audits"))} == {
        "full": True,
        "incremental": False,
    }


def test_walking_says_what_verify_says(books: str, superuser: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_PIECES", {"ledger_journals": ("number", 2), "ledger_accounts": ("id", 5)})
    deposits(books, "a", 7)
    done_by(superuser, "DELETE FROM ledger_journals WHERE reference = 'a:6'")  # the last: only its entries are left
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{ALICE}'")
    pieces = list(audit.walk())
    assert [phase for phase, _, _ in pieces] == ["journals"] * 3 + ["accounts"] * 4 + ["totals"]
    found = merged(violation for _, _, some in pieces for violation in some)
    assert sorted(found, key=str) == sorted(verify(superuser), key=str)
    assert {violation.rule for violation in found} == {
        "entries fit their account",
        "balances equal the replay",
        "trial balance",
    }


def test_the_jobs_seal_and_audit_and_go_on_until_all_is_done(
    books: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PIECES", {"ledger_journals": ("number", 5), "ledger_accounts": ("id", 10)})
    monkeypatch.setattr(maintenance, "AUDIT_BUDGET", AT_ONCE)
    deposits(books, "a", 12)
    ask("seal_ledger")
    assert run_all() == ["seal_ledger", "audit_ledger", "audit_ledger", "audit_ledger"]
    ask("audit_ledger", kind="full")
    assert run_all() == ["audit_ledger"] * 6
    last = session.scalar(text("SELECT max(number) FROM ledger_journals"))
    assert ranges(session) == [("incremental", 0, last), ("full", 0, last)]
    assert session.scalar(text("SELECT count(*) FROM ledger_audits WHERE finished_at IS NULL")) == 0
    assert standing() == {}
    ask("remove_old_audits")
    assert run_all() == ["remove_old_audits"]


def test_a_seal_that_is_not_done_asks_for_the_next(
    books: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "SEAL_BUDGET", AT_ONCE)
    deposits(books, "a", 4)
    ask("seal_ledger")
    with db.transaction() as own:
        [first] = own.scalars(text("SELECT id FROM jobs")).all()
    run_jobs(TASKS["maintenance.seal_ledger"], [first])
    assert seals.unsealed(session).journals == 4
    session.commit()
    monkeypatch.undo()
    assert sorted(run_all()) == ["audit_ledger", "audit_ledger", "seal_ledger"]
    assert seals.unsealed(session).journals == 0


def test_somebody_who_posts_for_long_delays_the_seal_and_fails_nothing(
    books: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    deposits(books, "a", 1)
    monkeypatch.setattr(seals, "settle", lambda: None)
    ask("seal_ledger")
    assert run_all() == ["seal_ledger"]
    assert seals.unsealed(session).journals == 1


def test_wrong_books_fail_no_job_and_stop_no_posting(
    books: str, superuser: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    deposits(books, "a", 3)
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{ALICE}'")
    ask("seal_ledger")
    ask("audit_ledger", kind="full")
    assert set(run_all()) == {"seal_ledger", "audit_ledger"}
    assert standing()["balances equal the replay"] == 1
    assert "ledger.violation" in capsys.readouterr().out
    deposits(books, "b", 1)


def test_a_killed_audit_goes_on_where_it_was(books: str, session: Session, superuser: Session) -> None:
    """A process dies in the middle of a step: what the step did is gone, and the same step is done again."""
    deposits(books, "a", 6)
    done_by(superuser, "UPDATE ledger_entries SET balance = balance + 1 WHERE position = 1 AND version = 2")
    seal_now()
    with db.transaction() as own:
        begun = audit.begin(own, "full")
    assert begun is not None
    program = (
        "import sys, time; from datetime import timedelta; from core import db; from ledger import audit\n"
        f"cursor = audit.Cursor({begun.audit})\n"
        "with db.transaction() as session:\n"
        "    audit.step(session, cursor, budget=timedelta(minutes=1)); print('done', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert standing() == {}
    ends = time.monotonic() + 10
    while session.scalar(
        text("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query <> ''")
    ):
        session.rollback()
        assert time.monotonic() < ends
        time.sleep(0.05)
    session.rollback()
    with db.transaction() as own:
        assert audit.step(own, Cursor(begun.audit), budget=WHOLE).cursor is None
    assert standing() == {"running balances": 2}


def test_beat_relay_and_worker_seal_and_audit_by_themselves(books: str, superuser: Session, fleet: Fleet) -> None:
    deposits(books, "a", 20)
    done_by(superuser, f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{ALICE}'")
    fleet.relay()
    fleet.beat()
    fleet.worker()

    def audited_twice() -> bool:
        with db.transaction() as session:
            told = audit.status(session)
        return None not in {told.since_incremental, told.since_full} and told.unsealed.journals == 0

    wait_until(audited_twice, timeout=60)
    assert standing()["balances equal the replay"] >= 1
    with db.transaction() as session:
        wrong = session.execute(
            text("SELECT task, status, last_error FROM jobs WHERE task LIKE '%ledger' AND status = 'dead'")
        ).all()
    assert wrong == []


def test_the_timetable_seals_each_minute_and_audits_in_full_at_night(database_url: str) -> None:
    entries = {entry.name: entry for entry in beat.timetable()}
    assert entries["seal_ledger"].every <= timedelta(minutes=1)
    night = entries["audit_ledger"]
    assert (night.every, night.offset, night.args) == (timedelta(days=1), timedelta(hours=3), {"kind": "full"})
