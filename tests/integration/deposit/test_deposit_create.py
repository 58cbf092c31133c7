"""Taking deposits in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from core import db
from core.errors import ConflictError, InvalidRequestError
from core.jobs import Job
from domain.deposit import service
from domain.deposit.models import DepositAddress
from domain.deposit.service import Deposit, NewDeposit

CHAIN = "eip155:1"
ETH = "eip155:1/slip44:60"
USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
SHARED = "0x52908400098527886E0F7030069857D2E4169EE7"
POOL = ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"]
TX = "0x" + "5c" * 32
ACCOUNT = "user:42:available"

pytestmark = pytest.mark.usefixtures("watched")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """Ethereum has a node, which nothing here asks; the tenant has addresses."""
    from config import assets, settings

    monkeypatch.setenv("RPC_URLS", '{"eip155:1": ["http://127.0.0.1:1"]}')
    settings.reload()
    assets.reload()
    with db.transaction() as session:
        service.register_addresses(session, "shop", CHAIN, [SHARED.lower()], shared=True)
        service.register_addresses(session, "shop", CHAIN, POOL)


def by_hash(**fields: Any) -> NewDeposit:
    given = {"tenant": "shop", "asset": ETH, "account": ACCOUNT, "chain_tx": TX, "address": SHARED}
    return NewDeposit(**given | fields)


def by_address(**fields: Any) -> NewDeposit:
    return NewDeposit(**{"tenant": "shop", "asset": ETH, "account": ACCOUNT} | fields)


def test_a_deposit_is_written_with_its_history_and_the_job_of_its_first_look(session: Session) -> None:
    made = service.create(
        session,
        by_hash(units_expected=10**18, metadata={"order": "1001", "note": "\u00e9\\u0000"}, correlation_id="c-1"),
    )
    session.commit()
    stored = service.get(session, made.id, tenant="shop")
    assert stored is not None and stored is not made
    for column in [column.name for column in Deposit.__table__.columns]:
        attribute = "details" if column == "metadata" else column
        assert getattr(stored, attribute) == getattr(made, attribute), column
    assert [(line.event, line.state_before, line.state_after) for line in service.history(session, made.id)] == [
        ("created", None, "watching")
    ]
    job = session.get(Job, made.look_job_id)
    assert job is not None
    assert (job.task, job.args, job.subject) == ("tx_monitor.look", {"deposit_id": str(made.id)}, made.subject)
    assert (job.tenant, job.correlation_id) == ("shop", "c-1")
    assert service.get(session, made.id, tenant="other") is None


@pytest.mark.parametrize("spelling", [TX, TX[2:], TX.upper().replace("0X", "0x"), TX[2:].upper()])
def test_one_transaction_has_one_name_however_it_is_spelled(session: Session, spelling: str) -> None:
    assert service.create(session, by_hash(chain_tx=spelling)).chain_tx == TX


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("asset", {"asset": "eip155:1/erc20:0x" + "ee" * 20}),
        ("asset", {"asset": "iso4217:USD"}),
        ("chain", {"chain": "eip155:56"}),  # right address, wrong chain
        ("chain", {"asset": "eip155:56/slip44:714"}),  # no node for it here
        ("address", {"address": "0x" + "ab" * 20}),  # nobody's
        ("address", {"tenant": "other"}),  # another tenant's
        ("address", {"address": SHARED.replace("E7", "e7")}),  # wrong checksum
        ("address", {"address": None}),
        ("chain_tx", {"chain_tx": "0x12"}),
        ("chain_tx", {"chain_tx": None}),  # a shared address is claimed by hash
        ("chain_tx", {"address": POOL[0]}),  # an account's own address is not
        ("units", {"units_expected": 0}),
        ("units", {"units_expected": -5}),
        ("units", {"units_expected": 1.5}),
        ("units", {"units_expected": True}),
        ("units", {"units_expected": 10**38}),
        ("units", {"units_expected": 1}),  # dust
        ("account", {"account": "custody:eip155:1"}),
        ("account", {"account": "house:fees"}),
        ("account", {"account": "user:42:owed"}),
        ("account", {"account": "user:42:held"}),
        ("account", {"account": "42"}),
        ("deadline", {"deadline_at": datetime(2020, 1, 1, tzinfo=UTC)}),
        ("deadline", {"deadline_at": datetime.now(UTC) + timedelta(days=3_000)}),
        ("deadline", {"deadline_at": datetime.now(UTC).replace(tzinfo=None)}),
        ("tolerance_bps", {"tolerance_bps": 10_001}),
        ("tolerance_bps", {"tolerance_bps": -1}),
        ("confirmations", {"confirmations": 0}),
        ("confirmations", {"confirmations": 10_001}),
        ("payer", {"payer": "0x1"}),
        ("correlation_id", {"correlation_id": "a\0b"}),
        ("metadata", {"metadata": {"a": "\0"}}),
        ("metadata", {"metadata": {"a": "\ud800"}}),
        ("metadata", {"metadata": {"a": "\udc00\ud800"}}),
        ("metadata", {"metadata": {"a": float("nan")}}),
        ("metadata", {"metadata": {"a": "x" * 9_000}}),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_nothing_is_written(
    session: Session, field: str, fields: dict[str, Any]
) -> None:
    good, bad = service.create_many(session, [by_hash(metadata={"ok": "\U0001f600 \\ud800"}), by_hash(**fields)])
    assert isinstance(bad, InvalidRequestError)
    assert bad.field == field
    assert isinstance(good, Deposit)
    session.commit()
    assert [deposit.id for deposit in service.page(session)] == [good.id]
    assert session.query(Job).count() == 1


def test_create_raises_what_create_many_returns(session: Session) -> None:
    with pytest.raises(InvalidRequestError):
        service.create(session, by_hash(units_expected=0))


def test_an_account_gets_an_address_of_the_pool_and_keeps_it(session: Session) -> None:
    first = service.create(session, by_address())
    session.commit()
    again = service.create(session, by_address(asset=USDT))
    given = service.create(session, by_address(address=first.address))
    assert first.address in POOL
    assert again.address == given.address == first.address
    row = session.get_one(DepositAddress, (CHAIN, first.address))
    assert row.owner_account == ACCOUNT and row.allotted_at is not None


def test_a_batch_allots_one_address_an_account_and_tells_when_the_pool_is_empty(session: Session) -> None:
    news = [by_address(account=f"user:{user}:available") for user in (1, 2, 1, 3)]
    one, two, one_again, three = service.create_many(session, news)
    assert isinstance(one, Deposit) and isinstance(two, Deposit) and isinstance(one_again, Deposit)
    assert one.address == one_again.address and {one.address, two.address} == set(POOL)
    assert isinstance(three, ConflictError)


def test_an_address_named_becomes_the_accounts_own(session: Session) -> None:
    one, other = service.create_many(
        session, [by_address(address=POOL[1]), by_address(address=POOL[1], account="user:7:available")]
    )
    assert isinstance(one, Deposit) and isinstance(other, ConflictError)
    session.commit()
    with pytest.raises(ConflictError):
        service.create(session, by_address(address=POOL[1], account="user:7:available"))


def test_two_requests_at_once_never_get_the_same_address(session: Session) -> None:
    first = service.create(session, by_address(account="user:1:available"))
    with db.transaction() as other:  # the first is not committed
        second = service.create(other, by_address(account="user:2:available"))
    session.commit()
    assert {first.address, second.address} == set(POOL)


def test_registering_again_changes_nothing_and_otherwise_is_refused(session: Session) -> None:
    assert service.register_addresses(session, "shop", CHAIN, POOL) == 0
    for tenant, shared in (("other", False), ("shop", True)):
        with pytest.raises(ConflictError):
            service.register_addresses(session, tenant, CHAIN, POOL, shared=shared)
    with pytest.raises(InvalidRequestError):
        service.register_addresses(session, "shop", "eip155:999", POOL)


def test_the_statements_of_a_batch_do_not_grow_with_it(session: Session) -> None:
    statements: list[str] = []
    event.listen(db.engine(), "before_cursor_execute", lambda *given: statements.append(given[2]))
    counts = []
    for size in (1, 200):
        statements.clear()
        made = service.create_many(session, [by_hash(chain_tx=f"{number:064x}") for number in range(size)])
        assert all(isinstance(each, Deposit) for each in made)
        counts.append(len(statements))
    assert counts == [3, 3]


def test_the_history_cannot_be_rewritten(session: Session) -> None:
    from sqlalchemy.exc import ProgrammingError

    service.create(session, by_hash())
    for statement in ("UPDATE deposit_events SET event = 'x'", "DELETE FROM deposit_events"):
        with pytest.raises(ProgrammingError, match="permission denied"), session.begin_nested():
            session.execute(text(statement))


def test_the_page_goes_on_where_the_one_before_ended(session: Session) -> None:
    made = service.create_many(session, [by_hash(chain_tx=f"{number:064x}") for number in range(5)])
    ids = [deposit.id for deposit in made if isinstance(deposit, Deposit)]
    assert [deposit.id for deposit in service.page(session, tenant="shop", limit=3)] == ids[:1:-1]
    assert [deposit.id for deposit in service.page(session, before=ids[2])] == ids[1::-1]
    assert service.page(session, tenant="other") == []
    assert service.count_by_state(session) == {"watching": 5}
