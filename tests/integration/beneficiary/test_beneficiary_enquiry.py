"""Whose account it is: asked outside, with no transaction open, and decided once."""

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import ConflictError, TransientError
from domain.beneficiary import service
from domain.beneficiary.service import BeneficiaryState as S
from providers.payout.base import Destination, Kind
from tests.integration.beneficiary.desk import ADA, HDFC, IBAN, UPI, add, enquiries, events, read, verify
from tests.integration.beneficiary.scripted import ScriptedProvider, away, not_asked
from tests.support.payouts.flutterwave import FlutterwaveDouble

pytestmark = pytest.mark.usefixtures("vault_keys")
HERS = {"0123456785": "OBI ADA CHIOMA", "ada.obi@okaxis": "MISS ADA OBI"}


def test_the_holder_that_was_given_is_the_one_that_is_told() -> None:
    acme = ScriptedProvider(holders=HERS)
    row = verify(add(), acme)
    assert (row.current, row.holder_matches, row.verified_by, row.failure) == (S.VERIFIED, True, "acme", None)
    assert row.verified_at is not None
    assert acme.asked == [Destination(**ADA)]  # type: ignore[arg-type]
    assert events(row.id)[-1] == ("verify", "verified", "provider:acme")
    assert verify(row.id, acme).updated_at == row.updated_at and len(acme.asked) == 1  # once
    assert verify(add(**UPI), acme).current is S.VERIFIED


def test_a_provider_is_asked_over_http() -> None:
    with FlutterwaveDouble() as double:
        provider = double.provider()
        service.refresh({"flutterwave": provider})
        with transaction() as session:
            assert service.banks(session, Kind.BANK_NG).names["058"] == "GTBank"
        double.holders["0123456785"] = "OBI, ADA CHIOMA"
        beneficiary, none = add(), add(account="user:7:available", number="0690000032", bank_code="044")
        for each in (beneficiary, none):
            service.verify(each, {"flutterwave": provider})
    assert (read(beneficiary).state, read(beneficiary).verified_by) == ("verified", "flutterwave")
    assert read(none).failure == "no_such_account"


def test_another_s_account_and_none_are_refused() -> None:
    other = verify(add(holder="Bola Okafor"), ScriptedProvider(holders=HERS))
    assert (other.current, other.holder_matches, other.failure) == (S.REFUSED, False, "holder_differs")
    none = verify(add(account="user:7:available"), ScriptedProvider())
    assert (none.current, none.holder_matches, none.failure) == (S.REFUSED, None, "no_such_account")
    assert other.verified_at is none.verified_at is None


def test_who_doesn_t_answer_is_asked_again_and_another_meanwhile() -> None:
    beneficiary = add()
    acme, bravo = ScriptedProvider(fails=[away()]), ScriptedProvider("bravo", fails=[away(), not_asked()])
    for _ in range(2):
        acme.fails = [away()]
        with pytest.raises(TransientError, match="acme did not tell the holder: the bank is away"):
            service.verify(beneficiary, {"acme": acme, "bravo": bravo})
    assert read(beneficiary).current is S.PENDING
    acme.fails, bravo.holders = [away()], HERS
    assert verify(beneficiary, acme, bravo).verified_by == "bravo"


def test_no_transaction_is_open_while_a_provider_is_asked() -> None:
    def is_idle() -> None:
        with transaction() as session:
            busy = session.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
                )
            )
        assert busy == 0

    assert verify(add(), ScriptedProvider(holders=HERS, before_answer=is_idle)).current is S.VERIFIED


def test_where_nobody_tells_indian_destinations_go_by_their_checks_and_others_wait() -> None:
    silent = ScriptedProvider(enquires=frozenset())
    for beneficiary in (add(**HDFC), add(**UPI)):
        row = verify(beneficiary, silent)
        assert (row.current, row.holder_matches, row.verified_by, silent.asked) == (S.VERIFIED, None, None, [])
    waiting = add()
    with pytest.raises(TransientError, match="waits for one, or for a person"):
        service.verify(waiting, {"acme": silent})
    assert read(waiting).current is S.PENDING
    told = add(account="user:7:available", **HDFC)
    telling = ScriptedProvider(enquires=frozenset({Kind.BANK_IN}), fails=[not_asked()])
    with pytest.raises(TransientError, match="may make no enquiries"):  # that is no reason to go by the checks
        service.verify(told, {"acme": telling})
    asked = verify(told, telling)
    assert asked.failure == "no_such_account"


def test_what_was_decided_while_a_provider_was_asked_stands() -> None:
    beneficiary = add()

    def refuse() -> None:
        with transaction() as session:
            service.refuse(session, beneficiary, actor="person:ann", reason="a known fraud")

    row = verify(beneficiary, ScriptedProvider(holders=HERS, before_answer=refuse))
    assert (row.current, row.failure, row.holder_matches) == (S.REFUSED, "refused_by_hand", None)
    removed = add(account="user:7:available")

    def remove() -> None:
        with transaction() as session:
            service.remove(session, removed, actor="key:1")

    assert verify(removed, ScriptedProvider(holders=HERS, before_answer=remove)).current is S.REMOVED


def test_a_person_has_the_last_word_with_a_reason() -> None:
    row = verify(add(), ScriptedProvider())
    with transaction() as session:
        service.verify_by_hand(session, row.id, actor="person:ann", reason="called the bank")
    seen = read(row.id)
    assert (seen.current, seen.failure, seen.verified_by) == (S.VERIFIED, None, "person:ann")
    with transaction() as session:
        service.refuse(session, row.id, actor="provider:acme", reason="closed", failure="closed")
    assert (read(row.id).current, read(row.id).failure, read(row.id).verified_at) == (S.REFUSED, "closed", None)
    with transaction() as session:
        service.retry(session, row.id, actor="person:ann", reason="reopened")
    assert (read(row.id).current, len(enquiries())) == (S.PENDING, 2)
    assert verify(row.id, ScriptedProvider(holders=HERS)).current is S.VERIFIED
    assert [event for event, _, _ in events(row.id)] == ["add", "refuse", "verify", "refuse", "retry", "verify"]
    for step in (service.verify_by_hand, service.retry):
        with pytest.raises(ConflictError), transaction() as session:
            step(session, row.id, actor="person:ann", reason="again")


def test_what_nobody_can_be_asked_about_is_not_asked_about_again() -> None:
    beneficiary = add(**IBAN)
    with transaction() as session:
        service.refuse(session, beneficiary, actor="person:ann", reason="a known fraud")
    with pytest.raises(ConflictError, match="nobody can be asked"), transaction() as session:
        service.retry(session, beneficiary, actor="person:ann", reason="x")
