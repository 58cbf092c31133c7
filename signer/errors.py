"""What the signer says no with. Each has a `code`, for programs; docs/signer.md lists them."""

from core.errors import PermanentError


class RefusedError(Exception):
    """The policy doesn't allow it. Nothing was signed for this request."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class ContradictionError(Exception):
    """It doesn't go together with what was signed before. Nothing was signed for this request."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class BootError(PermanentError):
    """A file of the signer's is missing or not as it must be: it doesn't start. The words hold no secret."""
