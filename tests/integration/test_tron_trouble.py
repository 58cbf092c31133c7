"""Nodes of Tron that fail, lie, lag or babble, and payments that are not what they look like."""

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from chains.base import Transfer, TxStatus
from chains.errors import DisagreementError, WrongChainError
from chains.tron.reader import TronReader
from core.errors import InvalidRequestError, PermanentError, TransientError
from tests.support.tron import recorded
from tests.support.tron.node import KEY, Outcome, TronChain, TronNode, internal_call, serving, token_log
from tests.support.tron.readers import CHAIN, COIN, TOKEN, TOKEN_ASSET, make_reader

PAYER, PAYEE = "TPL66VK2gCXNCD7EJg9pgJRfqcRazjhUZY", "TLyqzVGLV1srkB7dToTAEqgDSfPtXRJZYH"
FAKE, SPRAY = "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8", "TNuoKL1ni8aoshfFL1ASca1Gou9RXwAzfn"
NEVER = "ab" * 32


@pytest.fixture
def node() -> Iterator[TronNode]:
    chain = TronChain(recorded.MAINNET_GENESIS)
    chain.mine(5)
    with serving(chain) as node:
        yield node


@pytest.fixture
def reader(node: TronNode) -> TronReader:
    return make_reader(node.url)


def pay(node: TronNode, units: int = 5, **more: Any) -> str:
    value = {"owner_address": PAYER, "to_address": PAYEE, "amount": units}
    return node.chain.send("TransferContract", value, **more)


def call(node: TronNode, *logs: dict[str, Any], result: str = "SUCCESS", **more: Any) -> str:
    value = {"owner_address": PAYER, "contract_address": SPRAY, "data": "f8a8fd6d"}
    return node.chain.send("TriggerSmartContract", value, Outcome(result, tuple(logs)), **more)


def both_ways(node: TronNode, reader: TronReader, id_: str) -> tuple[Transfer, ...]:
    """The transfers to PAYEE, which a scan and the transaction tell alike."""
    node.chain.mine(3)
    told = reader.chain_txs([id_])[id_]
    by_id = tuple(t for t in told.transfers if t.recipient == PAYEE)
    scan = reader.scan(1, reader.head().latest.number, [PAYEE])
    assert tuple(t for t in scan.transfers if t.chain_tx == id_) == by_id
    return by_id


# --- payments that are not what they look like -----------------------------------------------------------------------


def test_result_true_proves_nothing_and_a_block_that_is_not_solid_neither(node: TronNode, reader: TronReader) -> None:
    id_ = pay(node)
    for status in (TxStatus.MEMPOOL, TxStatus.MEMPOOL, TxStatus.MEMPOOL, TxStatus.SUCCEEDED):
        told = reader.chain_txs([id_])[id_]
        assert (told.status, bool(told.transfers)) == (status, status is TxStatus.SUCCEEDED)
        assert told.sender == PAYER and told.valid_until is not None
        head = reader.head()
        assert head.finalized == head.latest.number
        assert bool(reader.scan(1, head.latest.number, [PAYEE]).transfers) == (status is TxStatus.SUCCEEDED)
        node.chain.mine()


def test_a_gateway_that_answers_for_blocks_that_are_not_solid_is_not_followed(
    node: TronNode, reader: TronReader
) -> None:
    """Its `walletsolidity` answers as `wallet`, all but the head."""
    id_ = pay(node)
    node.chain.mine()

    def change(path: str, params: dict[str, Any], answer: Any) -> Any:
        if path == "/walletsolidity/getblock" and "id_or_num" not in params:
            return answer
        return node.chain.answer(path.replace("walletsolidity", "wallet"), params)

    node.change = change
    assert reader.chain_txs([id_])[id_].status is TxStatus.MEMPOOL
    assert reader.blocks([node.chain.newest]) == {}
    with pytest.raises(TransientError, match="does not have the solid block"):
        reader.scan(1, node.chain.newest, [PAYEE])


def test_a_token_that_calls_itself_usdt_is_none(node: TronNode, reader: TronReader) -> None:
    (transfer,) = both_ways(node, reader, call(node, token_log(FAKE, PAYER, PAYEE, 5)))
    assert (transfer.asset, transfer.contract, transfer.units) == (None, FAKE, 5)


