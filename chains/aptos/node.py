"""One full node's REST API (v1), as far as it is read here. RPC_URLS gives its base, which ends in /v1."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import httpx

from chains.aptos import parse
from chains.aptos.parse import Ledger, Span
from chains.base import Block
from chains.errors import MalformedError, RefusedError
from chains.fields import Json, listing, mapping
from chains.http import HttpEndpoint
from core.errors import TransientError

PAGE_MAX = 100
"""Transactions in one answer: what aptos-core's configuration allows by default (`max_transactions_page_size`)."""

_PRUNED = frozenset({"version_pruned", "block_pruned"})
_NO_CHAIN_TX = frozenset({"transaction_not_found"})
_NO_BLOCK = frozenset({"block_not_found"})
_NO_ACCOUNT = frozenset({"account_not_found", "resource_not_found"})


class PrunedError(RefusedError):
    """The node once knew, and forgot: it keeps only so much of the past."""


class AptosEndpoint(HttpEndpoint):
    """What is not there is None only where the node says so by its error code.

    A 404 of another program in front of it would otherwise make every transaction one that never was.
    """

    def ledger(self) -> Ledger:
        return parse.ledger(self._read(""))

    def span(self, height: int) -> Span | None:
        """The block of this height; None above the head."""
        raw = self._read(f"/blocks/by_height/{height}", {"with_transactions": "false"}, absent=_NO_BLOCK)
        if raw is None:
            return None
        found = parse.span(raw)
        if found.block.number != height:
            raise MalformedError(f"asked for block {height}, told of {found.block.number}")
        return found

    def span_of(self, version: int) -> Span:
        """The block that holds this version."""
        found = parse.span(self._read(f"/blocks/by_version/{version}", {"with_transactions": "false"}))
        if not found.first <= version <= found.last:
            raise MalformedError(f"asked for the block of version {version}, told of {found.first} to {found.last}")
        return found

    def linked(self, span: Span, before: Span | None = None) -> Block:
        """The block, with the hash of the one before as its parent's; empty where the node has pruned that.

        Aptos's blocks name no parent. That both follow each other is proven by their versions.
        """
        number = span.block.number
        if number == 0:
            return span.block
        try:
            before = before or self.span(number - 1)
        except PrunedError:
            return span.block
        if before is None or before.last + 1 != span.first:
            raise MalformedError(f"block {number} begins at version {span.first}, not where {number - 1} ends")
        return replace(span.block, parent_hash=before.block.hash)

    def chain_tx(self, id_: str) -> Json | None:
        raw = self._read(f"/transactions/by_hash/{id_}", absent=_NO_CHAIN_TX)
        return None if raw is None else mapping(raw)

    def page(self, first: int, count: int) -> list[Json]:
        """One transaction at least, and at most as many as asked, from version `first` on, without a gap."""
        raw = listing(self._read("/transactions", {"start": str(first), "limit": str(count)}))
        found = [mapping(one) for one in raw]
        versions = [parse.number_of(one.get("version")) for one in found]
        if not found or len(found) > count or versions != list(range(first, first + len(found))):
            raise MalformedError(f"asked for {count} transactions from version {first}, told of {versions!r:.80}")
        return found

    def sequence_number(self, address: str, version: int | None) -> int:
        """The number of the account's next transaction, after this version (or now). Who has sent none has 0."""
        params = {} if version is None else {"ledger_version": str(version)}
        raw = self._read(f"/accounts/{address}", params, absent=_NO_ACCOUNT)
        return 0 if raw is None else parse.sequence_number(raw)

    def _read(
        self, path: str, params: Mapping[str, str] | None = None, *, absent: Collection[str] = frozenset()
    ) -> Any:
        status, content = self._send("GET", self._base + path, params=params)
        if status < httpx.codes.BAD_REQUEST:
            if content is None:
                raise MalformedError(f"{path} is null")
            return content
        said = content if isinstance(content, dict) else {}
        code = said.get("error_code") if isinstance(said.get("error_code"), str) else None
        if code in absent and status == httpx.codes.NOT_FOUND:
            return None
        if code in _PRUNED or status == httpx.codes.GONE:
            pruned = PrunedError(f"{self.label} no longer has {path}: it has pruned that part of the chain")
            pruned.code = status
            raise pruned
        if code is None:
            # Not Aptos's own form: a proxy, or a URL without /v1.
            raise TransientError(f"{self.label} answered HTTP {status} to {path}, not as an Aptos node does")
        raise self._refused(path, status, f"{said.get('message')} ({code})")
