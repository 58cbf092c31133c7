"""The signer as it runs: a process with files of its own, asked over a socket."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from chains.sending import Order, Terms
from chains.signer_client import SignerClient
from chains.signing import SigningRefusedError, order_body, terms_body
from core.errors import PermanentError, TransientError
from tests.support.signer import ROOT, RunningSigner, running_signer

CHAIN = "eip155:31337"
COIN, TOKEN = f"{CHAIN}/slip44:60", f"{CHAIN}/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
SECRET = bytes.fromhex("46" * 32)
WALLET = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
POLICY: dict[str, Any] = {CHAIN: {"assets": {COIN: (100, 10_000), TOKEN: (100, 500)}, "secret": SECRET}}
DOOMED = ("-m", "tests.support.doomed_signer")


def order(reference: str, **changed: Any) -> Order:
    plain = Order(
        reference=reference,
        chain=CHAIN,
        wallet=WALLET,
        asset=COIN,
        to="0x3535353535353535353535353535353535353535",
        units=100,
    )
    return replace(plain, **changed)


def terms(nonce: int) -> Terms:
    prices = {"gas": "21000", "max_fee_per_gas": "10", "max_priority_fee_per_gas": "1"}
    return Terms(inputs=(f"{WALLET}/{nonce}",), fee_max=210_000, fields=prices)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSigner]:
    with running_signer(tmp_path_factory.mktemp("signer"), POLICY) as running:
        yield running


def test_it_signs_what_its_policy_allows_and_says_why_not(signer: RunningSigner) -> None:
    client = signer.client()
    assert client.wallets() == signer.addresses == {CHAIN: WALLET}
    version = client.sign(order("a"), 1, terms(0))
    assert client.sign(order("a"), 1, terms(0)) == version and version.terms == terms(0)
    for refused, code in (
        (order("b", units=101), "each_max"),
        (order("b", asset=f"{CHAIN}/erc20:0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"), "asset"),
        (order("b", wallet="0x3535353535353535353535353535353535353535"), "wallet"),
        (order("b", chain="eip155:1"), "wallet"),
    ):
        with pytest.raises(SigningRefusedError) as caught:
            client.sign(refused, 1, terms(1))
        assert caught.value.code == code
    for number, given, code in ((1, terms(1), "terms_changed"), (2, terms(1), "no_shared_input")):
        with pytest.raises(PermanentError, match=code):
            client.sign(order("a"), number, given)
    with pytest.raises(PermanentError, match="unfit"):
        client.sign(order("b", to="nowhere"), 1, terms(1))
    told = httpx.get(f"{signer.url}/metrics").text
    assert f'tallyrail_signer_answers_total{{chain="{CHAIN}",code="signed_before"}} 1.0' in told
    assert 'code="wallet"' in told and 'eip155:1"' not in told  # anybody's words make no label


def test_nobody_is_answered_without_the_token_and_nothing_odd_is_read(signer: RunningSigner) -> None:
    body = json.dumps({"order": order_body(order("odd")), "number": 1, "terms": terms_body(terms(9))})
    good = {"Authorization": f"Bearer {signer.token}"}
    bad = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": signer.token},
        {"Authorization": f"Bearer {signer.token}x"},
    ]

    def asked(content: str | bytes, headers: dict[str, str]) -> tuple[int, str]:
        answer = httpx.post(f"{signer.url}/v1/sign", content=content, headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["code"]

    for headers in bad:
        assert asked(body, headers) == (401, "unauthorized")
        assert httpx.get(f"{signer.url}/v1/wallets", headers=headers).status_code == 401
    strange = httpx.post(f"{signer.url}/v1/sign", content=body, headers=[(b"Authorization", b"Bearer \xff\xfe")])
    assert strange.status_code == 401
    with pytest.raises(TransientError):  # the token is a person's to put right: nothing is lost meanwhile
        SignerClient(signer.url, "x" * 64).sign(order("odd"), 1, terms(9))
    for content in (
        b"",
        b"\xff",
        "[" * 100_000,
        body.replace('"100"', "100"),
        body.replace('"100"', '"0"'),
        body.replace('"100"', '"1e2"'),
        body.replace('"number": 1', '"number": 1.0'),
        body.replace('"number": 1', '"number": true'),
        body.replace('"number": 1', '"number": 0'),
        body.replace('"number": 1', '"number": 1, "more": 1'),
        body.replace('"cancels": false', '"cancels": 0'),
        body.replace('"gas": "21000"', '"gas": 21000.0'),
        body.replace('"gas": "21000"', '"gas": NaN'),
        body.replace('"odd"', '"odd reference"'),
        body.replace(f'["{WALLET}/9"]', f'["{WALLET}/9", "{WALLET}/9"]'),
    ):
        assert content != body
        assert asked(content, good) == (400, "malformed"), content[:200]
    assert asked(body + " " * 300_000, good) == (413, "too_large")
    assert asked_in_pieces(signer, 300_000) == 413
    assert httpx.post(f"{signer.url}/v1/sign", content=body, headers=good).status_code == 200


def asked_in_pieces(signer: RunningSigner, size: int) -> int:
    """Without a Content-Length."""
    pieces = (b" " * 1_000 for _ in range(size // 1_000))
    headers = {"Authorization": f"Bearer {signer.token}"}
    return httpx.post(f"{signer.url}/v1/sign", content=pieces, headers=headers).status_code


def test_its_log_tells_what_was_signed_and_no_secret(signer: RunningSigner) -> None:
    version = signer.client().sign(order("logged"), 1, terms(20))
    lines = [json.loads(line) for line in signer.log.read_text().splitlines()]
    [line] = [each for each in lines if each.get("reference") == "logged"]
    assert (line["event"], line["chain_tx"], line["units"]) == ("sign.signed", version.chain_tx, "100")
    text = signer.log.read_text()
    assert [each for each in (SECRET.hex(), signer.token, "a passphrase of tests") if each in text] == []


def test_requests_at_once_of_two_signers_on_one_journal_keep_a_day_s_limit(signer: RunningSigner) -> None:
    with running_signer(signer.log.parent, POLICY) as other:
        clients = [signer.client(), other.client()]

        def ask(number: int) -> str:
            try:
                clients[number % 2].sign(order(f"race-{number}", asset=TOKEN), 1, terms(1_000 + number))
            except SigningRefusedError as error:
                return error.code
            return "signed"

        with ThreadPoolExecutor(20) as pool:
            found = sorted(pool.map(ask, range(20)))
    assert found == ["day_max"] * 15 + ["signed"] * 5


def test_killed_before_its_answer_leaves_it_answers_with_the_same_when_asked_again(tmp_path: Path) -> None:
    with running_signer(tmp_path, POLICY, program=DOOMED) as doomed:
        with pytest.raises(TransientError):
            doomed.client().sign(order("killed"), 1, terms(0))
        assert doomed.process.wait(timeout=10) == 9
    rows = sqlite3.connect(tmp_path / "journal.db")
    [(reference, raw)] = rows.execute("SELECT reference, raw FROM versions").fetchall()
    rows.close()
    assert reference == "killed"
    with running_signer(tmp_path, {CHAIN: {"assets": {TOKEN: (1, 1)}}}) as signer:
        client = signer.client()
        # The policy doesn't list the asset any more, but this was signed.
        assert client.sign(order("killed"), 1, terms(0)).raw == raw
        for wrong, code in (
            (order("killed", units=1), "order_changed"),
            (order("b", asset=TOKEN, units=1), "input_taken"),
        ):
            with pytest.raises(PermanentError, match=code):
                client.sign(wrong, 1, terms(0))
        with pytest.raises(SigningRefusedError):
            client.sign(order("killed"), 2, terms(0))


def test_its_process_knows_no_database_no_queue_and_no_node() -> None:
    program = (
        "import sys, signer.main; from signer import registry\n"
        "for namespace in registry.SIGNERS: registry.of(namespace)\n"
        "print(*sys.modules, sep='\\n')"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert {"signer.evm", "signer.journal", "uvicorn"} <= loaded
    packages = {"sqlalchemy", "psycopg", "redis", "celery", "kombu", "web3", "domain", "ledger", "providers", "tasks"}
    modules = {"core.db", "core.redis", "core.jobs", "core.http", "chains.registry", "chains.nodes", "chains.http"}
    assert loaded & (packages | modules) == set()
    # The second, which the first brings, lets JSON nest so deep that reading it ends the process.
    assert loaded & {"eth_account", "py_ecc"} == set()