def test_a_transfer_of_nothing_is_told_as_such(node: TronNode, reader: TronReader) -> None:
    (transfer,) = both_ways(node, reader, call(node, token_log(TOKEN, PAYER, PAYEE, 0)))
    assert (transfer.asset, transfer.units) == (TOKEN_ASSET, 0)


@pytest.mark.parametrize("result", ["REVERT", "OUT_OF_ENERGY", "OUT_OF_TIME", "TRANSFER_FAILED", "UNKNOWN"])
def test_a_failed_transaction_with_the_right_fields_moved_nothing(
    node: TronNode, reader: TronReader, result: str
) -> None:
    id_ = call(node, token_log(TOKEN, PAYER, PAYEE, 5), result=result)

    def change(path: str, _params: dict[str, Any], answer: Any) -> Any:
        """As if the node kept the logs of what failed, which java-tron doesn't."""
        infos = answer if isinstance(answer, list) else [answer]
        for info in infos:
            if isinstance(info, dict) and info.get("id") == id_:
                info["log"] = [token_log(TOKEN, PAYER, PAYEE, 5)]
        return answer

    node.change = change
    assert both_ways(node, reader, id_) == ()
    assert reader.chain_txs([id_])[id_].status is TxStatus.REVERTED


def test_a_contract_may_pay_many_and_each_has_its_index(node: TronNode, reader: TronReader) -> None:
    logs = (
        token_log(TOKEN, PAYER, PAYEE, 5),
        token_log(FAKE, PAYER, PAYEE, 5),
        token_log(TOKEN, PAYER, PAYER, 9),
        token_log(TOKEN, PAYER, PAYEE, 5),
    )
    calls = (
        internal_call(SPRAY, PAYEE, 0),
        internal_call(SPRAY, PAYEE, 7),
        internal_call(SPRAY, PAYEE, 8, rejected=True),
    )
    value = {"owner_address": PAYER, "contract_address": SPRAY, "data": "f8a8fd6d"}
    id_ = node.chain.send("TriggerSmartContract", value, Outcome(logs=logs, internal=calls))
    found = both_ways(node, reader, id_)
    assert {(t.index, t.asset, t.units) for t in found} == {
        (0, TOKEN_ASSET, 5),
        (1, None, 5),
        (3, TOKEN_ASSET, 5),
        (1_000_002, COIN, 7),
    }


def test_what_has_expired_is_missing_once_the_solid_time_has_passed(node: TronNode, reader: TronReader) -> None:
    node.chain.mine()
    id_ = pay(node, lives_ms=-1_000)  # already the block before the next one is later
    valid_until = reader.chain_txs([id_])[id_].valid_until
    assert valid_until is not None
    node.chain.mine(3)
    assert reader.head().latest.time > valid_until - timedelta(milliseconds=1)
    assert reader.chain_txs([id_])[id_].status is TxStatus.MISSING


def test_a_dropped_payment_is_missing(node: TronNode, reader: TronReader) -> None:
    id_ = pay(node)
    assert reader.chain_txs([id_])[id_].status is TxStatus.MEMPOOL
    node.chain.drop(id_)
    assert reader.chain_txs([id_])[id_].status is TxStatus.MISSING


def test_ids_are_answered_in_the_spelling_that_was_asked(node: TronNode, reader: TronReader) -> None:
    id_ = pay(node)
    node.chain.mine(3)
    asked = [id_, "0x" + id_, id_.upper(), NEVER]
    found = reader.chain_txs(asked)
    assert list(found) == asked and [tx.id for tx in found.values()] == [id_, id_, id_, NEVER]
    with pytest.raises(InvalidRequestError):
        reader.chain_txs(["nonsense"])


# --- nodes that fail -------------------------------------------------------------------------------------------------

READS: dict[str, Callable[[TronReader], Any]] = {
    "head": lambda reader: reader.head(),
    "blocks": lambda reader: reader.blocks([1, 2]),
    "chain_txs": lambda reader: reader.chain_txs([NEVER]),
    "scan": lambda reader: reader.scan(1, 2, [PAYEE]),
}


