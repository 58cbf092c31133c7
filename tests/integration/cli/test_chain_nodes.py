"""`tallyrail chains nodes`, and deposits that are held up or owed."""

import json
from datetime import timedelta
from typing import Any

from core import clock
from core.db import transaction
from core.ids import new_id
from domain.deposit.models import Deposit
from domain.deposit.scan_models import ChainCursor, ChainNode
from ledger import freezes
from ledger.assets import sync_assets
from tests.integration.cli.conftest import Cli

CHAIN = "eip155:1"


def node(label: str, **fields: Any) -> ChainNode:
    given: dict[str, Any] = {
        "chain": CHAIN, "label": label, "process": "one:1", "calls": 7, "failures": 1, "updated_at": clock.now(),
    }  # fmt: skip
    return ChainNode(**given | fields)


def deposit(**fields: Any) -> Deposit:
    now = clock.now()
    given: dict[str, Any] = {
        "id": new_id(), "tenant": "shop", "chain": CHAIN, "asset": f"{CHAIN}/slip44:60", "account": "user:42:available",
        "mode": "tx", "address": "0x52908400098527886E0F7030069857D2E4169EE7", "chain_tx": "0x" + "5c" * 32,
        "deadline_at": now, "details": {}, "created_at": now, "updated_at": now,
    }  # fmt: skip
    return Deposit(**given | fields)


def test_nodes_are_listed_with_what_is_wrong_with_them(cli: Cli) -> None:
    assert "No worker has asked a node lately" in cli("chains", "nodes").stdout
    with transaction() as session:
        session.add(node("a.example", head_number=90, latency_ms=12))
        session.add(node("b.example", trouble="lags", last_error="HTTP 502", failing_since=clock.now()))
        session.add(node("c.example", failing_since=clock.now()))
        session.add(node("d.example", updated_at=clock.now() - timedelta(minutes=3)))
    told = cli("chains", "nodes", CHAIN).stdout
    states = {line.split()[1]: line.split()[2] for line in told.splitlines() if line.startswith(CHAIN)}
    assert states == {"a.example": "up", "b.example": "lags", "c.example": "down"}
    assert "12 ms" in told and "HTTP 502" in told
    listed = json.loads(cli("chains", "nodes", "--json").stdout)["nodes"]
    assert [row["label"] for row in listed] == ["a.example", "b.example", "c.example"]
    assert json.loads(cli("chains", "nodes", "eip155:56", "--json").stdout) == {"nodes": []}


def test_what_is_held_up_and_what_is_owed_can_be_found(cli: Cli) -> None:
    plain = deposit(chain_tx="0x" + "01" * 32)
    waiting = deposit(
        state="pending", block_hash="0xab", units_received=10**18, waits_for="agreement", waits_since=clock.now()
    )
    owed = deposit(chain_tx="0x" + "02" * 32, units_short=700)
    froze = deposit(chain_tx="0x" + "03" * 32)
    with transaction() as session:
        session.add_all([plain, waiting, owed, froze, ChainCursor(chain=CHAIN, updated_at=clock.now())])
        session.flush()
        sync_assets(session)
        freezes.place(
            session, tenant=froze.tenant, code=froze.account, asset=froze.asset, holder=froze.subject, reason="a reorg",
            actor="tx_monitor",
        )  # fmt: skip
    for flag, found, word in (
        ("--waiting", waiting, "agreement"),
        ("--owed", owed, "700"),
        ("--owed", froze, "Froze"),
    ):
        told = cli("deposits", "list", flag, columns=400).stdout
        assert str(found.id) in told and word in told
        assert str(plain.id) not in told
    assert "1 for agreement" in cli("chains", "list", columns=400).stdout
    shown = cli("deposits", "show", waiting.id).stdout
    assert "Waits for" in shown and "agreement" in shown
    rows = json.loads(cli("deposits", "list", "--owed", "--json").stdout)["deposits"]
    assert {row["id"]: row["freezes"] for row in rows} == {str(owed.id): False, str(froze.id): True}
    assert "Account frozen by it" in cli("deposits", "show", froze.id).stdout
    assert "Account frozen by it" not in cli("deposits", "show", owed.id).stdout
