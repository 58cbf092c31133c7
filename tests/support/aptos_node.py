"""A full node's REST API (v1) over HTTP, with a ledger of the test's own behind it. Says what aptos-core's would."""

import json
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from chains.aptos.objects import long
from local import http_server
from local.http_server import Asked, HttpServer
from tests.support.aptos_ledger import Json, Ledger

Answer = tuple[int, Any]
PAGE_MAX = 100


class AptosNode:
    """Serves `ledger` at `url`. What is said of a path can be changed by `answers`."""

    def __init__(self, ledger: Ledger | None = None, *, page_max: int = PAGE_MAX, host: str = "127.0.0.1") -> None:
        self.ledger = ledger if ledger is not None else Ledger()
        self.page_max = page_max
        self.lock = threading.RLock()
        self.asked: list[str] = []
        self.answers: Callable[[str, Answer], Answer | bytes] = lambda _, answer: answer
        """Path and query, and the true answer -> what is said instead; bytes as they are."""
        self.headers: dict[str, str] = {}
        self._host = host
        self._http = HttpServer(self._told, host=host)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._http.port}/v1"

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stop()

    def mine(self, blocks: int = 1) -> None:
        with self.lock:
            for _ in range(blocks):
                self.ledger.mine()

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        match path.strip("/").split("/")[1:]:
            case []:
                return 200, self._ledger_info()
            case ["blocks", "by_height", height]:
                return self._block(int(height), query)
            case ["blocks", "by_version", version]:
                return self._block_of(int(version), query)
            case ["transactions", *rest]:
                return self._transactions(rest, query)
            case ["accounts", address]:
                at = int(query.get("ledger_version", self.ledger.version))
                return self._at_version(at, lambda: self._account(long(address), at))
        return 404, "not found"

    def _ledger_info(self) -> Json:
        ledger = self.ledger
        return {
            "chain_id": ledger.chain_id,
            "epoch": "1",
            "ledger_version": str(ledger.version),
            "oldest_ledger_version": str(ledger.oldest),
            "ledger_timestamp": ledger.blocks[-1]["block_timestamp"],
            "node_role": "full_node",
            "oldest_block_height": ledger.blocks[0]["block_height"],
            "block_height": ledger.blocks[-1]["block_height"],
            "git_hash": "0000000000000000000000000000000000000000",
        }

    def _block(self, height: int, query: dict[str, str]) -> Answer:
        lowest = int(self.ledger.blocks[0]["block_height"])
        if height > int(self.ledger.blocks[-1]["block_height"]):
            return _missing("block_not_found", f"Block not found by Block height({height})")
        block = self.ledger.blocks[height - lowest] if height >= lowest else None
        if block is None or int(block["first_version"]) < self.ledger.oldest:
            return 410, _error("block_pruned", f"Block({height}) has been pruned")
        first, last = int(block["first_version"]), int(block["last_version"])
        txs: list[Json] | None = None
        if query.get("with_transactions", "").lower() == "true":
            txs = self._from(first, min(self.page_max, last - first + 1))
        return 200, {**block, "transactions": txs}

    def _block_of(self, version: int, query: dict[str, str]) -> Answer:
        def found() -> Json:
            return next(b for b in self.ledger.blocks if int(b["first_version"]) <= version <= int(b["last_version"]))

        status, block = self._at_version(version, found)
        return self._block(int(block["block_height"]), query) if status == 200 else (status, block)

    def _transactions(self, rest: list[str], query: dict[str, str]) -> Answer:
        match rest:
            case ["by_hash", hash_]:
                tx = self.ledger.tx(hash_)
                missing = _missing("transaction_not_found", f"Transaction not found by Transaction hash({hash_})")
                return missing if tx is None else (200, tx)
            case ["by_version", version]:
                return self._at_version(int(version), lambda: self._from(int(version), 1)[0])
            case []:
                limit = min(int(query.get("limit", self.page_max)), self.page_max)
                start = int(query.get("start", max(self.ledger.version - limit + 1, 0)))
                return self._at_version(start, lambda: self._from(start, limit))
        return 404, "not found"

    def _from(self, version: int, count: int) -> list[Json]:
        begin = version - self.ledger.base
        return self.ledger.txs[begin : begin + count]

    def _account(self, address: str, version: int) -> Json:
        return {"sequence_number": str(self.ledger.sequence_number(address, version)), "authentication_key": address}

    def _at_version(self, version: int, read: Callable[[], Any]) -> Answer:
        if version > self.ledger.version:
            return _missing("version_not_found", f"Ledger version not found by Ledger version({version})")
        if version < self.ledger.oldest:
            return 410, _error("version_pruned", f"Ledger version({version}) has been pruned")
        return 200, read()

    def _told(self, asked: Asked) -> http_server.Answer:
        parts = urlsplit(asked.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self.lock:
            self.asked.append(asked.path)
            said = self.answers(asked.path, self.answer(parts.path, query))
        status, content = (200, said) if isinstance(said, bytes) else said
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = self.headers | {"X-Aptos-Chain-Id": str(self.ledger.chain_id)}
        return http_server.Answer(status, body, headers)


def _missing(code: str, message: str) -> Answer:
    return 404, _error(code, message)


def _error(code: str, message: str) -> Json:
    return {"message": message, "error_code": code, "vm_error_code": None}
