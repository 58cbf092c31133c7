"""Nodes that fail, babble or lack an index: a TransientError each time, and never a word of the URL."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from chains.base import TxStatus
from chains.bitcoin.reader import BitcoinReader
from chains.errors import WrongChainError
from local.bitcoin_chain import RegtestChain
from tests.support.bitcoin import MAIN, REGTEST, Change, MakeReader, altered, need_transient
from tests.support.evm import Reply, changing, fake_node, reply

pytest_plugins = ["tests.support.bitcoin_fixtures"]

UNITS = 1_000_000
NEVER = "ab" * 32
KEY = "SECRETKEY123"
GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
SCRIPT = b"\x00\x14" + b"\x07" * 20

READS: dict[str, Callable[[BitcoinReader, RegtestChain], Any]] = {
    "head": lambda reader, _: reader.head(),
    "blocks": lambda reader, _: reader.blocks([1, 0]),
    "chain_txs": lambda reader, _: reader.chain_txs([NEVER]),
    "spent": lambda reader, _: reader.spent([f"{NEVER}:0"]),
    "scan": lambda reader, chain: reader.scan(0, 1, [chain.address]),
    "scan of nobody": lambda reader, _: reader.scan(0, 1, []),
}


def each(body: Any, answer: dict[str, Any]) -> Reply:
    return reply([{"jsonrpc": "2.0", "id": call["id"]} | answer for call in body])


GARBAGE: dict[str, Callable[[Any], Reply]] = {
    "500": lambda _: (500, {}, b"oops"),
    "503": lambda _: (503, {}, b"Work queue depth exceeded"),  # Bitcoin Core's own words
    "401": lambda _: (401, {"WWW-Authenticate": 'Basic realm="jsonrpc"'}, b""),
    "a page": lambda _: (200, {}, b"<html>Maintenance</html>"),
    "null": lambda _: reply(None),
    "an empty batch": lambda _: reply([]),
    "error for each": lambda body: each(body, {"error": {"code": -1, "message": f"{KEY} is not welcome"}}),
    "warming up": lambda body: each(body, {"error": {"code": -28, "message": "Loading block index..."}}),
    "not found": lambda body: each(body, {"error": {"code": -5, "message": "Block not found"}}),
    "no result": lambda body: each(body, {"result": None}),
    "an empty object": lambda body: each(body, {"result": {}}),
    "a list": lambda body: each(body, {"result": [[]]}),
    "a number": lambda body: each(body, {"result": 7}),
    "true": lambda body: each(body, {"result": True}),
    "half a hash": lambda body: each(body, {"result": "ab" * 16}),
    "a hash in upper case": lambda body: each(body, {"result": NEVER.upper()}),
    "a hash": lambda body: each(body, {"result": NEVER}),
    "zeros": lambda body: each(body, {"result": "00" * 80}),
    "a block of nothing": lambda body: each(body, {"result": "00" * 80 + "00"}),
    "a count of billions": lambda body: each(body, {"result": "00" * 80 + "ff" * 9}),
    "best of null": lambda body: each(body, {"result": {"bestblockhash": None, "blocks": 3}}),
    "best of minus one": lambda body: each(body, {"result": {"bestblockhash": GENESIS, "blocks": -1}}),
    "best as text": lambda body: each(body, {"result": {"bestblockhash": GENESIS, "blocks": "3"}}),
}


def verified(garbage: Callable[[Any], Reply]) -> Callable[[Any], Reply]:
    """Right about its chain, and garbage after that."""

    def answer(body: Any) -> Reply:
        first = body[0]
        if (first["method"], first["params"]) == ("getblockhash", [0]) and len(body) == 1:
            return each(body, {"result": GENESIS})
        return garbage(body)

    return answer


# --- garbage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_a_transient_error(make_bitcoin_reader: MakeReader, regtest: RegtestChain, kind: str) -> None:
    with fake_node(GARBAGE[kind]) as node:
        need_transient(make_bitcoin_reader(node.url).head)
    with fake_node(verified(GARBAGE[kind])) as node:
        reader = make_bitcoin_reader(node.url)
        for read in READS.values():
            asked = len(node.bodies)
            need_transient(lambda read=read: read(reader, regtest))  # type: ignore[misc]
            assert len(node.bodies) > asked


NONSENSE: list[Any] = [
    None, {}, [], 7, True, "", "zz", "ab" * 16, NEVER, NEVER.upper(), "00" * 80, "00" * 81, "00" * 80 + "ff" * 9,
    {"hash": NEVER}, {"hex": "00"}, {"hex": 7, "blockhash": NEVER}, {"bestblockhash": NEVER}, {"blocks": 7}, [["ab"]],
    {"confirmations": True, "height": 1}, {"confirmations": "7"}, "7fffffff",
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "method"),
    [
        ("head", "getblockchaininfo"),
        ("head", "getblockheader"),
        ("blocks", "getblockchaininfo"),
        ("blocks", "getblockhash"),
        ("blocks", "getblockheader"),
        ("chain_txs", "getblockchaininfo"),
        ("chain_txs", "getrawtransaction"),
        ("chain_txs", "getblockheader"),
        ("chain_txs", "gettxoutproof"),
        ("spent", "gettxout"),
        ("spent", "getrawtransaction"),
        ("spent", "getblock"),
        ("scan", "getblockchaininfo"),
        ("scan", "getblockhash"),
        ("scan", "getblock"),
    ],
)
def test_nonsense_for_one_method_is_a_transient_error(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain, what: str, method: str
) -> None:
    """All else is answered truly, by a real node."""
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    number = regtest.mine(2) - 1
    inputs = make_bitcoin_reader().chain_txs([chain_tx])[chain_tx].inputs
    reads: dict[str, Callable[[BitcoinReader], Any]] = {
        "head": lambda reader: reader.head(),
        "blocks": lambda reader: reader.blocks([number]),
        "chain_txs": lambda reader: reader.chain_txs([chain_tx]),
        "spent": lambda reader: reader.spent(inputs, block=number),
        "scan": lambda reader: reader.scan(number, number, [regtest.address]),
    }
    said: list[Any] = []

    def change(body: Any, answers: Any) -> Any:
        if [(call["method"], call["params"]) for call in body] == [("getblockhash", [0])]:
            return answers  # which chain it is of, it says truly, also after its breaker was open
        return changing(method, lambda _: said[-1])(body, answers)

    with altered(regtest, change) as node:
        reader = make_bitcoin_reader(node.url)
        for nonsense in NONSENSE:
            if method == "gettxout" and nonsense is None:
                continue  # as it should be: it is spent
            said.append(nonsense)
            asked = node.methods.count(method)
            need_transient(lambda: reads[what](reader))
            assert node.methods.count(method) > asked


def test_a_node_of_another_chain_is_not_believed(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    genesis = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"

    def answer(body: Any) -> Reply:
        return each(body, {"result": genesis})

    with fake_node(answer) as node:
        reader = make_bitcoin_reader(node.url)
        with pytest.raises(WrongChainError, match=f"is a node of {MAIN}, not of {REGTEST}"):
            reader.head()
        assert set(node.methods) == {"getblockhash"}, "and is asked for nothing else"


def test_the_next_node_is_asked(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    with fake_node(GARBAGE["503"]) as broken:
        reader = make_bitcoin_reader(broken.url, regtest.url)
        assert reader.head().latest.number == regtest.height
        assert reader.chain_txs([chain_tx])[chain_tx].status is TxStatus.MEMPOOL


# --- names and passwords -------------------------------------------------------------------------------------------


def test_user_and_password_of_the_url_are_used_and_never_shown(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain, capsys: pytest.CaptureFixture[str]
) -> None:
    scheme, _, rest = regtest.url.partition("://")
    _, _, host = rest.rpartition("@")
    reader = make_bitcoin_reader(regtest.url)
    assert reader.head().latest.number == regtest.height, "with the right one"
    password = rest.partition("@")[0].partition(":")[2]
    wrong = make_bitcoin_reader(f"{scheme}://someone:hunter2hunter2@{host}")
    with structlog.testing.capture_logs() as logs:
        error = need_transient(wrong.head)
    assert "401" in str(error)
    shown = f"{error}{logs}{reader.nodes()}{wrong.nodes()}{capsys.readouterr()}"
    for secret in ("someone", "hunter2hunter2", password):
        assert secret not in shown


def test_a_password_that_the_node_repeats_is_struck_out(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    answer = {"error": {"code": -1, "message": "bad auth bob:hunter2hunter2"}}
    with fake_node(lambda body: each(body, answer)) as node:
        reader = make_bitcoin_reader(node.url.replace("://", "://bob:hunter2hunter2@"))
        assert "***" in str(need_transient(reader.head))


# --- a node without an index, and one with stale branches ----------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries.",
        "No such mempool transaction. Blockchain transactions are still in the process of being indexed.",
    ],
)
def test_a_node_that_looked_in_its_mempool_alone_proves_nothing(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain, message: str
) -> None:
    def without_index(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call["method"] for call in body}
        for answer in answers:
            if asked[answer["id"]] == "getrawtransaction" and answer["error"]:
                answer["error"]["message"] = message
        return answers

    with altered(regtest, without_index) as node:
        reader = make_bitcoin_reader(node.url)
        assert "txindex=1" in str(need_transient(lambda: reader.chain_txs([NEVER])))
        assert reader.scan(0, 3, [regtest.address]).blocks, "a scan needs no index"


def test_what_stands_in_our_url_changes_no_meaning_of_what_a_node_says(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain
) -> None:
    """Parts of the URL are struck out of texts that are shown: "No such *** or *** transaction"."""
    with altered(regtest, lambda _body, answers: answers) as node:
        url = node.url.replace("SECRETKEY123", "mempool/blockchain")
        assert make_bitcoin_reader(url).chain_txs([NEVER])[NEVER].status is TxStatus.MISSING


def refusing(method: str, error: dict[str, Any]) -> Change:
    """For `altered`: the node refuses all calls of the method, except for the genesis block's hash."""

    def apply(body: Any, answers: Any) -> Any:
        asked = {call["id"]: (call["method"], call["params"]) for call in body}
        return [
            {"jsonrpc": "2.0", "id": answer["id"], "error": error}
            if asked[answer["id"]][0] == method and asked[answer["id"]] != ("getblockhash", [0])
            else answer
            for answer in answers
        ]

    return apply


