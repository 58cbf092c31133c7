"""Refusals of callers and of repeated requests. Each leaves everything as it was.

TallyrailError
|- CredentialError          no valid key: wrong, expired or revoked
InvalidRequestError
|- KeyReusedError           one idempotency key, two different requests
ConflictError
`- RequestInProgressError   the same request is being carried out right now
"""

from core.errors import ConflictError, InvalidRequestError, TallyrailError


class CredentialError(TallyrailError):
    """The API key proves nothing. The message never says whose key it is or was."""


class KeyReusedError(InvalidRequestError):
    """The idempotency key stands for another request for ever."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was used for another request", field="key")
        self.key = key


class RequestInProgressError(ConflictError):
    """A request under the same key has not ended yet; its answer is the answer to this one, too."""
