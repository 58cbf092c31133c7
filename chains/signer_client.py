"""Asking the signer over HTTP: `chains.signing` has the wire and the contract, docs/signer.md what it answers.

The same request gets the same bytes, so whatever isn't the signer's own no is asked again:

403 with a `code`                     SigningRefusedError
400, 409, 413, 422 with a `code`      PermanentError: a bug of ours, the same next time
everything else                       TransientError: no answer, a wrong token, a fault of the signer's, another server
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from chains.sending import Order, Terms, Version
from chains.signing import SigningRefusedError, order_body, terms_body
from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import HttpClient, RefusedError, Reply, UnclearError

RAW_CHARACTERS_MAX = 1_000_000
"""Half a megabyte signed: no chain here takes as much in one."""
WALLETS_MAX = 1_000
WHY_MAX = 300
_FORBIDDEN = 403
_BUGS = frozenset({400, 409, 413, 422})
_CODE = re.compile(r"[a-z_]{1,40}")
_TOKEN = re.compile(r"[!-~]+")
_CHAIN_TX = re.compile(r"[0-9A-Za-z]{1,128}")
_RAW = re.compile(r"(?:[0-9a-f]{2})+")


class SignerClient:
    """A `chains.signing.Signer`. Safe to use from several threads, not to be taken along into a forked process."""

    def __init__(self, url: str, token: str) -> None:
        """Raises PermanentError: `url` is no address, or `token` nothing that a header can hold."""
        if not _TOKEN.fullmatch(token):
            raise PermanentError("the signer's token is empty, or has other signs than ASCII's")
        self._http = HttpClient(url, headers={"Authorization": f"Bearer {token}"})

    def sign(self, order: Order, number: int, terms: Terms) -> Version:
        body = {"order": order_body(order), "number": number, "terms": terms_body(terms)}
        headers = {"Content-Type": "application/json"}
        try:
            reply = self._http.send("POST", "/v1/sign", content=json.dumps(body).encode(), headers=headers)
        except (RefusedError, UnclearError) as error:
            _judge(error.reply)
        except OutcomeUnknownError as error:
            raise TransientError(str(error)) from None
        answer = _mapping(reply)
        if answer.get("reference") != order.reference or answer.get("number") != number:
            raise TransientError("the signer answered for another version")
        chain_tx, raw = answer.get("chain_tx"), answer.get("raw")
        if not isinstance(chain_tx, str) or not _CHAIN_TX.fullmatch(chain_tx):
            raise TransientError("the signer answered without the id of what it signed")
        if not isinstance(raw, str) or len(raw) > RAW_CHARACTERS_MAX or not _RAW.fullmatch(raw):
            raise TransientError("the signer answered without what it signed in hex")
        return Version(number=number, terms=terms, chain_tx=chain_tx, raw=raw)

    def wallets(self) -> Mapping[str, str]:
        try:
            reply = self._http.read("/v1/wallets")
        except RefusedError as error:
            raise TransientError(str(error)) from None
        rows = _mapping(reply).get("wallets")
        if not isinstance(rows, list) or len(rows) > WALLETS_MAX:
            raise TransientError("the signer answered without its wallets")
        found: dict[str, str] = {}
        for row in rows:
            chain, address = (row.get("chain"), row.get("address")) if isinstance(row, dict) else (None, None)
            if not isinstance(chain, str) or not isinstance(address, str) or chain in found:
                raise TransientError("the signer told wallets that can't be read")
            found[chain] = address
        return found


def _judge(reply: Reply) -> NoReturn:
    """An answer that is no 2xx. Only a document with a code is the signer's own word."""
    try:
        document = _mapping(reply)
    except TransientError:
        document = {}
    code, detail = document.get("code"), document.get("detail")
    said = detail[:WHY_MAX] if isinstance(detail, str) else "it did not say why"
    if isinstance(code, str) and _CODE.fullmatch(code):
        if reply.status == _FORBIDDEN:
            raise SigningRefusedError(code, f"the signer's policy refuses it ({code}): {said}")
        if reply.status in _BUGS:
            raise PermanentError(f"the signer refuses it ({code}): {said}")
    raise TransientError(f"{reply.place} answered {reply.status}")


def _mapping(reply: Reply) -> Mapping[str, Any]:
    try:
        answer = reply.json()
    except OutcomeUnknownError as error:
        raise TransientError(str(error)) from None
    if not isinstance(answer, dict):
        raise TransientError(f"{reply.place} answered {reply.status} with something that is no object")
    return answer