def told(value: Any, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, json.dumps(value).encode()


GARBAGE: dict[str, Any] = {
    "500": (500, {}, b"oops"),
    "502 page": (502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"),
    "401": told({"Error": f"the key {KEY} is wrong"}, 401),
    "403 of TronGrid": told({"Error": f"class java.lang.RuntimeException : {KEY}: exceed the user daily usage"}, 403),
    "429": told({"Error": "too many requests"}, 429),
    "redirect": (302, {"Location": f"http://127.0.0.1:1/{KEY}"}, b""),
    "page with status 200": (200, {}, b"<html>Maintenance</html>"),
    "empty": (200, {}, b""),
    "not UTF-8": (200, {}, b"\xff\xfe["),
    "a pit of brackets": (200, {}, b"[" * 100_000),
    "a pit of results": (200, {}, b'{"result":' * 900 + b"1" + b"}" * 900),
    "null": told(None),
    "a number": told(7),
    "a string": told(KEY),
    "a list": told([7]),
    "an error": told({"Error": f"class java.lang.NullPointerException : {KEY}"}),
    "busy": told({"Error": "class java.lang.IllegalAccessException : lack of computing resources"}),
    "a code": told({"code": "OTHER_ERROR", "message": KEY.encode().hex()}),
    "another object": told({"result": {"result": False}, "id": 7}),
}


def need_transient(read: Callable[[], Any]) -> TransientError:
    with pytest.raises(TransientError) as caught:
        read()
    whole = "".join(traceback.format_exception(caught.value))
    assert KEY not in whole
    assert "127.0.0.1" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_transient_and_tells_no_key(node: TronNode, reader: TronReader, garbage: str, method: str) -> None:
    def change(path: str, _params: dict[str, Any], answer: Any) -> Any:
        return answer if path == "/wallet/getblockbynum" else GARBAGE[garbage]

    node.change = change
    need_transient(lambda: READS[method](reader))


@pytest.mark.parametrize(
    "path",
    [
        "/walletsolidity/gettransactioninfobyid",
        "/walletsolidity/gettransactionbyid",
        "/wallet/gettransactionfrompending",
        "/wallet/gettransactionbyid",
    ],
)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_at_any_step_is_transient(node: TronNode, reader: TronReader, garbage: str, path: str) -> None:
    id_ = pay(node)
    node.chain.mine(3 if "solidity" in path else 1)
    node.change = lambda asked, _params, answer: GARBAGE[garbage] if asked == path else answer
    need_transient(lambda: reader.chain_txs([id_]))


def test_a_limit_carries_the_nodes_wish(node: TronNode, reader: TronReader) -> None:
    node.change = lambda *_: told({"Error": "slow down"}, 429, **{"Retry-After": "7"})
    assert need_transient(reader.head).retry_after == timedelta(seconds=7)


def test_another_node_is_asked_when_one_fails(node: TronNode) -> None:
    with serving(TronChain(recorded.MAINNET_GENESIS)) as broken, structlog.testing.capture_logs() as logs:
        broken.change = lambda *_: GARBAGE["502 page"]
        assert make_reader(broken.url, node.url).head().latest.number == 3
    assert logs and all(KEY not in str(line) for line in logs)


@pytest.mark.parametrize("genesis", [recorded.NILE_GENESIS, recorded.SHASTA_GENESIS])
def test_a_node_of_a_test_network_is_asked_nothing_else(genesis: str) -> None:
    with serving(TronChain(genesis)) as node:
        node.chain.mine(5)
        for read in READS.values():
            error = need_transient(lambda read=read: read(make_reader(node.url)))  # type: ignore[misc]
            assert f"is a node of tron:{int(genesis[-8:], 16)}, not of {CHAIN}" in str(error)
            assert isinstance(error, WrongChainError)
        assert set(node.paths) == {"/wallet/getblockbynum"}


def test_a_node_that_has_no_first_block_is_not_believed(node: TronNode, reader: TronReader) -> None:
    node.change = lambda path, _params, answer: {} if path == "/wallet/getblockbynum" else answer
    need_transient(reader.head)


# --- nodes that lie or lag -------------------------------------------------------------------------------------------


def test_raw_data_of_another_transaction_is_refused(node: TronNode, reader: TronReader) -> None:
    id_, dear = pay(node), pay(node, units=10**12)
    node.chain.mine(3)

    def change(_path: str, _params: dict[str, Any], answer: Any) -> Any:
        for tx in _transactions(answer):
            if tx["txID"] == id_:
                tx["raw_data_hex"] = node.chain.txs[dear]["raw_data_hex"]
        return answer

    node.change = change
    assert "raw data of another" in str(need_transient(lambda: reader.chain_txs([id_])))
    need_transient(lambda: reader.scan(1, reader.head().latest.number, [PAYEE]))


def test_the_amount_is_what_was_signed_whatever_the_node_renders(node: TronNode, reader: TronReader) -> None:
    id_ = pay(node)

    def change(_path: str, _params: dict[str, Any], answer: Any) -> Any:
        for tx in _transactions(answer):
            tx["raw_data"]["contract"][0]["parameter"]["value"]["amount"] = 10**12
        return answer

    node.change = change
    assert [t.units for t in both_ways(node, reader, id_)] == [5]


def _transactions(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, dict):
        return []
    blocks = answer.get("block", [answer])
    return [answer] if "txID" in answer else [tx for block in blocks for tx in block.get("transactions", [])]


LIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another block": ("/walletsolidity/getblock", lambda answer: answer | {"blockID": "00" * 32}),
    "another transaction": (
        "/walletsolidity/gettransactionbyid",
        lambda _: recorded.MAINNET_BLOCK["transactions"][0],
    ),
    "the info of another": ("/walletsolidity/gettransactioninfobyid", lambda answer: answer | {"id": NEVER}),
    "another time": ("/walletsolidity/gettransactioninfobyid", lambda answer: answer | {"blockTimeStamp": 7}),
    "a success that failed": ("/walletsolidity/gettransactioninfobyid", lambda answer: answer | {"result": "FAILED"}),
    "an amount as text": ("/walletsolidity/gettransactioninfobyid", lambda answer: answer | {"blockNumber": "6"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_contradicts_itself_is_refused(node: TronNode, reader: TronReader, lie: str) -> None:
    id_ = pay(node)
    node.chain.mine(4)
    path, change = LIES[lie]
    node.change = lambda asked, _params, answer: change(answer) if asked == path else answer
    need_transient(lambda: reader.chain_txs([id_]))


def _swapped(answer: Any) -> Any:
    first, second, *rest = answer["block"]
    return answer | {"block": [second, first, *rest]}


def _unlinked(answer: Any) -> Any:
    answer["block"][1]["block_header"]["raw_data"]["parentHash"] = "cd" * 32
    return answer


SCAN_LIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a block less": ("getblockbylimitnext", lambda answer: answer | {"block": answer["block"][:-1]}),
    "a block more": (
        "getblockbylimitnext",
        lambda answer: answer | {"block": [*answer["block"], recorded.MAINNET_BLOCK]},
    ),
    "no blocks": ("getblockbylimitnext", lambda _: {}),
    "two forks": ("getblockbylimitnext", _unlinked),
    "no infos": ("gettransactioninfobyblocknum", lambda _: []),
    "an info less": ("gettransactioninfobyblocknum", lambda answer: answer[:-1]),
    "an info more": ("gettransactioninfobyblocknum", lambda answer: [*answer, recorded.USDT_INFO]),
    "the infos of another block": (
        "gettransactioninfobyblocknum",
        lambda answer: [info | {"blockNumber": 7} for info in answer],
    ),
    "infos as an object": ("gettransactioninfobyblocknum", lambda _: {}),
}


@pytest.mark.parametrize("lie", SCAN_LIES)
def test_a_scan_is_whole_or_fails(node: TronNode, reader: TronReader, lie: str) -> None:
    pay(node), call(node, token_log(TOKEN, PAYER, PAYEE, 5))
    node.chain.mine(3)
    method, change = SCAN_LIES[lie]
    assert len(reader.scan(1, 6, [PAYEE]).transfers) == 2
    node.change = lambda path, _params, answer: change(answer) if path.endswith(method) else answer
    need_transient(lambda: reader.scan(1, 6, [PAYEE]))


def test_the_order_in_which_blocks_are_told_is_nothing(node: TronNode, reader: TronReader) -> None:
    node.change = lambda path, _params, answer: _swapped(answer) if path.endswith("limitnext") else answer
    assert [block.number for block in reader.scan(1, 3, [PAYEE]).blocks] == [1, 2, 3]


def test_a_range_that_is_refused_is_asked_in_halves(node: TronNode, reader: TronReader) -> None:
    id_ = pay(node)
    node.chain.mine(60)

    def change(path: str, params: dict[str, Any], answer: Any) -> Any:
        too_long = path.endswith("limitnext") and params["endNum"] - params["startNum"] > 3
        return told({"Error": "the answer would be too large"}) if too_long else answer

    node.change = change
    scan = reader.scan(1, 60, [PAYEE])
    assert [block.number for block in scan.blocks] == list(range(1, 61))
    assert [transfer.chain_tx for transfer in scan.transfers] == [id_]


def test_a_solid_head_that_stands_still_is_told_as_it_is(node: TronNode, reader: TronReader) -> None:
    """Whoever waits for the chain's clock sees that it stands: nothing is final, and nothing has expired."""
    node.chain.stands_at = 3
    id_ = pay(node)
    node.chain.mine(20)
    assert reader.head().latest.number == reader.head().finalized == 3
    assert reader.chain_txs([id_])[id_].status is TxStatus.MEMPOOL


def test_a_machine_behind_a_gateway_that_lags_makes_a_payment_wait(node: TronNode, reader: TronReader) -> None:
    id_ = pay(node)
    node.chain.mine(3)
    node.change = lambda path, _params, answer: {} if path == "/walletsolidity/gettransactionbyid" else answer
    assert reader.chain_txs([id_])[id_].status is TxStatus.MEMPOOL


def test_two_nodes_must_tell_the_same(node: TronNode) -> None:
    id_ = call(node, token_log(TOKEN, PAYER, PAYEE, 5))
    node.chain.mine(3)
    with ExitStack() as stack:
        other = stack.enter_context(serving(node.chain, host="localhost"))
        reader = make_reader(node.url, other.url)
        assert [t.units for t in reader.agreed([id_])[id_].transfers] == [5]

        def change(path: str, _params: dict[str, Any], answer: Any) -> Any:
            if path.endswith("gettransactioninfobyid"):
                answer["log"] = [token_log(TOKEN, PAYER, PAYEE, 10**12)]
            return answer

        other.change = change
        with pytest.raises(DisagreementError):
            reader.agreed([id_])
        other.change = lambda *_: GARBAGE["500"]
        with pytest.raises(TransientError):
            reader.agreed([id_])


def test_a_node_that_lags_is_no_witness_and_no_liar(node: TronNode) -> None:
    before = node.chain.newest
    id_ = call(node, token_log(TOKEN, PAYER, PAYEE, 5))
    node.chain.mine(3)
    with serving(replace(node.chain, stands_at=before), host="localhost") as late:
        for urls in ((node.url, late.url), (late.url, node.url)):
            reader = make_reader(*urls)
            with pytest.raises(TransientError, match="is behind") as caught:
                reader.agreed([id_])
            assert not isinstance(caught.value, DisagreementError)
            assert [each.trouble for each in reader.nodes()] == [None, None]


def test_a_scan_without_addresses_asks_for_no_infos(node: TronNode, reader: TronReader) -> None:
    pay(node)
    node.chain.mine(3)
    assert len(reader.scan(0, 6, []).blocks) == 7
    assert not [path for path in node.paths if path.endswith("infobyblocknum")]


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asset", ["slip44:60", "trc20:nonsense", f"trc20:{TOKEN.lower()}", "trc10:0", "erc20:0x" + "11" * 20]
)
def test_an_asset_that_is_misspelled_is_not_started_with(asset: str) -> None:
    with pytest.raises(PermanentError, match="names neither"):
        make_reader("http://127.0.0.1:1", assets=[f"{CHAIN}/{asset}"])


@pytest.mark.parametrize("chain", ["tron:0x2b6653dc", "tron:mainnet", "tron:", "tron:07"])
def test_a_chain_that_is_not_named_by_its_number_is_not_started_with(chain: str) -> None:
    with pytest.raises(PermanentError, match="728126428"):
        make_reader("http://127.0.0.1:1", chain=chain, assets=[])
    with pytest.raises(PermanentError):
        make_reader()


def test_a_chain_of_solid_blocks_has_no_reorgs() -> None:
    with pytest.raises(PermanentError, match="reorg_depth must be 0"):
        make_reader("http://127.0.0.1:1", reorg_depth=1)
