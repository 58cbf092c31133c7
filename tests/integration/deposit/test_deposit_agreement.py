"""Deposits so large that one node must not decide them: nodes that lie, lag or are away, and what two that agree do."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import time_machine
from sqlalchemy import func, select

from chains import registry as readers
from chains.base import Block, ChainReader, ChainTx, Head, NodeHealth, Reach, Scan, Transfer, TxStatus
from chains.errors import DisagreementError
from config import assets, settings
from core import clock
from core.db import transaction
from core.errors import TransientError
from domain.deposit import nodes, service
from domain.deposit.scan_models import ChainNode
from domain.deposit.service import Deposit
from tests.integration.deposit.desk import ACCOUNT, ETHER, SUSPENSE, Desk
from tests.integration.deposit.policy import set_policy
from tests.support.evm import CHAIN, COIN, fake_node

pytest_plugins = ["tests.support.evm_fixtures"]

Alter = Callable[[Transfer], Transfer | None]


def by_two(reader: ChainReader, ids: Sequence[str], *, boast: int = 0) -> Mapping[str, ChainTx]:
    """What the reader tells, as two would that have come as far as it has, or so many blocks less far."""
    head = reader.head()
    finalized = None if head.finalized is None else head.finalized - boast
    reach = Reach(head.latest.number - boast, finalized)
    return {id_: replace(tx, reach=reach) for id_, tx in reader.chain_txs(ids).items()}


class Lying:
    """What two nodes tell of transactions is true; what one does, is altered. Its blocks are those of the chain."""

    def __init__(self, real: ChainReader, alter: Alter) -> None:
        self.id = real.id
        self._real, self._alter = real, alter
        self.asked = 0
        self.trouble: TransientError | None = None
        self.boast = 0
        """Blocks that it claims to be ahead of what two have."""

    def head(self) -> Head:
        return self._real.head()

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        return self._real.blocks(numbers)

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        return {id_: replace(tx, transfers=self._told(tx.transfers)) for id_, tx in self._real.chain_txs(ids).items()}

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        found = self._real.scan(first, last, addresses)
        return Scan(found.blocks, self._told(found.transfers))

    def _told(self, transfers: Sequence[Transfer]) -> tuple[Transfer, ...]:
        return tuple(told for transfer in transfers if (told := self._alter(transfer)) is not None)

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return by_two(self._real, ids, boast=self.boast)

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        return self._real.spent(inputs, block=block)

    def nodes(self) -> Sequence[NodeHealth]:
        return self._real.nodes()


def lie(desk: Desk, alter: Alter) -> Lying:
    lying = Lying(desk.reader, alter)
    desk.reader = lying
    return lying


@pytest.fixture
def quorum(desk: Desk) -> None:
    """From one ether on, two must agree."""
    set_policy(COIN, quorum_units=str(ETHER))
    desk.reader = readers.get(CHAIN)


def paid(desk: Desk, units: int, *, by_hash: bool, **fields: object) -> Deposit:
    if by_hash:
        return desk.by_hash(desk.dev.send(desk.shared, units), **fields)
    deposit = desk.by_address(**fields)
    desk.dev.send(deposit.address, units)
    return deposit


@pytest.mark.usefixtures("quorum")
@pytest.mark.parametrize("by_hash", [True, False])
def test_one_endpoint_alone_books_no_large_deposit(desk: Desk, by_hash: bool) -> None:
    small = paid(desk, ETHER - 1, by_hash=by_hash, account="user:1:available")
    large = paid(desk, ETHER, by_hash=by_hash)
    odd = paid(desk, ETHER, by_hash=by_hash, units_expected=ETHER - 1, account="user:2:available")
    for _ in range(3):
        desk.settle(large)
        desk.look(large)
    assert [desk.said(row) for row in (small, large, odd)] == [
        ("credited", None), ("pending", None), ("pending", "overpaid"),
    ]  # fmt: skip
    assert desk.balance("user:1:available") == ETHER - 1
    assert desk.balance(ACCOUNT) == desk.balance(SUSPENSE) == 0
    waiting = desk.get(large)
    assert (waiting.waits_for, waiting.agreed_at, waiting.final_at) == ("second_node", None, None)
    assert desk.events(large) == ["created", "seen", "no_second_node"]
    with transaction() as session:
        [held_up] = service.count_waiting(session)
    assert (held_up.what, held_up.count) == ("second_node", 2)


@pytest.mark.usefixtures("quorum")
@pytest.mark.parametrize("by_hash", [True, False])
def test_two_real_endpoints_that_agree_book_it(desk: Desk, monkeypatch: pytest.MonkeyPatch, by_hash: bool) -> None:
    with_second_host(desk, monkeypatch)
    large = paid(desk, ETHER, by_hash=by_hash)
    odd = paid(desk, ETHER, by_hash=by_hash, units_expected=ETHER + 1, account="user:2:available")
    desk.settle(large)
    desk.poll()
    assert [desk.said(large), desk.said(odd)] == [("credited", None), ("suspended", "underpaid")]
    assert desk.events(large) == ["created", "seen", "agreed", "credit"]
    [told] = desk.details(large, "agreed")
    assert told == {"block": desk.get(large).block_number, "block_hash": desk.get(large).block_hash}
    assert desk.get(large).agreed_at is not None


def with_second_host(desk: Desk, monkeypatch: pytest.MonkeyPatch, url: str | None = None) -> None:
    """The same node under another name, which is all that is checked of hosts; or another."""
    other = url or desk.dev.url.replace("127.0.0.1", "localhost")
    assert other != desk.dev.url
    monkeypatch.setenv("RPC_URLS", f'{{"{CHAIN}": ["{desk.dev.url}", "{other}"]}}')
    settings.reload()
    assets.reload()
    readers.reload()
    desk.reader = readers.get(CHAIN)


@pytest.mark.usefixtures("quorum")
def test_a_second_endpoint_that_tells_other_units_holds_it_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server in front of the real node, which doubles every value."""

    def doubled(body: list[dict[str, object]]) -> tuple[int, dict[str, str], bytes]:
        answer = httpx.post(desk.dev.url, json=body).content
        return 200, {}, answer.replace(hex(ETHER).encode(), hex(2 * ETHER).encode())

    with fake_node(doubled) as liar:
        with_second_host(desk, monkeypatch, liar.url.replace("127.0.0.1", "localhost"))
        large = paid(desk, ETHER, by_hash=True)
        for _ in range(3):
            desk.settle(large)
        waiting = desk.get(large)
        assert (waiting.state, waiting.waits_for) == ("pending", "agreement")
        assert desk.events(large) == ["created", "seen", "disagreed"]
        assert desk.details(large, "disagreed") == [{}]  # tenants read it: no node is named
        assert desk.balance(ACCOUNT) == 0
        assert "disagrees" in [node.trouble for node in desk.reader.nodes()]
    with_second_host(desk, monkeypatch)
    desk.poll()
    assert desk.said(large) == ("credited", None)
    assert desk.events(large)[2:] == ["disagreed", "agreed", "credit"]


