"""Ways past what people have said of destinations, and past the walls between tenants."""

from dataclasses import replace

import pytest

from core.db import transaction
from core.errors import ConflictError, NotFoundError
from domain.beneficiary import service as book
from domain.payout import service
from domain.payout.service import Edit
from tests.integration.payout_asking.desk import ACCT, KEY, NUBAN, SHOP, USER, Desk

CASINO = "casino"


def remove(entry_id: object) -> None:
    with transaction() as session:
        book.remove(session, entry_id, tenant=SHOP, actor=KEY)  # type: ignore[arg-type]


def test_a_refused_destination_is_not_made_payable_by_removing_it_and_adding_it_again(asking: Desk) -> None:
    asking.fund(5_000)
    first = asking.destination(ACCT)
    with transaction() as session:
        book.refuse(session, first, actor="person:ada", reason="a mule")
    for _ in range(2):
        remove(first)
        first = asking.destination(ACCT)
        with pytest.raises(ConflictError, match="refused: refused_by_hand"):
            asking.ask(1_000, beneficiary_id=first)
    with transaction() as session:
        book.verify_by_hand(session, first, actor="person:bob", reason="it was another")
    remove(first)
    asking.ask(1_000, beneficiary_id=asking.destination(ACCT))  # a person's last word was that it is well


def test_a_name_that_did_not_fit_is_put_right_by_adding_it_again(asking: Desk) -> None:
    first = asking.destination(NUBAN)
    with transaction() as session:
        book.refuse(session, first, actor="provider:acme", reason="another", failure="holder_differs")
    remove(first)
    with transaction() as session:
        again = book.get(session, asking.destination(replace(NUBAN, holder="Ada Chioma Obi")))
        assert again is not None
        assert again.state == "pending"


def test_nothing_of_another_tenant_can_be_paid_seen_or_decided(asking: Desk) -> None:
    asking.fund(5_000)
    there = asking.destination()
    mine = asking.ask(1_000, beneficiary_id=there)
    with pytest.raises(NotFoundError):
        asking.ask(1_000, beneficiary_id=there, tenant=CASINO)
    named = {"actor": "person:eve", "reason": "mine now", "tenant": CASINO}
    hash_ = mine.content_hash
    with transaction() as session:
        assert service.get(session, mine.id, tenant=CASINO) is None
        assert not service.page(session, tenant=CASINO, account=USER)
        for step in (service.cancel, service.freeze, service.thaw):
            with pytest.raises(NotFoundError):
                step(session, mine.id, **named)
        with pytest.raises(NotFoundError):
            service.approve(session, mine.id, approver="person:eve", seen_hash=hash_, tenant=CASINO)
        with pytest.raises(NotFoundError):
            service.reject(session, mine.id, approver="person:eve", seen_hash=hash_, reason="no", tenant=CASINO)
        with pytest.raises(NotFoundError):
            service.edit(
                session, mine.id, Edit(units=1), asking.ports, editor=KEY, seen_hash=hash_, reason="x", tenant=CASINO
            )
    assert asking.read(mine).state == mine.state
