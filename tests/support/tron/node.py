"""A double of java-tron: a chain in memory that answers in the wire format of its HTTP interface.

Blocks, ids and raw data are real (wire.py); execution is not: a token's `transfer` writes its log, everything else does
what the test says it does. Shapes: java-tron's http servlets; that they are right is shown by tronpy's own client
(tests/integration/test_tron_wire.py) and by real answers (recorded.py).
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from chains.tron import formats
from local.http_server import Answer, Asked, HttpServer
from tests.support.tron import paying, wire

TRANSFER = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
WITNESS = "4178c842ee63b253f8f0d2955bbc582c661a078c9d"
CALL_TRANSFER = "a9059cbb"

Reply = tuple[int, dict[str, str], bytes]
Change = Callable[[str, dict[str, Any], Any], Any]


@dataclass(frozen=True)
class Outcome:
    """What comes of a transaction when a block takes it."""

    result: str = "SUCCESS"
    logs: tuple[dict[str, Any], ...] = ()
    internal: tuple[dict[str, Any], ...] = ()


def hex_of(address: str) -> str:
    return formats.raw_address("", address).hex()


def token_log(token: str, sender: str, recipient: str, units: int) -> dict[str, Any]:
    """What a TRC-20 contract writes: addresses have 20 bytes there, without 41."""
    topics = [TRANSFER, *(hex_of(address)[2:].rjust(64, "0") for address in (sender, recipient))]
    return {"address": hex_of(token)[2:], "topics": topics, "data": f"{units:064x}"}


def internal_call(caller: str, recipient: str, units: int, **more: Any) -> dict[str, Any]:
    """What a contract passes on in TRX, as a node with vm.saveInternalTx records it."""
    return {
        "hash": hashlib.sha256(f"{caller}{recipient}{units}".encode()).hexdigest(),
        "caller_address": hex_of(caller),
        "transferTo_address": hex_of(recipient),
        "callValueInfo": [{"callValue": units} if units else {}],
        "note": b"call".hex(),
        **more,
    }


@dataclass
class TronChain:
    """Blocks, a pool, and how far behind the newest block the solid one is."""

    genesis_id: str
    solid_lag: int = 2
    stands_at: int | None = None
    """If set, the solid head comes no further."""
    blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    txs: dict[str, dict[str, Any]] = field(default_factory=dict)
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)
    pool: dict[str, Outcome] = field(default_factory=dict)
    accounts: paying.Accounts = field(default_factory=paying.Accounts)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.blocks[0] = {
            "blockID": self.genesis_id,
            "block_header": {
                "raw_data": {"txTrieRoot": "00" * 32, "parentHash": "e5" * 32, "witness_address": WITNESS}
            },
        }

    # Acting

    @property
    def newest(self) -> int:
        return max(self.blocks)

    @property
    def solid(self) -> int:
        lagging = max(0, self.newest - self.solid_lag)
        return lagging if self.stands_at is None else min(self.stands_at, lagging)

    def send(
        self,
        kind: str,
        value: dict[str, Any],
        outcome: Outcome | None = None,
        *,
        memo: bytes = b"",
        lives_ms: int = 60_000,
    ) -> str:
        """A transaction into the pool. Addresses in `value` are base58. Without an outcome: what java-tron would do."""
        now = time.time_ns() // 1_000_000
        held = {"value": wire.changed(value, hex_of), "type_url": f"type.googleapis.com/protocol.{kind}"}
        with self.lock:
            reference = self.blocks[self.newest]["blockID"]
            raw: dict[str, Any] = {
                "contract": [{"parameter": held, "type": kind}],
                "ref_block_bytes": reference[12:16],
                "ref_block_hash": reference[16:32],
                "expiration": now + lives_ms,
                "timestamp": now + len(self.txs),  # no two are alike
            }
            if memo:
                raw["data"] = memo.hex()
            if kind == "TriggerSmartContract":
                raw["fee_limit"] = 100_000_000
            return self.accept(raw, outcome)

    def accept(self, raw: dict[str, Any], outcome: Outcome | None = None) -> str:
        content = wire.raw_data(raw)
        id_ = hashlib.sha256(content).hexdigest()
        with self.lock:
            self.txs[id_] = {"signature": ["00" * 65], "txID": id_, "raw_data": raw, "raw_data_hex": content.hex()}
            self.pool[id_] = _usual(raw) if outcome is None else outcome
        return id_

    def drop(self, id_: str) -> None:
        with self.lock:
            del self.pool[id_], self.txs[id_]

    def mine(self, blocks: int = 1, *, after_ms: int | None = None) -> None:
        """`after_ms`: so long after the one before it, by its time; None: now."""
        with self.lock:
            for _ in range(blocks):
                self._mine(after_ms)

    def time_of(self, number: int) -> int:
        """Milliseconds since 1970."""
        return int(self.blocks[number]["block_header"]["raw_data"].get("timestamp", 0))

    def put(self, block: dict[str, Any], infos: Sequence[dict[str, Any]]) -> None:
        """A recorded block with what became of its transactions. Others between it and the last are missing."""
        with self.lock:
            number = block["block_header"]["raw_data"]["number"]
            self.blocks[number] = {"blockID": block["blockID"], "block_header": block["block_header"], "ids": []}
            for tx, info in zip(block.get("transactions", []), infos, strict=True):
                self.txs[tx["txID"]], self.infos[tx["txID"]] = tx, info
                self.blocks[number]["ids"].append(tx["txID"])

    def _mine(self, after_ms: int | None) -> None:
        parent, number, before = self.blocks[self.newest], self.newest + 1, self.time_of(self.newest)
        now = time.time_ns() // 1_000_000
        stamp = max(now, before + 1) if after_ms is None else before + after_ms
        header = {
            "number": number,
            "txTrieRoot": "00" * 32,
            "witness_address": WITNESS,
            "parentHash": parent["blockID"],
            "version": 31,
            "timestamp": stamp,
        }
        # What has expired by the block before this one is never in any (java-tron's Manager.validateCommon).
        taken = {id_: outcome for id_, outcome in self.pool.items() if self._expiry(id_) > before}
        if taken:
            header["txTrieRoot"] = hashlib.sha256("".join(taken).encode()).hexdigest()
        for id_ in self.pool.keys() - taken:
            del self.txs[id_]
        self.pool.clear()
        self.blocks[number] = {
            "blockID": wire.block_id(header),
            "block_header": {"raw_data": header, "witness_signature": "00" * 65},
            "ids": list(taken),
        }
        for id_, planned in taken.items():
            done, costs = (
                self.accounts.run(id_, self.txs[id_]["raw_data"]) if id_ in self.accounts.sizes else (True, {})
            )
            outcome = planned if done else Outcome("OUT_OF_ENERGY" if planned.result == "SUCCESS" else planned.result)
            self.txs[id_] = {"ret": [{"contractRet": outcome.result}], **self.txs[id_]}
            made = self._info(id_, outcome, number, stamp)
            self.infos[id_] = made | costs | {"receipt": made["receipt"] | costs.get("receipt", {})}

    def _expiry(self, id_: str) -> int:
        return int(self.txs[id_]["raw_data"]["expiration"])

    def _info(self, id_: str, outcome: Outcome, number: int, stamp: int) -> dict[str, Any]:
        made: dict[str, Any] = {"id": id_, "blockNumber": number, "blockTimeStamp": stamp, "contractResult": [""]}
        contract = self.txs[id_]["raw_data"]["contract"][0]
        if contract["type"] == "TriggerSmartContract":
            made["contract_address"] = contract["parameter"]["value"]["contract_address"]
            made["receipt"] = {"energy_usage_total": 29650, "net_usage": 345, "result": outcome.result}
        else:
            made["receipt"] = {"net_usage": 265}
        if outcome.result != "SUCCESS":
            made |= {"result": "FAILED", "resMessage": outcome.result.encode().hex()}
        elif outcome.logs:
            made["log"] = list(outcome.logs)
        if outcome.internal:
            made["internal_transactions"] = list(outcome.internal)
        return made

    # Answering

    token_log = staticmethod(token_log)

    def answer(self, path: str, params: dict[str, Any]) -> Any:
        interface, _, method = path.strip("/").partition("/")
        if interface not in ("wallet", "walletsolidity"):
            return None
        with self.lock:
            return deepcopy(
                _METHODS[method](self, params, self.solid if interface == "walletsolidity" else self.newest)
            )

    def block(self, number: int, upto: int, *, detail: bool = True, visible: bool = False) -> dict[str, Any]:
        if number > upto or number not in self.blocks:
            return {}
        held = self.blocks[number]
        made = {name: value for name, value in held.items() if name != "ids"}
        if detail and held.get("ids"):
            made["transactions"] = [_shown(self.txs[id_], visible=visible) for id_ in held["ids"]]
        return made

    def in_block(self, id_: str, upto: int) -> bool:
        info = self.infos.get(id_)
        return info is not None and info["blockNumber"] <= upto


def _usual(raw: dict[str, Any]) -> Outcome:
    contract = raw["contract"][0]
    value = contract["parameter"]["value"]
    if contract["type"] != "TriggerSmartContract" or not value.get("data", "").startswith(CALL_TRANSFER):
        return Outcome()
    token, sender, data = value["contract_address"], value["owner_address"], value["data"]
    recipient = "41" + data[8 + 24 : 8 + 64]
    token, sender, recipient = (formats.spelled(bytes.fromhex(text)) for text in (token, sender, recipient))
    return Outcome(logs=(token_log(token, sender, recipient, int(data[8 + 64 :], 16)),))


def _shown(tx: dict[str, Any], *, visible: bool) -> dict[str, Any]:
    if not visible:
        return tx
    shown = deepcopy(tx)
    for contract in shown["raw_data"]["contract"]:
        held = contract["parameter"]
        held["value"] = wire.changed(held["value"], lambda text: formats.spelled(bytes.fromhex(text)))
    return shown


def _shown_info(info: dict[str, Any], *, visible: bool) -> dict[str, Any]:
    if not visible:
        return info
    shown = wire.changed(deepcopy(info), lambda text: formats.spelled(bytes.fromhex(text)))
    shown["internal_transactions"] = [
        wire.changed(call, lambda text: formats.spelled(bytes.fromhex(text)))
        for call in info.get("internal_transactions", [])
    ]
    for log in shown.get("log", []):
        log["address"] = formats.spelled(bytes.fromhex("41" + log["address"]))
    return shown


def _get_block(chain: TronChain, params: dict[str, Any], upto: int) -> Any:
    asked = params.get("id_or_num", "")
    number = int(asked) if asked else upto
    return chain.block(number, upto, detail=params.get("detail", False), visible=params.get("visible", False))


def _get_block_by_num(chain: TronChain, params: dict[str, Any], upto: int) -> Any:
    return chain.block(params.get("num", 0), upto, visible=params.get("visible", False))


def _get_block_by_limit_next(chain: TronChain, params: dict[str, Any], upto: int) -> Any:
    first, end = params.get("startNum", 0), params["endNum"]
    if not 0 < end - first <= 100:
        return {}
    found = [chain.block(number, upto, visible=params.get("visible", False)) for number in range(first, end)]
    return {"block": [block for block in found if block]} if any(found) else {}


def _get_infos(chain: TronChain, params: dict[str, Any], upto: int) -> Any:
    if params["num"] <= 0:
        return {}
    held = chain.blocks.get(params["num"], {}) if params["num"] <= upto else {}
    return [_shown_info(chain.infos[id_], visible=params.get("visible", False)) for id_ in held.get("ids", [])]


def _get_info(chain: TronChain, params: dict[str, Any], upto: int) -> Any:
    if not chain.in_block(params["value"], upto):
        return {}
    return _shown_info(chain.infos[params["value"]], visible=params.get("visible", False))


def _get_transaction(chain: TronChain, params: dict[str, Any], upto: int) -> Any:
    if not chain.in_block(params["value"], upto):
        return {}
    return _shown(chain.txs[params["value"]], visible=params.get("visible", False))


def _get_pending(chain: TronChain, params: dict[str, Any], _upto: int) -> Any:
    return chain.txs[params["value"]] if params["value"] in chain.pool else {}


def _get_node_info(chain: TronChain, _params: dict[str, Any], _upto: int) -> Any:
    said = {"block": chain.newest, "solidityBlock": chain.solid}
    return {name: f"Num:{number},ID:{chain.blocks[number]['blockID']}" for name, number in said.items()}


def _get_sign_weight(_chain: TronChain, params: dict[str, Any], _upto: int) -> Any:
    id_ = hashlib.sha256(wire.raw_data(params["raw_data"])).hexdigest()
    owner = params["raw_data"]["contract"][0]["parameter"]["value"]["owner_address"]
    permission = {"permission_name": "owner", "threshold": 1, "keys": [{"address": owner, "weight": 1}]}
    return {
        "result": {"code": "NOT_ENOUGH_PERMISSION"},
        "permission": permission,
        "transaction": {"transaction": {"txID": id_}},
    }


def _broadcast(chain: TronChain, params: dict[str, Any], _upto: int) -> Any:
    if hashlib.sha256(wire.raw_data(params["raw_data"])).hexdigest() != params["txID"] or not params["signature"]:
        return {"code": "SIGERROR", "txid": params["txID"], "message": b"Validate signature error".hex()}
    return {"result": True, "txid": chain.accept(params["raw_data"])}


_METHODS: dict[str, Callable[[TronChain, dict[str, Any], int], Any]] = {
    "getblock": _get_block,
    "getnowblock": lambda chain, params, upto: chain.block(upto, upto, visible=params.get("visible", False)),
    "getblockbynum": _get_block_by_num,
    "getblockbylimitnext": _get_block_by_limit_next,
    "gettransactioninfobyblocknum": _get_infos,
    "gettransactioninfobyid": _get_info,
    "gettransactionbyid": _get_transaction,
    "gettransactionfrompending": _get_pending,
    "getnodeinfo": _get_node_info,
    "getsignweight": _get_sign_weight,
    "broadcasttransaction": _broadcast,
    **paying.METHODS,
}


@dataclass
class TronNode:
    """A chain behind HTTP. `change(path, params, answer)` returns what is told instead: JSON, or a whole Reply."""

    chain: TronChain
    url: str
    change: Change | None = None
    paths: list[str] = field(default_factory=list)

    def reply(self, path: str, params: dict[str, Any]) -> Reply:
        self.paths.append(path)
        answer = self.chain.answer(path, params)
        if self.change is not None:
            answer = self.change(path, params, answer)
        return answer if isinstance(answer, tuple) else (200, {}, json.dumps(answer).encode())


KEY = "SECRETKEY123"
"""In each URL, as vendors have one there."""


@contextmanager
def serving(chain: TronChain, *, host: str = "127.0.0.1") -> Iterator[TronNode]:
    def told(asked: Asked) -> Answer:
        status, headers, content = node.reply(asked.path.removeprefix("/" + KEY), json.loads(asked.body or b"{}"))
        return Answer(status, content, headers)

    with HttpServer(told) as server:
        node = TronNode(chain, f"http://{host}:{server.port}/{KEY}")
        yield node