@pytest.mark.usefixtures("quorum")
def test_each_trouble_is_told_once_an_incarnation_however_often_it_changes(desk: Desk) -> None:
    lying = lie(desk, lambda transfer: transfer)
    chain_tx = desk.dev.send(desk.shared, ETHER)
    large = desk.by_hash(chain_tx)
    desk.dev.mine()
    desk.poll()
    for _ in range(3):
        for trouble in (TransientError("b is down"), DisagreementError("a and b disagree")):
            lying.trouble = trouble
            desk.poll()
    waiting = desk.get(large)
    assert desk.events(large) == ["created", "seen", "no_second_node", "disagreed"]
    assert waiting.waits_since is not None and waiting.waits_since < waiting.updated_at
    desk.dev.reorg(2, keep=[(chain_tx, 1)])
    undone = desk.poll(large)
    assert (undone.state, undone.waits_for, undone.waits_since) == ("watching", None, None)
    desk.dev.mine(2)
    desk.poll()
    desk.poll()
    assert desk.events(large)[4:] == ["reorged", "seen", "disagreed"]
    lying.trouble = None
    assert desk.poll(large).state == "credited"


@pytest.mark.usefixtures("quorum")
@pytest.mark.parametrize("confirmations", [3, None], ids=["by depth", "by the chain's rule"])
def test_a_depth_that_one_alone_claims_is_waited_for(desk: Desk, confirmations: int | None) -> None:
    lying = lie(desk, lambda transfer: transfer)
    lying.boast = 1_000
    fields = {} if confirmations is None else {"confirmations": confirmations}
    large = paid(desk, ETHER, by_hash=True, **fields)
    for _ in range(2):
        desk.settle(large)
    waiting = desk.get(large)
    assert (waiting.state, waiting.waits_for, waiting.agreed_at) == ("pending", "second_node", None)
    assert desk.events(large) == ["created", "seen", "no_second_node"]
    assert desk.balance(ACCOUNT) == 0
    lying.boast = 0  # the chain has grown
    desk.settle(large)
    assert desk.said(large) == ("credited", None)
    assert desk.events(large)[3:] == ["agreed", "credit"]


