"""Unlimit's OAuth over core.http: POST /api/auth/token of the SDK's AuthApi, and its DefaultTokenProvider."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import OutcomeUnknownError, TransientError
from core.http import CREDENTIALS_REFUSED, CredentialsRefusedError, HttpClient, RefusedError, Reply
from providers.fiat import decimals
from providers.fiat.credentials import teller
from providers.fiat.settings import UnlimitSettings

TOKEN_SPARE_S = 10.0
"""A token is not used in its last seconds (the SDK's TOKEN_MIN_VALIDITY)."""
UNAUTHORIZED = 401


class UnlimitHttp:
    """Requests with a token, which is got by the terminal's password and kept until it ends."""

    def __init__(self, name: str, settings: UnlimitSettings, answer_timeout: float) -> None:
        # The client itself tells nobody: a token that was forgotten is answered 401 as well.
        self._tell = teller(name)
        self._http = HttpClient(settings.base_url, answer_timeout=answer_timeout)
        self._credentials = {
            "grant_type": "password",
            "terminal_code": settings.reveal("terminal_code"),
            "password": settings.reveal("password"),
        }
        self._lock = threading.Lock()
        self._token = ""
        self._ends = -math.inf

    def read(self, path: str, params: Mapping[str, Any] | None = None) -> Reply:
        """Raises as HttpClient.read."""
        return self._with_token(lambda headers: self._http.read(path, params=params, headers=headers))

    def post(self, path: str, body: str) -> Reply:
        """Raises as HttpClient.send. Without a token nothing was asked of money."""
        return self._with_token(
            lambda headers: self._http.send(
                "POST", path, content=body.encode(), headers={**headers, "Content-Type": "application/json"}
            )
        )

    def _with_token(self, ask: Callable[[Mapping[str, str]], Reply]) -> Reply:
        try:
            return self._renewing(ask)
        except (CredentialsRefusedError, RefusedError) as error:
            if isinstance(error, CredentialsRefusedError) or error.reply.status in CREDENTIALS_REFUSED:
                self._tell(error.reply)
            raise

    def _renewing(self, ask: Callable[[Mapping[str, str]], Reply]) -> Reply:
        """A token that they don't know any more was refused with what it came with: another one may ask again."""
        token = self._current()
        try:
            return ask({"Authorization": f"Bearer {token}"})
        except (CredentialsRefusedError, RefusedError) as error:
            if error.reply.status != UNAUTHORIZED:
                raise
        self._forget(token)
        return ask({"Authorization": f"Bearer {self._current()}"})

    def _current(self) -> str:
        """Raises TransientError: without a token nothing was asked."""
        with self._lock:
            if time.monotonic() >= self._ends:
                asked_at = time.monotonic()
                try:
                    told = self._http.send("POST", "/api/auth/token", form=self._credentials).json()
                except OutcomeUnknownError as error:
                    raise TransientError(str(error)) from None
                except RefusedError as error:
                    # All that was asked is whether they know the password: OAuth says no with 400, too (RFC 6749, 5.2).
                    raise CredentialsRefusedError(str(error), error.reply) from None
                lasts = decimals.field(told, "expires_in")
                if not isinstance(lasts, int):
                    raise decimals.UnreadableError("the provider's answer doesn't say how long its token lasts")
                self._token = decimals.text(told, "access_token")
                self._ends = asked_at + lasts - TOKEN_SPARE_S
            return self._token

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._ends = -math.inf
