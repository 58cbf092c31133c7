"""Where an account is paid: asked over the wire, once or often."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from bip32 import BIP32  # type: ignore[import-untyped]

from config import assets, settings
from core import db
from domain.deposit import service as deposits
from domain.deposit import wallets
from tests.integration.api.conftest import CHAIN, HOT_WALLET, POOL, NewKey, count, is_problem

ACCOUNT = "user:42:available"
KEY = BIP32.from_seed(b"\1" * 32).get_xpub_from_path("m/44'/60'/0'")
TAGGED = "tron:0x2b6653dc"
HOT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
SOLANA = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
SOLANA_HOT = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM"


@pytest.fixture
def two_chains(api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Beside Ethereum, two chains whose payments carry tags."""
    file = tmp_path / "chains.toml"
    file.write_text(
        "".join(
            f"""
            [chains."{chain}"]
            name = "{chain}"
            namespace = "{chain.partition(":")[0]}"
            confirmations = 2
            reorg_depth = 0
            block_time_ms = 1000
            [assets."{chain}/slip44:{coin}"]
            symbol = "COIN"
            scale = {scale}
            """
            for chain, coin, scale in ((TAGGED, 195, 6), (SOLANA, 501, 9))
        )
    )
    monkeypatch.setenv("CHAINS_FILE", str(file))
    urls = ", ".join(f'"{chain}": ["http://127.0.0.1:1"]' for chain in (CHAIN, TAGGED, SOLANA))
    monkeypatch.setenv("RPC_URLS", f"{{{urls}}}")
    settings.reload()
    assets.reload()
    with db.transaction() as session:
        deposits.register_addresses(session, "shop", TAGGED, [HOT], shared=True, tagged=True)
        deposits.register_addresses(session, "shop", SOLANA, [SOLANA_HOT], shared=True, tagged=True)
    yield
    monkeypatch.undo()
    settings.reload()
    assets.reload()


def ask(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/v1/addresses", json={"chain": CHAIN, "account": ACCOUNT} | fields)


def watch(client: httpx.Client, key: str, **fields: object) -> httpx.Response:
    body = {"asset": f"{CHAIN}/slip44:60", "account": ACCOUNT} | fields
    return client.post("/v1/deposits", json=body, headers={"Idempotency-Key": key})


def test_an_account_has_one_address_however_often_it_is_asked_for(client: httpx.Client, pool: list[str]) -> None:
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: ask(client), range(6)))
    assert {reply.status_code for reply in replies} == {200}
    [own] = {reply.json()["address"] for reply in replies}
    assert own in pool
    assert replies[0].json() == {
        "chain": CHAIN, "account": ACCOUNT, "route": "address", "address": own, "tag": None,
    }  # fmt: skip
    assert watch(client, "k").json()["address"] == own
    assert count("deposits") == 1
    other = ask(client, account="user:43:available").json()["address"]
    assert {own, other} == set(POOL)
    is_problem(ask(client, account="user:44:available"), 409, "conflict")


def test_addresses_are_derived_when_the_pool_is_empty(client: httpx.Client) -> None:
    is_problem(ask(client), 409, "conflict")
    with db.transaction() as session:
        wallet = wallets.add(session, "shop", CHAIN, KEY, actor="ada")
        children = wallets.derived(wallet, 0, 2)
    assert ask(client).json()["address"] == children[0]
    assert ask(client, account="user:43:available").json()["address"] == children[1]
    listed = client.get("/v1/addresses", params={"account": ACCOUNT}).json()["addresses"]
    assert [(one["address"], one["chain"], one["route"]) for one in listed] == [(children[0], CHAIN, "address")]
    assert listed[0]["allotted_at"]


@pytest.mark.usefixtures("two_chains")
def test_an_account_has_one_tag(client: httpx.Client, new_key: NewKey) -> None:
    own = ask(client, chain=TAGGED, route="tag").json()
    assert (own["address"], own["route"], own["account"]) == (HOT, "tag", ACCOUNT)
    assert own["tag"]
    assert ask(client, chain=TAGGED, route="tag").json() == own
    made = watch(client, "k", asset=f"{TAGGED}/slip44:195", route="tag").json()
    assert (made["address"], made["tag"], made["payment_uri"]) == (HOT, own["tag"], None)
    assert client.get(made["links"]["deposit"]).json()["tag"] == own["tag"]
    found = client.get("/v1/addresses", params={"account": ACCOUNT, "chain": TAGGED}).json()["addresses"]
    assert [(one["address"], one["tag"]) for one in found] == [(HOT, own["tag"])]
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    theirs = client.get("/v1/addresses", params={"account": ACCOUNT}, headers=casino)
    assert theirs.json() == {"addresses": []}
    is_problem(
        client.post("/v1/addresses", json={"chain": TAGGED, "account": ACCOUNT, "route": "tag"}, headers=casino),
        409,
        "conflict",
    )


@pytest.mark.usefixtures("two_chains")
def test_a_payment_request_says_how_much_to_whom_and_with_what_tag(client: httpx.Client, pool: list[str]) -> None:
    made = watch(client, "k1", units="1500000000000000000").json()
    assert made["payment_uri"] == f"ethereum:{made['address']}@1?value=1500000000000000000"
    paid = watch(client, "k2", asset=f"{SOLANA}/slip44:501", route="tag", units="1500000000").json()
    assert paid["payment_uri"].startswith(f"solana:{SOLANA_HOT}?amount=1.5&")
    assert paid["tag"] in paid["payment_uri"]
    listed = client.get("/v1/deposits").json()["deposits"]
    assert [one["payment_uri"] for one in listed] == [paid["payment_uri"], made["payment_uri"]]


def test_nothing_is_to_be_paid_for_a_transaction_that_is_named(client: httpx.Client, hot_wallet: str) -> None:
    made = watch(client, "k", chain_tx="0x" + "1" * 64, address=HOT_WALLET)
    assert made.status_code == 202
    assert made.json()["payment_uri"] is None


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"chain": "eip155:99999"}, "/chain"),
        ({"chain": "eip155:56"}, "/chain"),  # no node for it here
        ({"account": "house:fees"}, "/account"),
        ({"account": "x" * 300}, "/account"),
        ({"route": "tag"}, "/route"),  # no tags on Ethereum
        ({"route": "pigeon"}, "/route"),
        ({"units": "1"}, "/units"),
        ({"chain": None}, "/chain"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(
    client: httpx.Client, pool: list[str], fields: dict[str, object], at: str
) -> None:
    document = is_problem(ask(client, **fields), 422, "invalid-request")
    assert [error["pointer"] for error in document["errors"]] == [at]  # type: ignore[attr-defined]
    assert client.get("/v1/addresses", params={"account": ACCOUNT}).json()["addresses"] == []


def test_a_deposit_by_tag_is_refused_where_there_are_none(client: httpx.Client, pool: list[str]) -> None:
    document = is_problem(watch(client, "k", route="tag"), 422, "invalid-request")
    assert document["errors"] == [{"pointer": "/route", "detail": document["detail"]}]
    is_problem(client.get("/v1/addresses"), 422, "invalid-request")
    is_problem(client.get("/v1/addresses", params={"account": "\0"}), 422, "invalid-request")
