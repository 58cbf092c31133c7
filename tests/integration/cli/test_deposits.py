"""Addresses are registered all or none; deposits are listed and shown with their history."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from bip32 import BIP32  # type: ignore[import-untyped]

from config import assets, settings
from core import clock, db
from core.ids import new_id
from domain.access import service as access
from domain.deposit import books
from domain.deposit import service as deposits
from domain.deposit.scan_models import ChainBlock, ChainCursor
from domain.deposit.service import NewDeposit, Route
from ledger import balances, chart
from ledger.assets import sync_assets
from tests.integration.cli.conftest import Cli

CHAIN = "eip155:1"
ETH = "eip155:1/slip44:60"
FIRST = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SECOND = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


@pytest.fixture
def tenant(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RPC_URLS", json.dumps({CHAIN: ["http://127.0.0.1:1"]}))
    settings.reload()
    assets.reload()
    with db.transaction() as session:
        access.create_tenant(session, "acme", name="Acme")
    return "acme"


def registered(cli: Cli) -> list[str]:
    return [row["address"] for row in json.loads(cli("addresses", "list", "--json").stdout)["addresses"]]


def test_addresses_come_from_arguments_and_files(cli: Cli, tenant: str, tmp_path: Path) -> None:
    file = tmp_path / "pool.txt"
    file.write_text(f"# of the first cold wallet\n{FIRST}\n\n{SECOND.lower()}  # spelled by hand\n")
    assert cli("addresses", "add", tenant, CHAIN, "--pool", "--file", file).stderr == "2 added, 0 known already.\n"
    again = cli("addresses", "add", tenant, CHAIN, FIRST, "--pool", "--json")
    assert json.loads(again.stdout) == {"given": 1, "added": 0}
    assert registered(cli) == [FIRST, SECOND]
    listed = cli("addresses", "list", "--tenant", tenant, "--chain", CHAIN, "--free", columns=80).stdout
    assert FIRST in listed
    assert SECOND in listed
    assert "narrow the filters" in cli("addresses", "list", "--limit", "1").stderr


def test_addresses_come_from_standard_input(cli: Cli, tenant: str) -> None:
    cli("addresses", "add", tenant, CHAIN, "--shared", "--file", "-", stdin=f"{FIRST}\n")
    [row] = json.loads(cli("addresses", "list", "--json").stdout)["addresses"]
    assert (row["address"], row["kind"]) == (FIRST, "shared")


def test_one_wrong_address_keeps_all_out(cli: Cli, tenant: str, tmp_path: Path) -> None:
    wrong = FIRST[:-1] + "D"
    told = cli("addresses", "add", tenant, CHAIN, SECOND, wrong, "--pool", status=1).stderr
    assert told == f"tallyrail: the address '{wrong}' has a wrong checksum (EIP-55)\n"
    cli("addresses", "add", tenant, "eip155:999", SECOND, "--pool", status=1)
    assert cli("addresses", "add", "nobody", CHAIN, SECOND, "--pool", status=1).stderr.endswith("'nobody'\n")
    missing = tmp_path / "missing.txt"
    told = cli("addresses", "add", tenant, CHAIN, "--file", missing, "--pool", status=1).stderr
    assert told == f"tallyrail: {missing}: No such file or directory\n"
    cli("addresses", "add", tenant, CHAIN, "--pool", status=2)
    cli("addresses", "add", tenant, CHAIN, SECOND, status=2)
    assert registered(cli) == []


def test_a_registered_address_keeps_its_kind(cli: Cli, tenant: str) -> None:
    cli("addresses", "add", tenant, CHAIN, FIRST, "--shared")
    told = cli("addresses", "add", tenant, CHAIN, FIRST, SECOND, "--pool", status=1).stderr
    assert told == f"tallyrail: {FIRST} is already registered, as shared of acme\n"
    assert registered(cli) == [FIRST]


@pytest.fixture
def deposit(cli: Cli, tenant: str) -> UUID:
    cli("addresses", "add", tenant, CHAIN, FIRST, "--pool")
    new = NewDeposit(tenant=tenant, asset=ETH, account="user:42:available", units_expected=15 * 10**17)
    with db.transaction() as session:
        return deposits.create(session, new).id


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_deposit_is_listed_and_shown(cli: Cli, deposit: UUID, columns: int) -> None:
    listed = cli("deposits", "list", "--state", "watching", columns=columns).stdout
    for part in (str(deposit), "watching", "1.5 ETH", ETH, "user:42:available"):
        assert part in listed
    shown = cli("deposits", "show", deposit, columns=columns).stdout
    for part in (str(deposit), FIRST, "1.5 ETH = 1500000000000000000 units"):
        assert part in shown


def test_deposits_for_machines(cli: Cli, deposit: UUID) -> None:
    found = json.loads(cli("deposits", "show", deposit, "--json").stdout)
    assert (found["units_expected"], found["address"], found["state"]) == ("1500000000000000000", FIRST, "watching")
    assert [event["state"] for event in found["history"]] == ["watching"]
    page = json.loads(cli("deposits", "list", "--tenant", "acme", "--json").stdout)
    assert [row["id"] for row in page["deposits"]] == [str(deposit)]
    assert json.loads(cli("deposits", "list", "--tenant", "other", "--json").stdout)["deposits"] == []
    unknown = new_id()
    assert cli("deposits", "show", unknown, status=1).stderr == f"tallyrail: there is no deposit {unknown}\n"


@pytest.fixture
def suspended(deposit: UUID) -> UUID:
    """Less arrived than was asked for."""
    with db.transaction() as session:
        sync_assets(session)
        row = deposits.get(session, deposit)
        assert row is not None
        row.chain_tx, row.index, row.sender = "0x" + "1" * 64, 0, SECOND
        row.block_number, row.block_hash, row.block_time = 7, "0x" + "2" * 64, clock.now()
        row.units_received, row.reason = 10**18, "underpaid"
        books.suspend(session, row)
        row.state = "suspended"
    return deposit


def available() -> int:
    with db.transaction() as session:
        return balances.balance(session, "acme", chart.user_available("42"), ETH)


def test_a_suspended_deposit_is_released_once_and_says_by_whom(cli: Cli, suspended: UUID) -> None:
    command = ("deposits", "release", suspended, "--reason", "the shop accepts it")
    plan = cli(*command).stdout
    assert "(underpaid): 1 ETH = 1000000000000000000 units to user:42:available of acme" in plan
    assert plan.endswith("Nothing was done. Add --commit to do it.\n")
    assert available() == 0
    assert "Released, as journal" in cli(*command, "--commit").stdout
    assert available() == 10**18
    told = cli(*command, "--commit", status=1).stderr
    assert told == f"tallyrail: the deposit {suspended} is credited; only a suspended one can be released\n"
    assert available() == 10**18
    last = json.loads(cli("deposits", "show", suspended, "--json").stdout)["history"][-1]
    assert (last["event"], last["detail"]["actor"], last["detail"]["note"]) == ("release", "ada", "the shop accepts it")


def test_only_a_reason_and_a_suspended_deposit_release_money(cli: Cli, deposit: UUID) -> None:
    cli("deposits", "release", deposit, "--commit", status=2)
    cli("deposits", "release", deposit, "--reason", " ", "--commit", status=2)
    told = cli("deposits", "release", deposit, "--reason", "please", "--commit", status=1).stderr
    assert "is watching; only a suspended one can be released" in told
    cli("deposits", "release", new_id(), "--reason", "please", "--commit", status=1)


def test_a_stopped_scan_goes_on_from_the_block_a_person_names(cli: Cli, database_url: str) -> None:
    assert cli("chains", "list").stdout == "No chain was read yet.\n"
    with db.transaction() as session:
        session.add(ChainCursor(chain=CHAIN, next_block=100, status="stopped", last_error="too deep"))
        session.add_all(
            [ChainBlock(chain=CHAIN, number=number, hash=f"0x{number}", parent_hash="0x") for number in (80, 99)]
        )
    command = ("chains", "restart", CHAIN, "--from-block", "90", "--reason", "agreed with two nodes")
    plan = cli(*command).stdout
    assert "too deep" in plan
    assert "Nothing was done." in plan
    assert json.loads(cli("chains", "list", "--json").stdout)["chains"][0]["state"] == "stopped"
    cli(*command, "--commit")
    [chain] = json.loads(cli("chains", "list", "--json").stdout)["chains"]
    assert (chain["state"], chain["next_block"], chain["error"]) == ("running", 90, None)
    told = cli("chains", "restart", "eip155:999", "--from-block", "1", "--reason", "x", status=1).stderr
    assert told == "tallyrail: the chain eip155:999 has not been scanned yet\n"


# --- wallets and tags ----------------------------------------------------------------------------------------------

ACCOUNT_KEY = BIP32.from_seed(b"\1" * 32)
PUBLIC, PRIVATE = (
    str(ACCOUNT_KEY.get_xpub_from_path("m/44'/60'/0'")),
    str(ACCOUNT_KEY.get_xpriv_from_path("m/44'/60'/0'")),
)


def test_a_wallet_shows_its_addresses_before_any_is_given(cli: Cli, tenant: str) -> None:
    plan = cli("wallets", "add", tenant, CHAIN, PUBLIC).stdout
    assert plan.endswith("Nothing was done. Add --commit to do it.\n")
    assert cli("wallets", "list").stdout == "There are no such wallets.\n"
    assert PUBLIC not in plan
    made = json.loads(cli("wallets", "add", tenant, CHAIN, "-", "--commit", "--json", stdin=f"{PUBLIC}\n").stdout)
    children = [each["address"] for each in made["addresses"]]
    assert (made["added_by"], made["next_index"], made["first_unused"]) == ("ada", 0, children[0])
    assert all(address in plan for address in children)
    with db.transaction() as session:
        own = deposits.own_address(session, tenant, CHAIN, "user:42:available")
    assert own.address == children[0]
    [row] = json.loads(cli("wallets", "list", "--tenant", tenant, "--chain", CHAIN, "--json").stdout)["wallets"]
    assert (row["id"], row["next_index"], row["first_unused"]) == (made["id"], 1, children[1])
    assert children[1] in cli("wallets", "list", columns=80).stdout
    [owned] = json.loads(cli("addresses", "list", "--account", "user:42:available", "--json").stdout)["addresses"]
    assert (owned["address"], owned["wallet_id"], owned["wallet_index"]) == (children[0], made["id"], 0)


def test_a_wallet_is_closed_only_when_that_is_meant(cli: Cli, tenant: str) -> None:
    made = json.loads(cli("wallets", "add", tenant, CHAIN, PUBLIC, "--commit", "--json").stdout)
    assert cli("wallets", "close", made["id"]).stdout.endswith("Nothing was done. Add --commit to do it.\n")
    assert json.loads(cli("wallets", "list", "--json").stdout)["wallets"][0]["state"] == "open"
    cli("wallets", "close", made["id"], "--actor", "bob", "--commit")
    [row] = json.loads(cli("wallets", "list", "--json").stdout)["wallets"]
    assert (row["state"], row["closed_by"]) == ("closed", "bob")
    assert "no wallet" in cli("wallets", "close", new_id(), "--commit", status=1).stderr


@pytest.mark.parametrize("key", [PRIVATE, f"{PRIVATE}x", PUBLIC[:-1] + "1"])
def test_a_key_that_may_be_private_is_refused_and_repeated_nowhere(
    cli: Cli, tenant: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    for command, stdin in (([key], None), (["-", "--json"], f"{key}\n")):
        told = cli("wallets", "add", tenant, CHAIN, *command, "--commit", status=1, stdin=stdin)
        assert key not in told.output + told.stderr + caplog.text
        assert told.stderr.startswith("tallyrail: ")
    assert "nobody" in cli("wallets", "add", "nobody", CHAIN, PUBLIC, "--commit", status=1).stderr
    assert cli("wallets", "list").stdout == "There are no such wallets.\n"


def test_tags_are_for_chains_that_carry_them(cli: Cli, tenant: str) -> None:
    told = cli("addresses", "add", tenant, CHAIN, FIRST, "--shared", "--tagged", status=1).stderr
    assert told == f"tallyrail: payments on {CHAIN} carry no tag\n"
    cli("addresses", "add", tenant, CHAIN, FIRST, "--pool", "--tagged", status=1)
    assert cli("addresses", "tags").stdout == "There are no such tags.\n"


def test_a_tag_is_found_with_its_owner(cli: Cli, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, hot = "tron:0x2b6653dc", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
    file = tmp_path / "chains.toml"
    file.write_text(
        f"""
        [chains."{chain}"]
        name = "Tron"
        namespace = "tron"
        confirmations = 1
        reorg_depth = 0
        block_time_ms = 3000
        [assets."{chain}/slip44:195"]
        symbol = "TRX"
        scale = 6
        """
    )
    monkeypatch.setenv("CHAINS_FILE", str(file))
    monkeypatch.setenv("RPC_URLS", json.dumps({chain: ["http://127.0.0.1:1"]}))
    settings.reload()
    assets.reload()
    cli("addresses", "add", tenant, chain, hot, "--shared", "--tagged")
    assert "shared, tagged" in cli("addresses", "list").stdout
    new = NewDeposit(tenant=tenant, asset=f"{chain}/slip44:195", account="user:42:available", route=Route.TAG)
    with db.transaction() as session:
        made = deposits.create(session, new)
    shown = json.loads(cli("deposits", "show", made.id, "--json").stdout)
    assert (shown["address"], shown["tag"], shown["payment_uri"]) == (hot, made.tag, None)
    [row] = json.loads(cli("addresses", "tags", "--tag", made.tag, "--json").stdout)["tags"]
    assert (row["owner_account"], row["address"]) == ("user:42:available", hot)
    assert cli("addresses", "tags", "--account", "user:43:available").stdout == "There are no such tags.\n"
    settings.reload()
    assets.reload()


def test_a_deposit_is_shown_with_its_payment_request(cli: Cli, deposit: UUID) -> None:
    assert f"ethereum:{FIRST}@1?value=1500000000000000000" in cli("deposits", "show", deposit).stdout
