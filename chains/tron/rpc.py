"""Asking a java-tron node, or a vendor's, over HTTP: tronpy's client on a transport that is bounded in time and size.

tronpy's own transport is not used: against TronGrid it sends one of six strangers' API keys unless told otherwise, on a
refusal prints the node's words and asks again without end, drops a key from a URL's path, follows redirects, reads
answers of any size for any time, and raises errors that hold the URL. ADR 14.
"""

from collections.abc import Callable
from typing import Any

import httpx
from tronpy import Tron  # type: ignore[import-untyped]
from tronpy.exceptions import (  # type: ignore[import-untyped]
    ApiError,
    BugInJavaTron,
    NotFound,
    TransactionError,
    UnknownError,
    ValidationError,
)
from tronpy.providers import HTTPProvider  # type: ignore[import-untyped]

from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, text, whole
from chains.http import HttpEndpoint
from chains.tron.formats import raw_address
from config.assets import Node
from core.errors import TransientError

_BUSY = "lack of computing resources"
"""What java-tron's own rate limiter says, with HTTP 200 (RateLimiterServlet)."""

_THEIRS = (ApiError, BugInJavaTron, TransactionError, UnknownError, ValidationError, ValueError, RecursionError)
"""What tronpy makes of an answer that it takes for an error."""


class _Provider(HTTPProvider):  # type: ignore[misc]
    """tronpy's place for a transport: its paths and parameters go out as ours, and nothing of it is set up."""

    def __init__(self, call: Callable[[str, Json], Any]) -> None:
        self._call = call

    def make_request(self, method: str, params: Any = None) -> Json:
        answer = self._call(method, params or {})
        if not isinstance(answer, dict):
            raise MalformedError(f"a {type(answer).__name__} is not an object")
        return answer


class TronEndpoint(HttpEndpoint):
    """One node with both of java-tron's interfaces, `/wallet` and `/walletsolidity`, behind one URL."""

    def __init__(
        self, node: Node, *, connect_timeout: float = CONNECT_TIMEOUT_S, read_timeout: float = READ_TIMEOUT_S
    ) -> None:
        super().__init__(node, connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._tron = Tron(_Provider(self.call))

    def call(self, path: str, params: Json) -> Any:
        """The answer to this path. Java-tron tells most errors with HTTP 200 and an object with `Error`."""
        answer = self.post("/" + path, params)
        if isinstance(answer, dict) and (told := answer.get("Error") or answer.get("error")):
            raise self._told(path, str(told), None)
        return answer

    def genesis(self) -> Json:
        """The first block: its id names the chain."""
        found = self._found(self._tron.get_block, 0)
        if found is None:
            raise TransientError(f"{self.label} does not have the first block of its chain")
        return found

    def solid_head(self) -> Json:
        """The header of the newest solid block; tronpy only has the whole block, which is a megabyte."""
        return _object(self.call("walletsolidity/getblock", {"detail": False}))

    def solid_header(self, number: int) -> Json | None:
        """None where there is no such block, or it is not solid."""
        return _object(self.call("walletsolidity/getblock", {"id_or_num": str(number), "detail": False})) or None

    def solid_blocks(self, first: int, last: int) -> Json:
        return _object(self.call("walletsolidity/getblockbylimitnext", {"startNum": first, "endNum": last + 1}))

    def solid_infos(self, number: int) -> Any:
        """What became of each transaction of a block, with the logs."""
        return self.call("walletsolidity/gettransactioninfobyblocknum", {"num": number})

    def solid_info(self, id_: str) -> Json | None:
        """What became of the transaction, if it is in a solid block."""
        return self._found(self._tron.get_solid_transaction_info, id_)

    def solid_transaction(self, id_: str) -> Json | None:
        return _object(self.call("walletsolidity/gettransactionbyid", {"value": id_})) or None

    def seen_transaction(self, id_: str) -> Json | None:
        """In the node's pool, or in a block that need not be solid. The pool first: it goes from there to the block."""
        pending = _object(self.call("wallet/gettransactionfrompending", {"value": id_}))
        return pending or self._found(self._tron.get_transaction, id_)

    def account(self, address: str) -> Json | None:
        """As the newest block has it. Of an address that has never had anything there is none."""
        return _object(self.call("wallet/getaccount", {"address": raw_address("", address).hex()})) or None

    def parameters(self) -> dict[str, int]:
        """What the network asks for, in sun, by java-tron's names. One that is 0 has no value."""
        rows = listing(_object(self.call("wallet/getchainparameters", {})).get("chainParameter"))
        return {text(mapping(row).get("key")): whole(row.get("value", 0)) for row in rows if mapping(row).get("key")}

    def tried(self, owner: str, contract: str, function: str, parameter: bytes) -> Json:
        """What a call of a contract would come to on the newest block, by whoever it is; nothing is signed.

        `function` as its selector is made of: `balanceOf(address)`. Not every vendor's node takes the bytes of a call.
        """
        names = {"owner_address": owner, "contract_address": contract}
        asked = {name: raw_address("", address).hex() for name, address in names.items()}
        asked |= {"function_selector": function, "parameter": parameter.hex()}
        return _object(self.call("wallet/triggerconstantcontract", asked))

    def give(self, transaction: str) -> Json:
        """A signed transaction, in hex. The answer says `result`, or a `code` and a `message`."""
        return _object(self.call("wallet/broadcasthex", {"transaction": transaction}))

    def _found(self, ask: Callable[[Any], Any], what: object) -> Json | None:
        try:
            return _object(ask(what))
        except NotFound:
            return None
        except MalformedError:
            raise
        except _THEIRS as error:
            failure = self.struck(str(error))[:200]
        raise TransientError(f"{self.label} answered {what} with an error: {failure}")

    def _json(self, answer: tuple[int, Any], path: str) -> Any:
        status, content = answer
        if status < httpx.codes.BAD_REQUEST:
            return content
        told = content.get("Error") or content.get("message") if isinstance(content, dict) else content
        raise self._told(path, str(told), status)

    def _told(self, path: str, message: str, status: int | None) -> TransientError:
        if status == httpx.codes.FORBIDDEN or _BUSY in message:  # TronGrid's way to tell of a limit, and java-tron's
            return TransientError(f"{self.label} refused {path}: {self.struck(message)[:200]} ({status})")
        return self._refused(path, status, message)


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise MalformedError(f"a {type(value).__name__} is not an object")
    return value
