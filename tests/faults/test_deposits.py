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
STEPS_MAX = 60


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
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.faults)])
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
