"""Watching chains for deposits, and what we send on them ourselves."""

from uuid import UUID

from chains import registry
from domain.deposit import service
from domain.onchain import service as onchain
from domain.rates.service import rate_for
from tasks.base import task, worker_name
from tasks.onchain import parts

service.use_rates(rate_for)


@task("tx_monitor.look")
def look(deposit_id: UUID) -> None:
    """Look at one deposit now. Safe to run any number of times."""
    service.look(registry.get(service.chain_of(deposit_id)), deposit_id)


@task("tx_monitor.poll")
def poll(chain: str) -> None:
    """Look at every deposit of the chain that is due."""
    reader = registry.get(chain)
    service.poll(reader)
    service.keep_health(reader, process=worker_name())


@task("tx_monitor.scan")
def scan(chain: str) -> None:
    """Scan the chain's new blocks for transfers to the addresses of owners."""
    reader = registry.get(chain)
    service.scan(reader)
    service.keep_health(reader, process=worker_name())


@task("tx_monitor.rescan")
def rescan(rescan_id: UUID, part: int) -> None:
    """Read on in a range that a person had scanned once more. Safe to run any number of times."""
    service.rescan(registry.get(service.chain_of_rescan(rescan_id)), rescan_id, part)


@task("tx_monitor.send")
def send(transfer_id: UUID) -> None:
    """Sign and broadcast one transfer of ours. Safe to run any number of times: it is the same bytes each time."""
    onchain.send(transfer_id, parts(onchain.chain_of(transfer_id)))


@task("tx_monitor.follow")
def follow(chain: str) -> None:
    """Move on every transfer of ours on the chain that is due."""
    onchain.follow(chain, parts(chain))
