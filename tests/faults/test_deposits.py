"""Deposits followed by real workers on a real chain, while the workers are killed."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest

from core import db
from domain.deposit import service
from domain.deposit.service import Deposit, NewDeposit
from ledger import balances, invariants
from ledger.assets import sync_assets
from local.devchain import DevChain
from tests.conftest import use
from tests.support.evm import CHAIN, COIN
from tests.support.fleet import Fleet, wait_until

pytest_plugins = ["tests.support.evm_fixtures"]

TENANT = "shop"
UNITS = 10**15
STEPS_MAX = 120


@pytest.fixture
def watched(database_url: str, dev_chain: DevChain, tmp_path: Path) -> Iterator[DevChain]:
    """The chain as the platform is configured to watch it."""
    file = tmp_path / "chains.toml"
    file.write_text(
        f"""
        [chains."{CHAIN}"]
        name = "Development"
        namespace = "eip155"
        confirmations = 2
        reorg_depth = 4
        block_time_ms = 1000
        [assets."{COIN}"]
        symbol = "ETH"
        scale = 18
        """
    )
    back = use({"CHAINS_FILE": str(file), "RPC_URLS": f'{{"{CHAIN}": ["{dev_chain.url}"]}}'})
    with db.transaction() as session:
        sync_assets(session)
    yield dev_chain
    back()


def ask(address: str | None, chain_tx: str | None) -> Deposit:
    with db.transaction() as session:
        return service.create(
            session,
            NewDeposit(
                tenant=TENANT, asset=COIN, account="user:1:available", units_expected=UNITS, address=address,
                chain_tx=chain_tx,
            ),
        )  # fmt: skip


def state(deposit_id: UUID) -> str:
    with db.transaction() as session:
        found = service.get(session, deposit_id)
        assert found is not None
        return found.state


def balance(account: str) -> int:
    with db.transaction() as session:
        return balances.balance(session, TENANT, account, COIN)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.faults)])
@pytest.mark.parametrize("mode", ["by_hash", "by_address"])
def test_a_worker_killed_at_each_step_of_a_deposit_credits_it_once(
    fleet: Fleet, watched: DevChain, tmp_path: Path, mode: str, stride: int
) -> None:
    """`make test` kills at every fifth step, `make faults` at every one."""
    kill_file = tmp_path / "kill"
    kill_file.write_text("0")
    fleet.environment = {"KILL_FILE": str(kill_file), "JOBS_LEASE": "0.6", "DEPOSIT_CLAIM": "1"}
    fleet.relay()
    fleet.beat()
    fleet.worker(app="tests.support.killer", queues="tx_monitor", concurrency=1)
    shared = watched.new_account()
    with db.transaction() as session:
        service.register_addresses(session, tenant=TENANT, chain=CHAIN, addresses=[shared], shared=True)
    for done, at in enumerate(count(stride, stride), start=1):
        assert at < STEPS_MAX, "a deposit takes more steps than this test was made for"
        if mode == "by_hash":
            with watched.no_mining():
                chain_tx = watched.send(shared, UNITS)
                kill_file.write_text(str(at))
                deposit = ask(shared, chain_tx)
        else:
            own = watched.new_account()
            with db.transaction() as session:
                service.register_addresses(session, tenant=TENANT, chain=CHAIN, addresses=[own], shared=False)
            kill_file.write_text(str(at))
            deposit = ask(own, None)
            watched.send(own, UNITS)

        def credited(deposit: Deposit = deposit) -> bool:
            watched.mine()
            return state(deposit.id) == "credited"

        wait_until(credited, every=0.3)
        left = int(kill_file.read_text())
        kill_file.write_text("0")
        assert balance("user:1:available") == done * UNITS
        assert balance(f"custody:{CHAIN}") == done * UNITS
        if left:  # it was credited before this many steps: every step has had its kill
            break
    assert at > 8
    with db.transaction() as session:
        assert invariants.verify(session) == []
        assert balances.balance(session, TENANT, "suspense:deposits", COIN) == 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("stride", [37, pytest.param(1, marks=pytest.mark.faults)])
def test_a_worker_killed_at_each_step_of_a_rescan_finds_what_was_missed_once(
    fleet: Fleet, watched: DevChain, tmp_path: Path, stride: int
) -> None:
    """Each payment is made before its address is known, so that only a rescan can find it."""
    kill_file = tmp_path / "kill"
    kill_file.write_text("0")
    fleet.environment = {"KILL_FILE": str(kill_file), "JOBS_LEASE": "0.6", "DEPOSIT_CLAIM": "1"}
    fleet.relay()
    fleet.beat()
    fleet.worker(app="tests.support.killer", queues="tx_monitor", concurrency=1)

    def register(address: str) -> Deposit:
        with db.transaction() as session:
            service.register_addresses(session, tenant=TENANT, chain=CHAIN, addresses=[address], shared=False)
        return ask(address, None)

    register(watched.new_account())  # waits for ever, so that the chain is scanned
    rescans: list[UUID] = []
    # What else the worker does meanwhile (polls, scans) counts as steps too, the more the slower the machine is.
    for done, at in enumerate(range(stride, STEPS_MAX, stride), start=1):
        own = watched.new_account()
        watched.send(own, UNITS)
        paid_in = watched.height
        wait_until(lambda: scanned_to() > paid_in, every=0.1)  # noqa: B023  # called before it changes
        deposit = register(own)
        kill_file.write_text(str(at))
        with db.transaction() as session:
            first = max(paid_in - 3, 0)
            asked = service.request_rescan(session, CHAIN, first=first, last=paid_in, actor="ann", reason="a test")
            rescans.append(asked.id)

        def credited(deposit: Deposit = deposit) -> bool:
            watched.mine()
            return state(deposit.id) == "credited"

        wait_until(credited, every=0.3)
        left = int(kill_file.read_text())
        kill_file.write_text("0")
        assert balance("user:1:available") == balance(f"custody:{CHAIN}") == done * UNITS
        if left:
            break
    assert at > 8
    wait_until(lambda: [found_by(each) for each in rescans] == [("done", 1)] * len(rescans), every=0.1)
    with db.transaction() as session:
        assert invariants.verify(session) == []
        assert service.gaps(session, CHAIN) == []


def scanned_to() -> int:
    with db.transaction() as session:
        return max((status.cursor.next_block or 0 for status in service.statuses(session)), default=0)


def found_by(rescan_id: UUID) -> tuple[str, int]:
    with db.transaction() as session:
        rescan = service.get_rescan(session, rescan_id)
        assert rescan is not None
        return rescan.status, rescan.found
