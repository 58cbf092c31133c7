"""The book: one entry a destination, sealed for its row, removed for good."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from config import settings
from core import clock, vault
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError, TransientError
from core.vault import VaultOffError
from domain.beneficiary import service
from domain.beneficiary.service import BeneficiaryState as S
from providers.payout.base import Destination, Kind
from tasks import vault as nightly
from tests.integration.beneficiary.conftest import NEW_KEY, OLD_KEY, UseKeys
from tests.integration.beneficiary.desk import ADA, HDFC, IBAN, SHOP, UPI, USER, add, enquiries, events, new, read
from tests.integration.beneficiary.scripted import BANKS, ScriptedProvider, away

pytestmark = pytest.mark.usefixtures("vault_keys")


def test_a_destination_is_one_entry_of_a_book_however_it_is_spelled(vault_keys: UseKeys) -> None:
    first = add(label="Mum")
    assert add(number="01234 56785", holder="OBI ADA", label="other") == first
    vault_keys(NEW_KEY, OLD_KEY)
    assert add() == first  # recognised, though another key seals now
    assert (read(first).label, len(enquiries())) == ("Mum", 1)
    with transaction() as session:
        assert service.entry_of(session, new(), tenant=SHOP, account=USER, actor="key:2") == first
    assert len({first, add(account="user:43:available"), add(tenant="casino"), add(bank_code="305"), add(**UPI)}) == 5
    prints = {read(each).fingerprint for each in (first, add(account="user:43:available"), add(tenant="casino"))}
    assert len(prints) == 1  # the same place, whoever names it
    assert add(**UPI | {"number": "Ada.Obi@OKAXIS"}) == add(**UPI)
    address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    bare = {"kind": Kind.CHAIN}
    one = add(chain="eip155:1", number=address, **bare)
    assert (
        add(chain="eip155:1", number=address.lower(), **bare) == one != add(chain="eip155:56", number=address, **bare)
    )


def test_two_requests_at_once_make_one_entry() -> None:
    barrier = threading.Barrier(8)
    made: list[UUID] = []

    def ask() -> None:
        barrier.wait()
        made.append(add())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(set(made)), len(enquiries())) == (8, 1, 1)


def test_what_nobody_is_asked_about_is_verified_at_once() -> None:
    row = read(add(**IBAN))
    assert (row.current, row.holder_matches, row.verified_by, row.masked) == (S.VERIFIED, None, None, "DE****3000")
    assert row.verified_at is not None and enquiries() == []
    assert events(row.id) == [("add", "pending", "key:1"), ("verify", "verified", "beneficiary")]
    pending = read(add())
    assert (pending.current, pending.verified_at, pending.bank) == (S.PENDING, None, "058")
    [job] = enquiries()
    assert (job.args, job.tenant, job.subject) == ({"beneficiary_id": str(pending.id)}, SHOP, pending.subject)
    assert read(add(**HDFC)).bank == "HDFC"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"account": "house:fees"}, "account"),
        ({"account": "user:42:playing"}, "account"),
        ({"number": "0123456789"}, "number"),
        ({"bank_code": None}, "bank_code"),
        ({"holder": None}, "holder"),
        ({"label": "x" * 101}, "label"),
        ({"label": "GTB 0123 456-785"}, "label"),
        ({**UPI, "label": "ADA.OBI@okaxis"}, "label"),
    ],
)
def test_what_can_t_be_leaves_nothing_behind(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as error, transaction() as session:
        service.get_or_add(session, new(**given))
    assert error.value.field == field
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM beneficiaries")) == 0 and enquiries() == []


def test_without_keys_there_is_no_book(vault_keys: UseKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_FINGERPRINT_KEY")
    settings.reload()
    with pytest.raises(VaultOffError, match="VAULT_FINGERPRINT_KEY"):
        add()


def decide_soon(beneficiary: UUID) -> None:
    with transaction() as session:
        session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        service.verify_by_hand(session, beneficiary, actor="person:ann", reason="seen")


def test_a_payout_takes_it_over_and_who_decides_waits_for_that() -> None:
    beneficiary = add()
    with transaction() as session:
        taken = service.take(session, beneficiary, tenant=SHOP)
        with pytest.raises(OperationalError, match="lock timeout"):
            decide_soon(beneficiary)
        with transaction() as other:  # another payout doesn't
            other.execute(text("SET LOCAL lock_timeout = '50ms'"))
            assert service.take(other, beneficiary, tenant=SHOP) == taken
    assert taken.destination == Destination(**ADA)  # type: ignore[arg-type]
    assert (taken.id, taken.account, taken.kind, taken.masked) == (beneficiary, USER, Kind.BANK_NG, "058 ******6785")
    assert (taken.state, taken.verified_at, taken.fingerprint) == (S.PENDING, None, read(beneficiary).fingerprint)
    assert "0123456785" not in repr(taken) and "Ada" not in repr(taken)
    for wanted, tenant in ((beneficiary, "casino"), (uuid4(), SHOP)):
        with pytest.raises(NotFoundError), transaction() as session:
            service.take(session, wanted, tenant=tenant)


def test_what_is_removed_is_gone_and_can_be_added_anew() -> None:
    beneficiary = add()
    for _ in range(2):
        with transaction() as session:
            service.remove(session, beneficiary, actor="key:1", tenant=SHOP)
    row = read(beneficiary)
    assert (row.current, row.sealed, row.sealed_by, row.masked) == (S.REMOVED, b"", "", "058 ******6785")
    assert [event for event, _, _ in events(beneficiary)] == ["add", "remove"]
    with pytest.raises(ConflictError), transaction() as session:
        service.take(session, beneficiary, tenant=SHOP)
    with pytest.raises(NotFoundError), transaction() as session:
        service.remove(session, beneficiary, actor="key:1", tenant="casino")
    again = add()
    with transaction() as session:
        assert [row.id for row in service.page(session, tenant=SHOP)] == [again] != [beneficiary]
        assert [row.id for row in service.page(session, state=S.REMOVED)] == [beneficiary]
        assert service.page(session, account="user:43:available") == service.page(session, before=again) == []


def test_one_row_s_text_is_of_no_use_in_another() -> None:
    one, other = add(), add(account="user:66:available", bank_code="305", number="8031234567")
    with transaction() as session:
        moved = {"one": one, "other": other}
        session.execute(
            text(
                "UPDATE beneficiaries SET sealed = stolen.sealed FROM beneficiaries AS stolen"
                " WHERE beneficiaries.id = :one AND stolen.id = :other"
            ),
            moved,
        )
    with pytest.raises(InvariantError, match="not as it was written"), transaction() as session:
        service.take(session, one, tenant=SHOP)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_entries_are_sealed_anew_in_batches_and_what_can_t_be_opened_holds_up_none(vault_keys: UseKeys) -> None:
    kept = [add(account=f"user:{user}:available") for user in range(5)]
    with transaction() as session:
        service.remove(session, kept[4], actor="key:1")
        session.execute(text("UPDATE beneficiaries SET sealed = '\\x01' WHERE id = :id"), {"id": kept[1]})
    vault_keys(NEW_KEY, OLD_KEY)
    last, batches = None, 0
    while True:
        with transaction() as session:
            last = service.reseal(session, after=last, limit=2)
        if last is None:
            break
        batches += 1
    new_id, old_id = vault.key_ids()
    with transaction() as session:
        assert (batches, service.count_by_key(session)) == (2, {new_id: 3, old_id: 1})
    vault_keys(NEW_KEY)
    with transaction() as session:
        assert service.take(session, kept[0], tenant=SHOP).destination == Destination(**ADA)  # type: ignore[arg-type]


def test_by_night_everything_is_sealed_anew_where_there_is_a_vault(
    vault_keys: UseKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    add()
    vault_keys(NEW_KEY, OLD_KEY)
    nightly.reseal()
    with transaction() as session:
        assert service.count_by_key(session) == {vault.current(): 1}
    monkeypatch.delenv("VAULT_KEYS")
    settings.reload()
    nightly.reseal()  # nothing to do, and no dead letter


# --- banks -----------------------------------------------------------------------------------------------------------


def test_a_bank_must_be_on_a_list_once_there_is_one() -> None:
    add(bank_code="50211", number="2012345678")  # no list was ever read
    acme = ScriptedProvider()
    bravo = ScriptedProvider("bravo", lists={Kind.BANK_NG: {"044": "Access", "011": "FBN"}, Kind.BANK_IN: {}})
    service.refresh({"acme": acme, "bravo": bravo})
    with transaction() as session:
        found = service.banks(session, Kind.BANK_NG)
        assert dict(found.names) == {"044": "Access", **BANKS}
        assert list(found.names.values()) == sorted(found.names.values())
        assert service.banks(session, Kind.BANK_IN).read_at is None  # an empty list is none
    assert found.read_at is not None and clock.now() - found.read_at < timedelta(minutes=1)
    add(bank_code="305", number="8031234567")
    with pytest.raises(InvalidRequestError) as error:
        add(bank_code="50212", number="2012345678")
    assert error.value.field == "bank_code"
    add(**HDFC)


def test_a_list_that_can_t_be_read_stays_as_it_was() -> None:
    acme, bravo = ScriptedProvider(), ScriptedProvider("bravo", lists={Kind.BANK_NG: {"044": "Access"}})
    service.refresh({"acme": acme, "bravo": bravo})
    acme.fails, bravo.lists = [away()], {Kind.BANK_NG: {"057": "Zenith"}}
    # Its first list is the one of bank_in.
    acme.fails += [away()]
    with pytest.raises(TransientError):
        service.refresh({"acme": acme, "bravo": bravo})
    with transaction() as session:
        assert dict(service.banks(session, Kind.BANK_NG).names) == {"057": "Zenith", **BANKS}