REFUSALS: list[dict[str, Any]] = [
    {"code": -28, "message": "Verifying blocks..."},
    {"code": -5, "message": "Something else that is not there"},
    {"code": -1, "message": "No such mempool or blockchain transaction"},
    {"code": -32601, "message": "Method not found"},
]


@pytest.mark.parametrize("error", REFUSALS)
def test_any_other_refusal_proves_nothing(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain, error: dict[str, Any]
) -> None:
    with altered(regtest, refusing("getrawtransaction", error)) as node:
        need_transient(lambda: make_bitcoin_reader(node.url).chain_txs([NEVER]))
    with altered(regtest, refusing("getblockhash", error)) as node:
        need_transient(lambda: make_bitcoin_reader(node.url).blocks([1]))
    with altered(regtest, refusing("gettxout", error)) as node:
        need_transient(lambda: make_bitcoin_reader(node.url).spent([f"{NEVER}:0"]))


def test_what_core_never_shows_is_missing(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    error = {
        "code": -5,
        "message": "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved",
    }
    with altered(regtest, refusing("getrawtransaction", error)) as node:
        assert make_bitcoin_reader(node.url).chain_txs([NEVER])[NEVER].status is TxStatus.MISSING


def test_a_transaction_of_a_stale_branch_is_missing(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    """Core goes on knowing it: its block has -1 confirmations. Its inputs tell whether something took its place."""
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    regtest.mine()
    stale = changing(
        "getblockheader", lambda header: header | {"confirmations": -1} if type(header) is dict else header
    )
    with altered(regtest, stale) as node:
        found = make_bitcoin_reader(node.url).chain_txs([chain_tx])[chain_tx]
    assert (found.status, found.block_hash, found.transfers) == (TxStatus.MISSING, None, ())
    assert found.inputs == make_bitcoin_reader().chain_txs([chain_tx])[chain_tx].inputs


def test_what_only_waits_has_spent_nothing(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    """Bitcoin Core would count its mempool in, unless it is told not to."""
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    with altered(regtest, lambda _body, answers: answers) as node:
        reader = make_bitcoin_reader(node.url)
        assert reader.spent(reader.chain_txs([chain_tx])[chain_tx].inputs) == frozenset()
        asked = [call["params"] for body in node.bodies for call in body if call["method"] == "gettxout"]
    assert asked and all(with_mempool is False for _, _, with_mempool in asked)