@pytest.mark.usefixtures("quorum")
@pytest.mark.parametrize("by_hash", [True, False])
@pytest.mark.parametrize(
    ("alter", "truth"),
    [
        (lambda told: replace(told, units=told.units * 1_000), ("credited", None)),
        (lambda told: replace(told, index=7), ("credited", None)),
        (lambda told: replace(told, sender="0x" + "11" * 20), ("credited", None)),
    ],
    ids=["units", "index", "sender"],
)
def test_two_that_agree_overrule_the_one_that_lied(
    desk: Desk, alter: Alter, truth: tuple[str, str | None], by_hash: bool
) -> None:
    lying = lie(desk, alter)
    deposit = paid(desk, ETHER, by_hash=by_hash)
    desk.settle(deposit)
    desk.settle(deposit)
    desk.settle(deposit)
    desk.settle(deposit)
    assert desk.said(deposit) == truth
    assert desk.get(deposit).units_received == desk.balance(ACCOUNT) == ETHER
    assert desk.events(deposit) == ["created", "seen", "overruled", "seen", "agreed", "credit"]
    asked = lying.asked
    desk.settle(deposit, blocks=20)  # the liar's own reading no longer counts, nor is it asked again and again
    desk.poll()
    assert desk.get(deposit).final_at is not None
    assert lying.asked == asked


@pytest.mark.usefixtures("quorum")
def test_what_only_a_liar_has_seen_is_not_booked(desk: Desk) -> None:
    """A payment to a stranger, told as one to us."""
    lie(desk, lambda told: replace(told, recipient=desk.shared))
    by_hash = desk.by_hash(desk.dev.send(desk.dev.new_account(), ETHER))
    for _ in range(4):
        desk.settle(by_hash)
    assert desk.said(by_hash) == ("rejected", "wrong_recipient")
    assert desk.events(by_hash) == ["created", "seen", "overruled", "seen", "reject"]
    assert desk.balance(ACCOUNT) == desk.balance(SUSPENSE) == 0


@pytest.mark.usefixtures("quorum")
def test_two_that_do_not_know_it_prove_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.dev.mine()
    unknown = {deposit.chain_tx or "": ChainTx(deposit.chain_tx or "", TxStatus.MISSING)}
    monkeypatch.setattr(desk.reader, "agreed", lambda _: unknown)
    desk.poll()
    desk.poll()
    waiting = desk.get(deposit)
    assert (waiting.state, waiting.waits_for, waiting.disputed_at) == ("pending", "agreement", None)
    assert desk.events(deposit) == ["created", "seen", "disagreed"]
    monkeypatch.undo()


@pytest.mark.usefixtures("quorum")
def test_one_that_they_disagree_about_does_not_hold_up_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(5)]
    desk.dev.mine(2)
    bad = rows[3].chain_tx
    real = readers.get(CHAIN)

    def agreed(ids: Sequence[str]) -> Mapping[str, ChainTx]:
        if bad in ids:
            raise DisagreementError("a and b disagree")
        return by_two(real, ids)

    monkeypatch.setattr(desk.reader, "agreed", agreed)
    desk.poll()
    desk.poll()
    assert [desk.get(row).state for row in rows] == ["credited"] * 3 + ["pending", "credited"]
    monkeypatch.undo()


# --- each node ---------------------------------------------------------------------------------------------------


def test_how_each_node_does_is_kept_for_all_processes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_kept_at", {})
    began = clock.now()
    good = NodeHealth("a.example", 90, began, 12.4, 100, 1, None, None, None, None)
    bad = NodeHealth(
        "b.example", 70, began, None, 9, 9, began, "HTTP 502\x00\ud800", began + timedelta(minutes=1), "lags"
    )
    told = [good, bad]
    monkeypatch.setattr(desk.reader, "nodes", lambda: told)

    def kept(process: str) -> None:
        nodes._kept_at.clear()
        service.keep_health(desk.reader, process=process)

    kept("one:1")
    told = [replace(good, latency_ms=20.0, head_number=91), replace(bad, failing_since=None)]
    kept("one:2")
    told = [replace(good, calls=10_000)]
    service.keep_health(desk.reader, process="one:1")  # too soon
    with transaction() as session:
        one, other = service.node_states(session, CHAIN)
        assert service.node_states(session, "eip155:1") == []
    assert (one.label, one.up, one.head_number, one.latency_ms, one.calls, one.trouble) == (
        "a.example", True, 91, 16, 200, None,
    )  # fmt: skip
    assert (other.up, other.trouble, other.processes, other.failures) == (True, "lags", 2, 18)
    assert (other.failing_since, other.last_error) == (began, "HTTP 502\\x00\\ud800")
    with time_machine.travel(clock.now() + timedelta(minutes=3), tick=False), transaction() as session:
        assert service.node_states(session) == []
    with time_machine.travel(clock.now() + timedelta(hours=2), tick=False):
        kept("one:3")
    with transaction() as session:
        assert session.scalar(select(func.count()).select_from(ChainNode)) == 1


def test_the_tasks_keep_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import tx_monitor

    monkeypatch.setattr(nodes, "_kept_at", {})
    tx_monitor.poll(CHAIN)
    with transaction() as session:
        [node] = service.node_states(session)
    assert (node.chain, node.label, node.processes) == (CHAIN, "127.0.0.1", 1)
    assert os.environ["RPC_URLS"].count("127.0.0.1") == 1
