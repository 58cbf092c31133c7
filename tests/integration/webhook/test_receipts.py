"""A webhook is kept once however often it comes, with one job; its content goes when its time is over."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core import db, jobs
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from domain.webhook import service
from domain.webhook.states import ReceiptState
from tests.integration.webhook.desk import age, arrived, keep, kept, receipt, receipts
from tests.support.jobs import statuses


def test_it_is_kept_as_it_came_with_one_job(database_url: str) -> None:
    body = bytes(range(256)) * 4
    [told] = keep(arrived(body, event_id="evt_1", headers={"content-type": "a/b", "stripe-signature": "t=1,v1=ab"}))
    assert not told.is_repeat
    [row] = receipts()
    assert (row.body, row.bytes, row.dedupe_key, row.repeats) == (body, 1_024, "event:evt_1", 0)
    assert row.headers == {"content-type": "a/b"}, "no signature is kept: one of them is a secret"
    assert (row.state, str(row.remote), row.correlation_id) == ("received", "203.0.113.7", "corr-1")
    with db.transaction() as session:
        [job] = jobs.page(session, subject=service.subject(row.id))
    assert (job.task, job.args) == ("fiat_webhook.handle", {"receipt_id": str(row.id)})
    assert (job.correlation_id, job.attempts_max) == ("corr-1", service.ATTEMPTS_MAX)


def test_its_job_is_the_one_that_core_jobs_would_write(database_url: str) -> None:
    """They are written by one statement, so by another than all others."""
    one = kept(b"x")
    with db.transaction() as session:
        service.replay(session, one, actor="ada")
        written, submitted = (vars(each) for each in jobs.page(session, subject=service.subject(one)))
        # What differs with each: its id and its time.
        own = {"id", "created_at", "run_at", "_sa_instance_state"}
        assert {name: value for name, value in written.items() if name not in own} == {
            name: value for name, value in submitted.items() if name not in own
        }
        assert len(written) > 15 and all(each["run_at"] == each["created_at"] for each in (written, submitted))


def test_repeats_are_counted_and_ask_for_nothing(database_url: str) -> None:
    """Within a batch, between batches, by event id and by digest; and one provider's are not another's."""
    first = arrived(b"a", event_id="evt_1")
    assert [one.is_repeat for one in keep(first, first, arrived(b"b"), first)] == [False, True, False, True]
    other = arrived(b"another body", event_id="evt_1")  # as Stripe's, which counts its tries in the body
    assert [one.is_repeat for one in keep(arrived(b"b"), other, arrived(b"c"))] == [True, True, False]
    assert not keep(arrived(b"a", event_id="evt_1", provider="razorpay"))[0].is_repeat
    found = {(row.provider, row.dedupe_key[:9]): (row.repeats, row.body) for row in receipts()}
    assert found[("stripe", "event:evt")] == (3, b"a")
    assert found[("razorpay", "event:evt")] == (0, b"a")
    assert sorted(row.repeats for row in receipts()) == [0, 0, 1, 3]
    assert statuses() == {"queued": 4}


def test_an_event_id_is_never_taken_for_a_digest(database_url: str) -> None:
    digest = arrived(b"x").dedupe_key
    assert [one.is_repeat for one in keep(arrived(b"x"), arrived(b"y", event_id=digest))] == [False, False]


def test_the_same_ones_from_many_at_once_in_any_order(database_url: str) -> None:
    batch = [arrived(f"{n}".encode()) for n in range(60)]
    told: list[bool] = []
    errors: list[BaseException] = []
    start = threading.Barrier(6)

    def send(turn: int) -> None:
        mine = batch[turn * 7 :] + batch[: turn * 7] if turn % 2 else batch[::-1]
        start.wait()
        try:
            told.extend(one.is_repeat for one in keep(*mine))
        except SQLAlchemyError as error:  # a deadlock
            errors.append(error)

    threads = [threading.Thread(target=send, args=(turn,)) for turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert told.count(False) == 60 and len(told) == 360
    assert [row.repeats for row in receipts()] == [5] * 60
    assert statuses() == {"queued": 60}


def test_whatever_a_sender_writes_into_a_header_it_is_kept(database_url: str) -> None:
    keep(arrived(b"x", headers={"user-agent": "a\x00b\u2028" + "y" * 9_000, "content-type": "\xff"}, remote=None))
    [row] = receipts()
    assert row.headers["user-agent"].startswith("a?b?y") and len(row.headers["user-agent"]) == 256


def test_nothing_is_there_if_the_transaction_is_not_committed(database_url: str) -> None:
    with db.transaction() as session:
        service.keep(session, [arrived(b"x")])
        session.rollback()
    assert receipts() == [] and statuses() == {}
    assert not keep(arrived(b"x"))[0].is_repeat


def test_content_goes_when_its_time_is_over_and_repeats_stay_known(database_url: str) -> None:
    old, fresh, waiting, fresh_end = kept(b"old"), kept(b"fresh"), kept(b"waiting"), kept(b"end")
    with db.transaction() as session:
        for one in (old, fresh, fresh_end):
            service.settle(session, one, "handle")
        service.wait(session, waiting, note="unknown")
    for one in (old, waiting):
        age(one, 31 * 24)
    with db.transaction() as session:
        assert service.remove_old(session, keep=timedelta(days=30), limit=100) == 1
    emptied = receipt(old)
    assert (emptied.body, emptied.headers, emptied.remote, emptied.bytes) == (None, {}, None, 3)
    assert {receipt(one).body for one in (fresh, waiting, fresh_end)} == {b"fresh", b"waiting", b"end"}
    assert keep(arrived(b"old"))[0].is_repeat
    with db.transaction() as session:
        assert service.remove_old(session, keep=timedelta(days=30), limit=100) == 0
        with pytest.raises(ConflictError, match="deleted"):
            service.replay(session, old, actor="ada")
        session.rollback()


def test_removing_stops_at_its_limit(database_url: str) -> None:
    ids = [kept(f"{n}".encode()) for n in range(5)]
    with db.transaction() as session:
        for one in ids:
            service.settle(session, one, "ignore", note="nothing of ours")
    for place, one in enumerate(ids):
        age(one, 1_000 - place)
    with db.transaction() as session:
        assert service.remove_old(session, keep=timedelta(days=1), limit=3) == 3
    assert [row.body is None for row in receipts()] == [True, True, True, False, False]


def test_replaying_begins_anew_from_any_state(database_url: str) -> None:
    one = kept(b"x")
    for event in (None, "handle", "ignore"):
        with db.transaction() as session:
            if event:
                service.settle(session, one, event, note="seen")
            service.replay(session, one, actor="ada")
        row = receipt(one)
        assert (row.current, row.note, row.settled_at, row.waiting_at) == (
            ReceiptState.RECEIVED,
            "replayed by ada",
            None,
            None,
        )
    with db.transaction() as session:
        service.wait(session, one, note="unknown")
        service.replay(session, one, actor="ada")
    assert receipt(one).current is ReceiptState.RECEIVED
    assert statuses() == {"queued": 5}
    with db.transaction() as session, pytest.raises(NotFoundError):
        service.replay(session, new_id(), actor="ada")


def test_what_is_settled_stays_so(database_url: str) -> None:
    one = kept(b"x")
    with db.transaction() as session:
        service.settle(session, one, "ignore", note="nothing of ours")
        service.settle(session, one, "handle")
        assert service.wait(session, one, note="late") == timedelta(0)
    assert (receipt(one).current, receipt(one).note) == (ReceiptState.IGNORED, "nothing of ours")


def test_what_is_not_handled_is_told_by_provider_and_state(database_url: str) -> None:
    one, two, done = kept(b"1"), kept(b"2", provider="razorpay"), kept(b"3")
    with db.transaction() as session:
        service.wait(session, two, note="unknown")
        service.settle(session, done, "handle")
    age(one, 2)
    with db.transaction() as session:
        told = {(each.provider, each.state.value): each for each in service.unsettled(session)}
    assert set(told) == {("stripe", "received"), ("razorpay", "waiting")}
    assert told["stripe", "received"].count == 1
    assert told["stripe", "received"].oldest > timedelta(hours=2) > told["razorpay", "waiting"].oldest


def test_the_database_refuses_an_open_one_without_a_body(database_url: str) -> None:
    kept(b"x")
    with pytest.raises(SQLAlchemyError, match="ck_webhook_receipts_body"), db.transaction() as session:
        session.execute(text("UPDATE webhook_receipts SET body = NULL"))
